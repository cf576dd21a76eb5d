import numpy as np
import pytest
from PIL import Image

from ssns.errors import UserError
from ssns.report import comparison, error_map, label_colors, section_overlay, training_picture
from ssns.report.canvas import CAPTION, GAP, PANEL
from ssns.report.colors import MERGE, SPLIT, SPLIT_AND_MERGE


def test_overlay_of_a_toy_is_exact():
    raw = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    labels = np.array([[0, 1], [2, 0]])
    one, two = label_colors(np.array([1, 2]))[:, :3].astype(float)
    expected = [[[0, 0, 0], np.rint(75 + one / 4)], [np.rint(150 + two / 4), [255, 255, 255]]]
    assert (section_overlay(raw, labels, 0.25) == np.array(expected)).all()


@pytest.mark.parametrize("alpha", [0, 1])
def test_overlay_ends_at_raw_and_at_the_colors(alpha):
    raw = np.arange(6, dtype=np.uint8).reshape(2, 3)
    labels = np.arange(1, 7).reshape(2, 3)
    overlay = section_overlay(raw, labels, alpha)
    assert (overlay == (label_colors(labels)[..., :3] if alpha else raw[..., np.newaxis])).all()


def test_overlay_refuses_what_does_not_fit():
    raw = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(UserError, match=r"raw is \(2, 2\), labels is \(2, 3\)"):
        section_overlay(raw, np.zeros((2, 3), dtype=int))
    with pytest.raises(UserError, match="alpha is 40"):
        section_overlay(raw, np.zeros((2, 2), dtype=int), 40)


def panel(picture, row, column, *, left):
    """Panel of a mosaic whose sections are squares that fill a panel, below a line of text."""
    y = CAPTION + GAP + row * (PANEL + GAP)
    x = left + column * (PANEL + GAP)
    return picture[y : y + PANEL, x : x + PANEL]


@pytest.fixture
def cells():
    """Two sections of raw, and of four neurons side by side (ids 3, 4, 6, 9), each 128 pixels wide."""
    raw = np.full((2, PANEL, PANEL), 100, dtype=np.uint8)
    truth = np.broadcast_to(np.repeat([3, 4, 6, 9], PANEL // 4), raw.shape).copy()
    return raw, truth


def in_color(number):
    """Label ``number`` over raw of 100, away from boundaries."""
    return np.rint(60 + 0.4 * label_colors(np.array([number]))[0, :3]).tolist()


def test_comparison_shows_errors_as_a_change_of_color(cells, tmp_path):
    raw, truth = cells
    segmentation = np.where(truth == 4, 3, truth) + 20  # 3 and 4 are merged ...
    segmentation[1, :200, 256:384] = 5  # ... and a part of 6 is split off
    comparison(raw, truth, segmentation, tmp_path / "c.png", [1], numbers=range(50, 60))
    picture = np.asarray(Image.open(tmp_path / "c.png"))
    assert picture.shape == (CAPTION + GAP + PANEL, CAPTION + 3 * (GAP + PANEL), 3)
    shown, expected, found = (panel(picture, 0, column, left=CAPTION + GAP) for column in range(3))
    assert (shown == 100).all()
    assert [expected[400, x].tolist() for x in (64, 192, 320, 448)] == [in_color(n) for n in (3, 4, 6, 9)]
    assert [found[400, x].tolist() for x in (64, 192, 320, 448)] == [in_color(n) for n in (3, 3, 6, 9)]
    assert found[100, 320].tolist() not in [in_color(n) for n in (3, 4, 6, 9)]
    assert expected[400, 128].tolist() == label_colors(np.array([4]))[0, :3].tolist()  # boundary, full colour
    assert found[400, 128].tolist() == in_color(3)  # no boundary in a merged segment


def test_comparison_of_equals_has_equal_columns(cells, tmp_path):
    raw, truth = cells
    comparison(raw, truth, truth * 7, tmp_path / "c.png")
    picture = np.asarray(Image.open(tmp_path / "c.png"))
    for row in range(2):
        columns = [panel(picture, row, column, left=CAPTION + GAP) for column in (1, 2)]
        assert (columns[0] == columns[1]).all()


def test_error_map_marks_splits_and_merges(cells, tmp_path):
    raw, truth = cells
    segmentation = np.where(truth == 4, 3, truth)  # 3 and 4 are merged; 3 is met first and is as large
    segmentation[1, :200, 256:384] = 5  # a part of 6 is split off
    segmentation[1, 300:, 256:300] = 9  # another part of 6 is given to 9
    error_map(raw, truth, segmentation, tmp_path / "e.png", [1])
    found = panel(np.asarray(Image.open(tmp_path / "e.png")), 0, 0, left=0)

    def marked(color):
        return np.rint(35 + 0.65 * np.array(color)).tolist()

    assert found[400, 64].tolist() == found[400, 350].tolist() == found[400, 448].tolist() == [100, 100, 100]
    assert found[400, 192].tolist() == marked(MERGE)
    assert found[100, 320].tolist() == marked(SPLIT)
    assert found[400, 270].tolist() == marked(SPLIT_AND_MERGE)


@pytest.mark.parametrize("draw", [comparison, error_map])
def test_sections_outside_and_unequal_shapes_are_refused(draw, cells, tmp_path):
    raw, truth = cells
    with pytest.raises(UserError, match=r"sections are \[0, 2\] but there are 2: .* 0 to 1"):
        draw(raw, truth, truth, tmp_path / "x.png", [0, 2])
    with pytest.raises(UserError, match=r"segmentation is \(1, 512, 512\)"):
        draw(raw, truth, truth[:1], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_training_picture_has_channels_z_y_x_in_red_green_blue():
    raw = np.array([[[0, 255]]], dtype=np.uint8)
    target = np.array([[[[1, 0]]], [[[0, 1]]], [[[0, 0]]]], dtype=np.float32)
    prediction = np.array([[[[0.2, 2]]], [[[0.4, -1]]], [[[0.6, 0]]]], dtype=np.float32)
    mask = np.ones(target.shape, dtype=bool)
    mask[2, 0, 0, 1] = False
    picture = training_picture(raw, target, prediction, mask)
    assert picture.shape == (1, 6 + 2 * GAP, 3)
    columns = [picture[0, start : start + 2].tolist() for start in (0, 2 + GAP, 4 + 2 * GAP)]
    assert columns == [
        [[0, 0, 0], [255, 255, 255]],
        [[255, 0, 0], [0, 255, 128]],
        [[51, 102, 153], [255, 0, 0]],
    ]


def test_training_picture_of_one_channel_is_grey():
    patch = np.array([[[0.0, 0.4, 1.0]]])
    picture = training_picture((patch * 255).astype(np.uint8), patch[np.newaxis], patch[np.newaxis])
    assert (picture[0, :3] == picture[0, 3 + GAP : 6 + GAP]).all()
    assert (picture[0, :3] == picture[0, 6 + 2 * GAP :]).all()


@pytest.mark.parametrize(("depth", "shown"), [(1, [0]), (2, [0, 1]), (9, [1, 4, 7]), (18, [3, 9, 15])])
def test_sections_are_spread_over_the_depth(depth, shown):
    raw = np.broadcast_to(np.arange(depth, dtype=np.uint8)[:, np.newaxis, np.newaxis], (depth, 1, 1))
    affinities = np.zeros((3, depth, 1, 1))
    picture = training_picture(raw, affinities, affinities)
    assert picture[:: GAP + 1, 0, 0].tolist() == shown


def test_training_picture_refuses_unequal_shapes():
    with pytest.raises(UserError, match=r"target is \(3, 2, 4, 4\), prediction is \(3, 2, 4, 5\)"):
        training_picture(np.zeros((2, 4, 4)), np.zeros((3, 2, 4, 4)), np.zeros((3, 2, 4, 5)))
    with pytest.raises(UserError, match=r"raw is \(2, 4, 5\)"):
        training_picture(np.zeros((2, 4, 5)), np.zeros((3, 2, 4, 4)), np.zeros((3, 2, 4, 4)))
