import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.report import label_colors

IDS = st.integers(min_value=1, max_value=2**64 - 1)


def test_colors_are_the_recorded_ones():
    # a change of these recolours every picture of every run, so that old and new ones cannot be compared
    assert label_colors(np.array([0, 1, 2, 3])).tolist() == [
        [0, 0, 0, 0],
        [27, 82, 217, 255],
        [122, 178, 44, 255],
        [229, 84, 211, 255],
    ]


def test_colors_are_those_of_hue_saturation_and_value():
    for number in range(1, 100):
        fractions = (number * np.array([0.6180339887498949, 0.7548776662466927, 0.5698402909980532])) % 1
        expected = colorsys.hsv_to_rgb(fractions[0], 0.5 + 0.5 * fractions[1], 0.65 + 0.35 * fractions[2])
        assert label_colors(np.array(number))[:3] == pytest.approx(255 * np.array(expected), abs=0.51)


def test_many_ids_have_as_many_colors():
    colors = label_colors(np.arange(1, 100_001))
    assert len(np.unique(colors, axis=0)) == 100_000


@given(IDS, st.sampled_from([(), (3,), (2, 2)]))
def test_color_depends_on_the_id_alone(number, shape):
    colors = label_colors(np.full(shape, number, dtype=np.uint64))
    assert colors.shape == (*shape, 4)
    assert (colors == label_colors(np.array([7, number], dtype=np.uint64))[1]).all()


@given(IDS)
def test_colors_are_no_greys_and_opaque(number):
    red, green, blue, alpha = label_colors(np.array(number, dtype=np.uint64)).tolist()
    assert alpha == 255
    assert max(red, green, blue) >= 1.9 * min(red, green, blue)


@pytest.mark.parametrize("background", [0, 5])
def test_only_background_is_transparent(background):
    alpha = label_colors(np.arange(8), background=background)[:, 3]
    assert (alpha == np.where(np.arange(8) == background, 0, 255)).all()
