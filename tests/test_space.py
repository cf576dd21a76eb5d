from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.space import Box, ceil_to_multiple, cover, triple

triples = st.tuples(*[st.integers(-4, 8)] * 3)
extents = st.tuples(*[st.integers(0, 6)] * 3)
boxes = st.builds(Box.of_shape, extents, triples)


def voxels(box):
    z, y, x = (range(a, b) for a, b in zip(box.start, box.stop, strict=True))
    return {(k, j, i) for k in z for j in y for i in x}


def test_a_triple_is_three_python_integers():
    assert triple(np.array([1, 2, 3], np.uint8)) == (1, 2, 3)
    assert all(type(value) is int for value in triple(np.array([1, 2, 3])))
    with pytest.raises(ValueError, match="unpack"):
        triple((1, 2))


def test_a_box_knows_its_extent_and_how_it_is_told():
    box = Box((1, 2, 3), (5, 2, 9))
    assert (box.shape, box.size) == ((4, 0, 6), 0)
    assert Box((5, 0, 0), (2, 1, 1)).shape == (0, 1, 1)
    assert str(Box((0, 0, 0), (5, 1024, 7))) == "z 0..5, y 0..1024, x 0..7"


@given(extents, st.tuples(*[st.integers(0, 4)] * 3))
def test_slices_hold_the_voxels_of_a_box(shape, start):
    box = Box.of_shape(shape, start)
    array = np.zeros((12, 12, 12), bool)
    array[box.slices] = True
    assert set(zip(*(axis.tolist() for axis in array.nonzero()), strict=True)) == voxels(box)
    assert box.size == array.sum()


@given(boxes, boxes)
def test_boxes_are_sets_of_voxels(a, b):
    common = voxels(a) & voxels(b)
    assert voxels(a.intersection(b)) == common
    assert a.intersection(b).size == len(common)
    assert a.overlaps(b) == bool(common)
    assert a.contains(b) == (voxels(b) <= voxels(a))
    assert voxels(a) | voxels(b) <= voxels(a.bounding(b))


@given(boxes, boxes)
def test_what_is_left_of_a_box_without_another_is_covered_once(a, b):
    parts = [voxel for part in a.without(b) for voxel in voxels(part)]
    assert len(parts) == len(set(parts))
    assert set(parts) == voxels(a) - voxels(b)


@given(boxes, triples)
def test_moving_and_changing_the_frame_undo_each_other(box, by):
    assert box.shifted(by).relative_to(by) == box
    assert box.shifted(by).shape == box.shape


@given(boxes, extents)
def test_a_halo_grows_both_sides(box, halo):
    grown = box.grown(halo)
    assert grown.contains(box)
    assert grown.grown(triple(-h for h in halo)) == box
    assert [b - a for a, b in zip(grown.start, grown.stop, strict=True)] == [
        b - a + 2 * h for a, b, h in zip(box.start, box.stop, halo, strict=True)
    ]


@given(boxes, st.tuples(*[st.integers(1, 4)] * 3))
def test_parts_cover_bounds_once_and_are_no_larger_than_asked(bounds, shape):
    parts = cover(bounds, shape)
    assert sum(part.size for part in parts) == bounds.size
    assert set().union(*(voxels(part) for part in parts)) == voxels(bounds)
    assert all(n <= m for part in parts for n, m in zip(part.shape, shape, strict=True))


def test_parts_come_in_z_y_x_order():
    starts = [part.start for part in cover(Box((1, 0, 0), (4, 3, 2)), (2, 2, 2))]
    assert starts == [(1, 0, 0), (1, 2, 0), (3, 0, 0), (3, 2, 0)]


@given(st.tuples(*[st.integers(0, 40)] * 3), st.tuples(*[st.integers(1, 17)] * 3))
def test_the_next_multiple_is_the_smallest_that_holds_the_size(size, of):
    multiple = ceil_to_multiple(size, of)
    assert all(n <= m < n + step and m % step == 0 for n, m, step in zip(size, multiple, of, strict=True))
    assert prod(multiple) >= prod(size)
