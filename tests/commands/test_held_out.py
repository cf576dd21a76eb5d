import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.commands.held_out import LEAST_DEPTH, hold_out
from ssns.experiment import Region, region_boxes
from ssns.space import Box

SPANS = st.tuples(st.integers(0, 5), st.integers(2, 12)).map(lambda span: (span[0], span[0] + span[1]))
SECTIONS = st.sets(st.integers(0, 24), min_size=1).map(sorted)
BOUNDS = Box.of_shape((25, 20, 20))


def boxes(*regions):
    return region_boxes(tuple(map(Region.model_validate, regions)), BOUNDS)


@given(SECTIONS, SPANS, SPANS, st.integers(1, 1000))
def test_every_labelled_voxel_is_learned_from_or_held_out_once(sections, y, x, most):
    labelled, validation = hold_out(sections, y, x, most)
    count = np.zeros(BOUNDS.shape, int)
    for box in (*boxes(*labelled), *boxes(validation)):
        count[box.slices] += 1
    expected = np.zeros_like(count)
    expected[sections, y[0] : y[1], x[0] : x[1]] = 1
    np.testing.assert_array_equal(count, expected)


@given(SECTIONS, SPANS, SPANS, st.integers(1, 1000))
def test_held_out_are_a_quarter_in_all_depth_or_as_many_last_sections_as_fit(sections, y, x, most):
    _, validation = hold_out(sections, y, x, most)
    found = boxes(validation)
    size = sum(box.size for box in found)
    held = [z for box in found for z in range(box.start[0], box.stop[0])]
    area = (y[1] - (y[0] + y[1]) // 2) * (x[1] - (x[0] + x[1]) // 2)
    assert size <= most
    assert held == sections[-len(held) :]
    assert {(box.stop[1], box.stop[2]) for box in found} == {(y[1], x[1])}
    if area * min(LEAST_DEPTH, len(sections)) <= most:
        assert size == area * min(len(sections), max(LEAST_DEPTH, most // area))
    if area * len(sections) <= most:
        assert held == sections


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (10**9, "z 0..40, y 50..100, x 50..100"),
        (50 * 50 * 12, "z 28..40, y 50..100, x 50..100"),
        (25 * 25 * 8, "z 32..40, y 75..100, x 75..100"),
    ],
)
def test_depth_is_cut_before_the_area(most, expected):
    _, validation = hold_out(range(40), (0, 100), (0, 100), most)
    (box,) = region_boxes((Region.model_validate(validation),), Box.of_shape((40, 100, 100)))
    assert str(box) == expected
