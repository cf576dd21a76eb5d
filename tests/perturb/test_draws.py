import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ssns.perturb.draws import CountRange, Range, chance, integers, normal_like, rectangle, uniform


def test_chance_never_at_zero_and_always_at_one():
    generator = torch.Generator().manual_seed(0)
    assert not chance(generator, 0.0, (10_000,)).any()
    assert chance(generator, 1.0, (10_000,)).all()


def test_integers_reach_both_ends():
    drawn = integers(torch.Generator().manual_seed(0), -3, 2, (1000,))
    assert set(drawn.tolist()) == {-3, -2, -1, 0, 1, 2}


def test_uniform_covers_its_range():
    drawn = uniform(torch.Generator().manual_seed(0), -2.0, 6.0, (10_000,))
    assert -2 <= drawn.min() < -1.99
    assert 5.99 < drawn.max() <= 6
    assert float(drawn.mean()) == pytest.approx(2, abs=0.1)


def test_normal_numbers_follow_shape_and_type():
    volume = torch.zeros(3, 40, 50, dtype=torch.float64)
    drawn = normal_like(torch.Generator().manual_seed(0), volume)
    assert (drawn.shape, drawn.dtype) == (volume.shape, torch.float64)
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)


@given(seed=st.integers(0, 1000), shape=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_rectangle_lies_inside_and_has_its_sides(seed, shape):
    slices = rectangle(torch.Generator().manual_seed(seed), shape)
    for part, extent in zip(slices, shape, strict=True):
        assert 0 <= part.start < part.stop <= extent
        assert max(1, int(0.3 * extent)) <= part.stop - part.start <= max(1, int(0.7 * extent))


@pytest.mark.parametrize(("kind", "ends"), [(Range, (2.0, 1.0)), (CountRange, (5, 4))])
def test_reversed_range_is_refused_with_the_fix(kind, ends):
    with pytest.raises(ValidationError, match="swap the two"):
        TypeAdapter(kind).validate_python(ends)


@pytest.mark.parametrize(("kind", "ends"), [(Range, (-0.1, 1.0)), (CountRange, (0, 4))])
def test_range_below_its_least_value_is_refused(kind, ends):
    with pytest.raises(ValidationError, match="greater than or equal"):
        TypeAdapter(kind).validate_python(ends)
