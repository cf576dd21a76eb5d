import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.networks import Extents
from ssns.prediction.tiling import Overlap, choose_tile, overlapping_tiling
from ssns.space import Box, triple


def triples(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


overlaps = st.builds(
    lambda margin, share, blend, smallest, stride: Overlap(
        margin, triple(map(min, margin, share)), blend, Extents(smallest, stride)
    ),
    *[triples(0, 3)] * 3,
    triples(1, 7),
    triples(1, 3),
)


@given(start=triples(0, 5), extent=triples(1, 12), overlap=overlaps, voxels=st.integers(1, 4000))
def test_tiles_cover_the_box_and_do_not_depend_on_blocks(start, extent, overlap, voxels):
    box = Box.of_shape(extent, start)
    bounds = Box.of_shape((17, 17, 17))
    tile = choose_tile(box, bounds, overlap, voxels)
    tiling = overlapping_tiling(box, bounds, tile, overlap)
    tiles = list(tiling.tiles(box))
    assert len(tiles) == tiling.count(box)
    weights = np.zeros(extent)
    for one in tiles:
        assert all(a % s == 0 for a, s in zip(one.read.start, overlap.extents.stride, strict=True))
        assert overlap.extents.at_least(one.read.shape) == one.read.shape
        for axis, (margin, outer) in enumerate(zip(overlap.margin, overlap.outer, strict=True)):
            low, high = one.keep.start[axis], one.keep.stop[axis]
            assert low - one.read.start[axis] >= min(margin, low + outer)
            assert one.read.stop[axis] - high >= min(margin, 17 - high + outer)
        kept = one.keep.intersection(box)
        weights[kept.relative_to(start).slices] += one.weight(kept)
    assert (weights > 0).all()
    part = Box(box.start, triple(a + (b + 1) // 2 for a, b in zip(start, extent, strict=True)))
    assert [t.read for t in tiling.tiles(part)] == [t.read for t in tiles if t.keep.overlaps(part)]


@given(extent=triples(1, 40), overlap=overlaps, voxels=st.integers(100, 4000))
def test_a_chosen_tile_is_small_enough_and_one_where_one_is_enough(extent, overlap, voxels):
    box = Box.of_shape(extent)
    whole = overlap.context(box, box).shape
    tile = choose_tile(box, box, overlap, voxels)
    moving = zip(overlap.shared, overlap.extents.stride, strict=True)
    smallest = overlap.extents.at_least(shared + stride for shared, stride in moving)
    assert np.prod(tile) <= voxels or tile == triple(map(min, whole, smallest))
    if np.prod(whole) <= voxels:
        assert tile == whole


def test_a_chosen_tile_wastes_little():
    overlap = Overlap((4, 16, 16), (0, 0, 0), (4, 16, 16), Extents((1, 16, 16), (1, 16, 16)))
    box = Box.of_shape((30, 544, 544))
    tile = choose_tile(box, box, overlap, 4_000_000)
    computed = np.prod(tile) * overlapping_tiling(box, box, tile, overlap).count(box)
    assert np.prod(tile) <= 4_000_000
    assert box.size <= computed <= 1.25 * box.size


def test_neighbours_give_way_smoothly_and_faces_do_not_count():
    box = Box.of_shape((1, 1, 38))
    tiling = overlapping_tiling(box, box, (1, 1, 24), Overlap((0, 0, 2), (0, 0, 1), (0, 0, 4), Extents()))
    left, right = list(tiling.tiles(box))
    assert (left.read, left.keep) == (Box((0, 0, -1), (1, 1, 23)), Box((0, 0, 0), (1, 1, 21)))
    assert (right.read, right.keep) == (Box((0, 0, 15), (1, 1, 39)), Box((0, 0, 17), (1, 1, 38)))
    shared = left.keep.intersection(right.keep)
    ours, theirs = left.weight(shared)[0, 0], right.weight(shared)[0, 0]
    assert shared.shape[2] == 4
    np.testing.assert_allclose(ours + theirs, 1, rtol=1e-6)
    assert (left.weight(left.keep)[0, 0, :17] == 1).all()
    np.testing.assert_allclose(ours, np.sin(np.pi / 2 * (np.arange(4)[::-1] + 0.5) / 4) ** 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        ((9, 30, 64), r"^tile: .* multiples of \(1, 16, 16\), got \(9, 30, 64\): take \(9, 32, 64\)"),
        ((9, 64, 32), "^tile: 32 along x leaves no step beside 8 unused .*: take at least 48"),
    ],
)
def test_impossible_tiles_are_refused_with_one_that_works(tile, message):
    overlap = Overlap((4, 8, 8), (0, 0, 0), (0, 8, 8), Extents((1, 16, 16), (1, 16, 16)))
    box = Box.of_shape((9, 100, 100))
    with pytest.raises(UserError, match=message):
        overlapping_tiling(box, box, tile, overlap)
