import pytest

from ssns.blockwise import Markers, MissingBlocksError, blocks
from ssns.space import Box

GRID = blocks(Box.of_shape((1, 2, 8)), (1, 2, 1))


def test_marks_are_found_again_by_the_same_computation(tmp_path):
    first = Markers(tmp_path, {"tile": (1, 2, 3), "raw": "a"})
    for block in GRID[::2]:
        first.mark(block)
    again = Markers(tmp_path, {"raw": "a", "tile": [1, 2, 3]})
    assert [again.done(block) for block in GRID] == [True, False] * 4
    assert again.missing(GRID) == GRID[1::2]


def test_a_changed_setting_starts_anew_and_forgets_the_old_marks(tmp_path):
    old = Markers(tmp_path, {"tile": 1})
    old.mark(GRID[0])
    changed = Markers(tmp_path, {"tile": 2})
    assert changed.missing(GRID) == GRID
    # its data have overwritten those of the first, whose marks may not be believed any more
    assert Markers(tmp_path, {"tile": 1}).missing(GRID) == GRID


def test_a_mark_speaks_only_for_its_own_voxels(tmp_path):
    markers = Markers(tmp_path, {})
    markers.mark(GRID[0])
    other = blocks(Box.of_shape((1, 2, 8)), (1, 2, 4))
    assert other[0].index == GRID[0].index
    assert markers.missing(other) == other


def test_a_hole_is_an_error_that_lists_it(tmp_path):
    markers = Markers(tmp_path, {})
    for block in GRID[1:7]:
        markers.mark(block)
    with pytest.raises(
        MissingBlocksError, match=r"^2 blocks are missing: z 0..1, y 0..2, x 0..1; z .* x 7..8: run"
    ) as e:
        markers.require(GRID)
    assert e.value.blocks == [GRID[0], GRID[7]]
    markers.mark(GRID[0])
    markers.mark(GRID[7])
    markers.require(GRID)


def test_many_holes_are_counted(tmp_path):
    with pytest.raises(MissingBlocksError, match=r"x 4..5; and 3 more: run"):
        Markers(tmp_path, {}).require(GRID)


def test_a_pinned_choice_outlives_the_run_but_not_its_clearing(tmp_path):
    markers = Markers(tmp_path, {})
    markers.mark(GRID[0])
    assert markers.pinned("plan", {"tile": (1, 2)}) == {"tile": [1, 2]}
    assert Markers(tmp_path, {}).pinned("plan", {"tile": (3, 4)}) == {"tile": [1, 2]}
    markers.clear()
    assert markers.missing(GRID) == GRID
    assert markers.pinned("plan", {"tile": (3, 4)}) == {"tile": [3, 4]}


def test_a_torn_write_is_no_choice(tmp_path):
    markers = Markers(tmp_path, {})
    (markers.folder / "plan.json.partial").write_text('{"ti')
    assert markers.pinned("plan", {"tile": 1}) == {"tile": 1}
