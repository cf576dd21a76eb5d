import numpy as np
import pytest
from PIL import Image

from ssns.report import write_picture
from ssns.report.canvas import CAPTION, caption, fit_panel, mosaic, side_caption, to_gray


def picture(height, width):
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_bytes_are_shown_as_they_are():
    raw = np.array([[3, 200]], dtype=np.uint8)
    assert to_gray(raw) is raw


def test_other_types_are_stretched():
    raw = np.linspace(-1000, 3000, 201)
    gray = to_gray(raw)
    assert gray.dtype == np.uint8
    assert (gray[0], gray[100], gray[200]) == (0, 128, 255)
    assert (np.diff(gray.astype(int)) >= 0).all()


def test_constant_raw_is_black():
    assert (to_gray(np.full((2, 2), 7.0)) == 0).all()


def test_small_pictures_repeat_their_pixels():
    small = picture(2, 3)
    large = fit_panel(small, 9)
    assert large.shape == (6, 9, 3)
    assert (large[::3, ::3] == small).all()
    assert (large[2::3, 2::3] == small).all()


def test_large_pictures_are_averaged_over_squares():
    large = np.zeros((5, 6, 3), dtype=np.uint8)
    large[:2, :2] = [[[10, 0, 255]] * 2, [[20, 0, 255]] * 2]
    small = fit_panel(large, 3)
    assert small.shape == (2, 3, 3)
    assert small[0, 0].tolist() == [15, 0, 255]
    assert not small[1:].any()


def test_a_picture_of_the_right_size_is_kept():
    assert (fit_panel(picture(4, 5), 5) == picture(4, 5)).all()


def test_very_flat_pictures_keep_a_row():
    assert fit_panel(picture(1, 100), 50).shape == (1, 50, 3)


@pytest.mark.parametrize("width", [90, 257, 512])
def test_captions_have_the_size_asked_for(width):
    line = caption("section 7", width, color=(255, 0, 0))
    assert line.shape == (CAPTION, width, 3)
    ink = (line != 255).any(axis=2)
    assert ink.any()
    assert not ink[:, [0, -1]].any()  # the text fits
    assert (line[ink][:, 0] == 255).all()  # red on white
    assert side_caption("section 7", width).shape == (width, CAPTION, 3)


def test_mosaic_puts_panels_on_white():
    a, b = np.zeros((2, 2, 3), np.uint8), np.full((2, 1, 3), 9, np.uint8)
    joined = mosaic([[a, b], [a, b]], gap=1)
    assert joined[..., 0].tolist() == [
        [0, 0, 255, 9],
        [0, 0, 255, 9],
        [255, 255, 255, 255],
        [0, 0, 255, 9],
        [0, 0, 255, 9],
    ]


def test_written_pictures_are_read_back(tmp_path):
    write_picture(tmp_path / "a.png", picture(4, 5))
    assert (np.asarray(Image.open(tmp_path / "a.png")) == picture(4, 5)).all()
