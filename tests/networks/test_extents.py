import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.networks.extents import Extents, padded_extents, valid_extents
from ssns.space import Box


def triples(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


some_extents = st.builds(Extents, triples(1, 9), triples(1, 5), triples(0, 3))


@given(some_extents, triples(1, 30))
def test_inputs_are_the_smallest_and_multiples_of_the_stride_more(extents, shape):
    above, below = extents.at_least(shape), extents.at_most(shape)
    for size, least, step, up, down in zip(shape, extents.smallest, extents.stride, above, below, strict=True):
        possible = range(least, 99, step)
        assert up == min(n for n in possible if n >= size)
        assert down == max((n for n in possible if n <= size), default=least)


@given(some_extents, triples(1, 30))
def test_only_inputs_are_accepted(extents, shape):
    if extents.at_least(shape) == shape:
        extents.check("patch", shape)
    else:
        with pytest.raises(UserError, match=re.escape(f"take {extents.at_least(shape)}")):
            extents.check("patch", shape)


def test_what_is_seen_is_what_is_predicted_and_its_context():
    extents = Extents(shrink=(1, 2, 3))
    box = Box((0, 10, 20), (5, 30, 50))
    assert extents.predicted(box) == Box((1, 12, 23), (4, 28, 47))
    assert extents.seen(extents.predicted(box)) == box


def test_of_the_papers_networks():
    assert padded_extents(4) == Extents((1, 16, 16), (1, 16, 16))
    assert valid_extents(3) == Extents((29, 214, 214), (1, 27, 27), (14, 106, 106))
    assert valid_extents(3).predicted(Box.of_shape((53, 268, 268))).shape == (25, 56, 56)


@pytest.mark.parametrize(
    ("extents", "told"),
    [
        (padded_extents(4), "multiples of (1, 16, 16), got (18, 150, 160): take (18, 160, 160)"),
        (
            valid_extents(3),
            "(29, 214, 214) plus multiples of (1, 27, 27), got (18, 150, 160): take (29, 214, 214), or a larger one, as"
            " the network predicts (28, 212, 212) voxels less than it sees",
        ),
    ],
)
def test_the_sizes_that_can_be_are_told(extents, told):
    with pytest.raises(UserError) as error:
        extents.check("patch", (18, 150, 160))
    assert str(error.value) == f"patch: wanted extents (z, y, x) that are {told}"
