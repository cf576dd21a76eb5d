import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssns.synthetic import noise

SECTIONS = np.arange(3)
GOLDEN = [-0.856762, -0.186882, 1.138446, 2.789385]


def test_white_noise_is_what_it_was():
    """Seeded volumes must not change from one release to the next."""
    found = noise.white(3, np.array([0, 5]), (-1, 2), (1, 2))
    assert found.ravel().tolist() == pytest.approx(GOLDEN, abs=1e-6)


def test_white_noise_is_white():
    found = noise.white(1, SECTIONS, (0, 0), (200, 200)).astype(float)
    assert found.mean() == pytest.approx(0, abs=0.01)
    assert found.var() == pytest.approx(1, abs=0.02)
    for axis in (0, 1, 2):
        ahead = np.moveaxis(found, axis, 0)
        assert (ahead[1:] * ahead[:-1]).mean() == pytest.approx(0, abs=0.02)


@settings(max_examples=20)
@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 30), st.integers(1, 30))
def test_a_window_of_smooth_noise_is_the_noise_there(y, x, height, width):
    whole = noise.smooth(9, SECTIONS, (-20, -20), (70, 70), 1.3)
    window = noise.smooth(9, SECTIONS[1:2], (y, x), (height, width), 1.3)
    assert np.array_equal(window, whole[1:2, y + 20 : y + 20 + height, x + 20 : x + 20 + width])


def test_smooth_noise_has_variance_1():
    assert noise.smooth(2, SECTIONS, (0, 0), (300, 300), 2.0).var() == pytest.approx(1, abs=0.05)


def test_lattice_noise_is_bounded_smooth_and_hits_its_lattice():
    line = np.stack([np.zeros(2001), np.full(2001, 50.0), np.linspace(-500.0, 500.0, 2001)], 1)
    found = noise.lattice(4, line, 100.0)
    assert np.abs(found).max() <= 1
    assert found.std() > 0.1
    # The blend's steepest slope is 15/8 of the height (2 at most) over the spacing.
    assert np.abs(np.diff(found)).max() <= 2 * 1.875 / 100 * 0.5
    assert np.array_equal(found[::10], noise.lattice(4, line[::10], 100.0))


def test_blur_keeps_constants_and_cuts_its_reach():
    image = np.full((2, 30, 40), 5, np.float32)
    assert np.allclose(noise.blur(image, 1.5), 5)
    assert noise.blur(image, 1.5).shape == (2, 30 - 2 * noise.reach(1.5), 40 - 2 * noise.reach(1.5))
