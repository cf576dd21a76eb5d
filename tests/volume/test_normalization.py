import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter, ValidationError

from ssns.errors import UserError
from ssns.volume import from_array
from ssns.volume.normalization import (
    SAMPLE_SHAPE,
    IntensityRange,
    Normalization,
    PercentileNormalization,
    TypeNormalization,
    intensity_range,
)


class TestIntensityRange:
    def test_bytes_are_divided_by_255_as_in_the_reference(self):
        raw = np.arange(256, dtype=np.uint8)
        scaled = IntensityRange(0, 255).apply(raw)
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, raw / 255, rtol=1.2e-7)  # one step of float32
        assert (scaled[0], scaled[-1]) == (0, 1)

    @given(
        hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.float32]), 20, elements=st.integers(0, 255)),
        st.integers(0, 100),
        st.integers(1, 155),
    )
    def test_scales_linearly_and_cuts_at_both_ends(self, raw, low, extent):
        before = raw.copy()
        scaled = IntensityRange(low, low + extent).apply(raw)
        np.testing.assert_allclose(scaled, np.clip((raw.astype(float) - low) / extent, 0, 1), atol=1e-6)
        np.testing.assert_array_equal(raw, before)

    def test_not_a_number_stays_one(self):
        assert np.isnan(IntensityRange(0, 1).apply(np.array([np.nan], np.float32))).all()


class TestAsGiven:
    @pytest.mark.parametrize("ends", [(40, 210), [40, np.float32(210)], IntensityRange(40, 210)])
    def test_two_numbers_are_a_range(self, ends):
        assert intensity_range(ends) == IntensityRange(40.0, 210.0)

    @pytest.mark.parametrize("ends", [(1,), (1, 2, 3), (2, 1), (1, 1), (0, np.nan), (0, np.inf), ("0", "1")])
    def test_others_are_refused(self, ends):
        with pytest.raises(
            UserError, match="intensity: wanted what becomes 0 and what becomes 1, a larger number, got"
        ):
            intensity_range(ends)

    def test_so_is_a_range_without_extent(self):
        with pytest.raises(UserError, match=r"got \(3, 3\)"):
            intensity_range(IntensityRange(3, 3))


class TestTypeNormalization:
    @pytest.mark.parametrize(
        ("dtype", "low", "high"),
        [(np.uint8, 0, 255), (np.uint16, 0, 65535), (np.int16, -32768, 32767), (np.float32, 0, 1), (np.float64, 0, 1)],
    )
    def test_takes_the_ends_of_the_type(self, dtype, low, high):
        raw = np.array([[[low, high]]], dtype)
        assert TypeNormalization().measure(from_array(raw)) == IntensityRange(low, high)

    def test_floats_beyond_0_and_1_are_refused(self):
        raw = np.array([[[0, 255]]], np.float32)
        with pytest.raises(UserError, match=r"raw: wanted 0 to 1, as .* is float32 .* got 0 to 255: set normalization"):
            TypeNormalization().measure(from_array(raw))

    def test_twelve_bits_in_sixteen_are_warned_of(self):
        raw = np.array([[[0, 4095]]], np.uint16)
        with pytest.warns(UserWarning, match=r"intensities 0 to 4095, a small part of uint16"):
            assert TypeNormalization().measure(from_array(raw)) == IntensityRange(0, 65535)


class TestPercentileNormalization:
    def test_a_small_volume_is_measured_whole(self):
        raw = np.random.default_rng(0).integers(0, 60_000, (1, 40, 50)).astype(np.uint16)
        measured = PercentileNormalization(low=2, high=90).measure(from_array(raw))
        assert (measured.low, measured.high) == tuple(np.percentile(raw, (2, 90)))

    def test_a_large_volume_is_measured_in_places_all_over_it(self):
        raw = np.random.default_rng(0).normal(100, 10, (30, 300, 400)).astype(np.float32)
        raw[15:] += 50
        measured = PercentileNormalization(low=10, high=90).measure(from_array(raw))
        low, high = np.percentile(raw, (10, 90))
        assert measured.low == pytest.approx(low, abs=2)
        assert measured.high == pytest.approx(high, abs=2)

    def test_a_measurement_can_be_repeated(self):
        raw = from_array(np.random.default_rng(0).integers(0, 255, (9, 300, 300)).astype(np.uint8))
        assert PercentileNormalization().measure(raw) == PercentileNormalization().measure(raw)

    def test_only_samples_of_a_huge_volume_are_read(self):
        class Huge:
            shape, dtype, read = (10_000, 100_000, 100_000), np.dtype("uint8"), 0

            def __getitem__(self, index):
                shape = tuple(part.stop - part.start for part in index)
                assert shape == SAMPLE_SHAPE
                self.read += np.prod(shape)
                return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)

        huge = Huge()
        volume = from_array(np.zeros((1, 1, 1), np.uint8))
        volume = type(volume)(huge, "huge")
        PercentileNormalization().measure(volume)
        assert 0 < huge.read < 10_000_000

    def test_a_volume_without_contrast_is_refused(self):
        with pytest.raises(UserError, match=r"wanted a volume with contrast.* only 7"):
            PercentileNormalization().measure(from_array(np.full((2, 3, 4), 7, np.float32)))

    def test_the_place_of_a_voxel_that_is_no_number_is_told(self):
        raw = np.random.default_rng(0).random((1, 9, 8), np.float32)
        raw[0, 3, 5] = np.nan
        message = r"raw: wanted numbers, but array in memory holds NaN at z 0, y 3, x 5 \(1 of the 72 voxels"
        with pytest.raises(UserError, match=message):
            PercentileNormalization().measure(from_array(raw))

    def test_percentiles_in_the_wrong_order_are_refused(self):
        with pytest.raises(ValidationError, match="low below high, got 60 and 40"):
            PercentileNormalization(low=60, high=40)


def test_both_can_be_named_in_an_experiment():
    adapter = TypeAdapter(Normalization)
    assert adapter.validate_python({"type": "dtype"}) == TypeNormalization()
    assert adapter.validate_python({"type": "percentile", "low": 1.0}) == PercentileNormalization(low=1)
