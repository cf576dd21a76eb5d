from heapq import heappop, heappush
from itertools import product

import bioimage_cpp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as components

from ssns.segmentation.flooding import flood, flood_rising, ranks, stretched
from ssns.segmentation.maxima import regional_maxima, squared_distance

SHAPES = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7)


@st.composite
def landscapes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Levels with many equals or few, and seeds."""
    shape, highest = draw(SHAPES), draw(st.sampled_from([1, 4, 65535]))
    levels = draw(arrays(np.uint32, shape, elements=st.integers(0, highest)))
    seeds = draw(arrays(np.uint32, shape, elements=st.sampled_from([0, 0, 0, 0, 1, 2, 7])))
    return levels, seeds


def offsets(axes: int) -> list[tuple[int, ...]]:
    return [each for each in product((-1, 0, 1), repeat=axes) if np.abs(each).sum() == 1]


def flooded(levels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """What `flood` does, by a heap of levels and times of arrival."""
    labels, heap, time = seeds.copy(), [], 0
    for place in zip(*np.nonzero(seeds), strict=True):
        heappush(heap, (levels[place], time := time + 1, place))
    while heap:
        _, _, place = heappop(heap)
        for offset in offsets(levels.ndim):
            near = tuple(np.add(place, offset))
            if all(0 <= at < size for at, size in zip(near, levels.shape, strict=True)) and labels[near] == 0:
                labels[near] = labels[place]
                heappush(heap, (levels[near], time := time + 1, near))
    return labels


@given(landscapes())
def test_flood_takes_the_lowest_and_of_equals_the_first(landscape):
    assert np.array_equal(flood(*landscape), flooded(*landscape))


@given(landscapes())
def test_flood_is_that_of_mahotas(landscape):
    mahotas = pytest.importorskip("mahotas")
    if landscape[1].any():  # Theirs is not defined without a seed.
        assert np.array_equal(flood(*landscape), mahotas.cwatershed(*landscape))


@given(landscapes())
def test_rising_flood_is_that_of_bioimage_cpp(landscape):
    heights, seeds = landscape[0] / np.float32(7), landscape[1]
    wanted = bioimage_cpp.segmentation.watershed(heights, seeds)
    assert np.array_equal(flood_rising(stretched(heights), seeds), wanted)


def test_many_levels_make_no_difference():
    levels = np.random.default_rng(0).integers(0, 1 << 20, (60, 70), dtype=np.uint32)
    seeds = np.where(levels < 1 << 15, levels + 1, 0).astype(np.uint32)
    assert np.array_equal(flood(levels, seeds), flooded(levels, seeds))


@given(arrays(np.uint32, SHAPES, elements=st.one_of(st.integers(0, 9), st.integers(0, 1 << 24))))
def test_ranks_leave_none_out(values):
    wanted = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    assert np.array_equal(ranks(values), wanted)


@given(arrays(np.bool_, SHAPES))
def test_distance_is_exact(inside):
    distance = squared_distance(inside)
    if inside.all():
        assert (distance == distance.flat[0]).all()
    else:
        assert np.array_equal(distance, np.rint(distance_transform_edt(inside) ** 2))


def test_distance_of_wide_rooms_is_exact():
    inside = np.random.default_rng(0).random((2, 150, 130)) < 0.999
    assert np.array_equal(squared_distance(inside), np.rint(distance_transform_edt(inside) ** 2))


@given(arrays(np.int32, SHAPES, elements=st.integers(0, 3)))
def test_regional_maxima_have_no_larger_neighbour(values):
    wanted = np.zeros(values.shape, bool)
    surrounded = np.pad(values, 1, constant_values=-1)
    for height in np.unique(values):
        plateaus, count = components(values == height)
        for name in range(1, count + 1):
            around = np.zeros(surrounded.shape, bool)
            for offset in offsets(values.ndim):
                around |= np.roll(np.pad(plateaus == name, 1), offset, range(values.ndim))
            wanted |= (plateaus == name) & (surrounded[around].max() <= height)
    assert np.array_equal(regional_maxima(values), components(wanted)[0])
