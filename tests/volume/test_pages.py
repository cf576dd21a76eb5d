import pickle

import numpy as np
import pytest
import tifffile
from PIL import Image

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import open_volume

STACK = np.random.default_rng(0).integers(0, 255, (12, 20, 30), dtype=np.uint8)


def save(folder, stack, name="s{}.png", numbers=None):
    folder.mkdir(exist_ok=True)
    for number, page in zip(numbers or range(len(stack)), stack, strict=True):
        Image.fromarray(page).save(folder / name.format(number))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", ["png", "tif", "PNG", "tiff"])
def test_pages_are_stacked_in_natural_order(tmp_path, suffix, dtype):
    stack = STACK.astype(dtype) * (1 if dtype == "uint8" else 200)
    save(tmp_path / "pages", stack, "section{}_of_2015." + suffix)  # 10 comes before 2 in order of letters
    volume = open_volume(tmp_path / "pages")
    assert (volume.shape, volume.dtype, volume.voxel_size_nm) == (stack.shape, dtype, None)
    np.testing.assert_array_equal(volume.read(), stack)
    box = Box((3, 5, 0), (11, 20, 17))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(box), stack[box.slices])


def test_float_pages(tmp_path):
    (tmp_path / "pages").mkdir()
    for z in range(2):
        tifffile.imwrite(tmp_path / "pages" / f"{z}.tif", STACK[z] / np.float32(7), compression="lzw")
    np.testing.assert_array_equal(open_volume(tmp_path / "pages").read(), STACK[:2] / np.float32(7))


def test_jpeg_pages(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 240, 8, dtype=np.uint8), (2, 20, 30))
    save(tmp_path / "pages", smooth, "{}.jpg")
    difference = open_volume(tmp_path / "pages").read().astype(int) - smooth
    assert np.abs(difference).max() <= 4


def test_one_page_is_a_volume_of_one_section(tmp_path):
    save(tmp_path / "pages", STACK[:1])
    np.testing.assert_array_equal(open_volume(tmp_path / "pages").read(), STACK[:1])


def test_palette_pages_are_ids_and_not_colours(tmp_path):
    (tmp_path / "pages").mkdir()
    page = Image.fromarray(STACK[0] % 4, mode=None).convert("P")
    page.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    page.save(tmp_path / "pages" / "0.png")
    np.testing.assert_array_equal(open_volume(tmp_path / "pages").read()[0], STACK[0] % 4)


def test_vast_exports_are_decoded_on_request(tmp_path):
    colours = np.zeros((2, 20, 30, 3), np.uint8)
    colours[0, 1, 2] = (1, 2, 3)
    colours[1, 4, 5] = (255, 255, 255)
    save(tmp_path / "pages", colours)
    ids = open_volume(tmp_path / "pages", rgb_ids=True).read()
    assert ids.dtype == np.uint32
    assert (ids[0, 1, 2], ids[1, 4, 5], ids.astype(int).sum()) == (66051, 16777215, 66051 + 16777215)
    with pytest.raises(UserError, match=r"in colour \(3 samples\): set rgb_ids"):
        open_volume(tmp_path / "pages")


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [([0, 1, 3, 4], "sections 2 are missing between 0 and 4"), ([7, 10, 12, 99], "8 to 9, 11, 13 to 98 are missing")],
)
def test_gaps_in_the_numbering_are_told(tmp_path, numbers, gaps):
    save(tmp_path / "pages", STACK[:4], "animal3_s{:03}.png", numbers)
    with pytest.warns(UserWarning, match=gaps):
        volume = open_volume(tmp_path / "pages")
    np.testing.assert_array_equal(volume.read(), STACK[:4])


def test_names_without_numbers_are_in_order_of_letters(tmp_path):
    save(tmp_path / "pages", STACK[:3], "{}.png", ["c", "a", "b"])
    np.testing.assert_array_equal(open_volume(tmp_path / "pages").read(), STACK[[1, 2, 0]])


@pytest.mark.parametrize("other", ["s001.png", "s1.tif"])
def test_two_pages_of_one_section_are_refused(tmp_path, other):
    save(tmp_path / "pages", STACK[:3])
    Image.fromarray(STACK[0]).save(tmp_path / "pages" / other)
    with pytest.raises(UserError, match=r"s1\.png and .* are one section|.* and s1\.png are one section"):
        open_volume(tmp_path / "pages")


def test_pages_of_different_shape_or_type_are_refused(tmp_path):
    save(tmp_path / "pages", STACK[:3])
    Image.fromarray(STACK[0, :10]).save(tmp_path / "pages" / "s3.png")
    with pytest.raises(UserError, match=r"s3\.png is 10 x 30 uint8 but s0\.png is 20 x 30 uint8"):
        open_volume(tmp_path / "pages")
    Image.fromarray(STACK[0].astype(np.uint16)).save(tmp_path / "pages" / "s3.png")
    with pytest.raises(UserError, match=r"s3\.png is 20 x 30 uint16"):
        open_volume(tmp_path / "pages")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_page_is_named_when_it_is_read(tmp_path, suffix):
    save(tmp_path / "pages", STACK[:3], "s{}." + suffix)
    file = tmp_path / "pages" / f"s1.{suffix}"
    file.write_bytes(file.read_bytes()[:-100])
    volume = open_volume(tmp_path / "pages")
    np.testing.assert_array_equal(volume.read(Box((2, 0, 0), (3, 20, 30))).shape, (1, 20, 30))
    with pytest.raises(UserError, match=rf"s1\.{suffix} cannot be read .*truncated.*copy it again"):
        volume.read()


def test_a_truncated_tiff_page_is_refused(tmp_path):
    save(tmp_path / "pages", STACK[:3], "s{}.tif")
    file = tmp_path / "pages" / "s1.tif"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"s1\.tif cannot be (read|opened)"):
        open_volume(tmp_path / "pages").read()


def test_a_page_that_is_another_format_is_refused(tmp_path):
    save(tmp_path / "pages", STACK[:2])
    (tmp_path / "pages" / "s1.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"s1\.png cannot be opened as png"):
        open_volume(tmp_path / "pages")


def test_stacks_among_the_pages_are_refused(tmp_path):
    (tmp_path / "pages").mkdir()
    tifffile.imwrite(tmp_path / "pages" / "a.tif", STACK)
    with pytest.raises(UserError, match="holds 12 pages: a folder wants one per file"):
        open_volume(tmp_path / "pages")


def test_a_folder_without_pages_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"neither a Zarr nor a folder of pages"):
        open_volume(tmp_path)
