import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssns.space import Box
from ssns.volume import from_array, levelling
from ssns.volume.levelling import levelled

RAW = np.random.default_rng(0).integers(1, 256, (3, 24, 32)).astype(np.uint8)


def test_each_section_has_one_mean_and_deviation():
    sections = levelled(from_array(RAW)).read()
    assert sections.dtype == np.float32
    np.testing.assert_allclose(sections.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(sections.std((1, 2)), 1, rtol=1e-6)


@given(
    arrays(np.float64, (2, 3, 5), elements=st.floats(1, 200)),
    arrays(np.float64, 2, elements=st.floats(0.25, 4)),
    arrays(np.float64, 2, elements=st.floats(-50, 50)),
)
def test_brightness_and_contrast_of_a_section_make_no_difference(raw, contrast, brightness):
    raw[:, 0, :2] = 0, 200  # all sections have some contrast
    changed = raw * contrast[:, None, None] + brightness[:, None, None]
    wanted = levelled(from_array(raw)).read()
    np.testing.assert_allclose(levelled(from_array(changed)).read(), wanted, atol=1e-4)


def test_a_box_is_cut_from_the_whole():
    box = Box((1, 5, 7), (3, 20, 9))
    np.testing.assert_array_equal(levelled(from_array(RAW)).read(box), levelled(from_array(RAW)).read()[box.slices])


def test_padding_and_nan_do_not_count():
    padded = RAW.copy()
    padded[:, :, :10] = 0
    wanted = levelled(from_array(RAW[:, :, 10:])).read()
    np.testing.assert_array_equal(levelled(from_array(padded)).read()[:, :, 10:], wanted)
    missing = RAW.astype(np.float32)
    missing[:, :, :10] = np.nan
    np.testing.assert_allclose(levelled(from_array(missing)).read()[:, :, 10:], wanted, atol=1e-6)


@pytest.mark.parametrize("value", [0, 7])
def test_a_section_of_one_intensity_is_zero(value):
    assert not levelled(from_array(np.full((1, 4, 4), value, np.uint8))).read().any()


@pytest.mark.parametrize("shape", [(2, 40, 50), (2, 7, 90)])
def test_of_a_large_section_windows_all_over_it_are_looked_at(shape, monkeypatch):
    monkeypatch.setattr(levelling, "WHOLE_SECTION", 10)
    monkeypatch.setattr(levelling, "WINDOW", 8)
    raw = np.random.default_rng(1).integers(1, 256, shape).astype(np.uint8)
    ends = [np.unique(np.linspace(0, n - min(8, n), 4).astype(int)) for n in shape[1:]]
    seen = [raw[1, y : y + 8, x : x + 8].ravel() for y in ends[0] for x in ends[1]]
    values = np.concatenate(seen).astype(np.float64)
    np.testing.assert_allclose(
        levelled(from_array(raw)).read()[1], (raw[1] - values.mean()) / values.std(), rtol=1e-5, atol=1e-5
    )


def test_the_array_itself_stays():
    raw = RAW.astype(np.float32)
    levelled(from_array(raw)).read()
    np.testing.assert_array_equal(raw, RAW)
