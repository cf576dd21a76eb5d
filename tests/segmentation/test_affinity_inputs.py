import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_affinities import blurred_noise

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.errors import UserError
from ssns.segmentation.inputs import AffinityVolume

FORWARD = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
GOOD = np.full((3, 2, 3, 4), 0.5, dtype=np.float32)


def sections(volume: AffinityVolume) -> np.ndarray:
    """Affinities (3, z, y, x), section by section."""
    return np.array([[volume.section(axis, z) for z in range(volume.shape[0])] for axis in range(3)])


def levels(volume: AffinityVolume) -> np.ndarray:
    return np.array([[volume.levels(axis, z) for z in range(volume.shape[0])] for axis in range(3)])


def test_sections_of_float32_and_levels_of_bytes_are_not_copied():
    affinities = blurred_noise((2, 3, 4))
    volume = AffinityVolume.checked(affinities, NEAREST, None)
    assert np.array_equal(sections(volume), affinities)
    assert np.shares_memory(volume.section(1, 0), affinities)
    coarse = (255 * affinities).astype(np.uint8)
    volume = AffinityVolume.checked(coarse, NEAREST, None)
    assert np.array_equal(levels(volume), coarse)
    assert np.shares_memory(volume.levels(1, 0), coarse)


def test_bytes_and_half_floats_are_scaled_to_one():
    steps = np.arange(256, dtype=np.uint8).reshape(1, 1, 1, 256).repeat(3, 0)
    section = AffinityVolume.checked(steps, NEAREST, None).section(0, 0)
    assert section.dtype == np.float32
    assert np.array_equal(section, (steps / 255).astype(np.float32)[0, 0])
    half = AffinityVolume.checked(GOOD.astype(np.float16), NEAREST, None)
    assert (half.section(0, 0).dtype, half.section(0, 0).tolist()) == (np.float32, GOOD[0, 0].tolist())


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_levels_of_a_byte_and_of_its_quotient_are_the_same(kind):
    steps = np.arange(256, dtype=np.uint8).reshape(1, 1, 1, 256).repeat(3, 0)
    found = levels(AffinityVolume.checked((steps / 255).astype(kind), NEAREST, None))
    assert found.dtype == np.uint16
    assert np.array_equal(found, 257 * steps.astype(np.uint16))


@given(st.floats(0, 1, width=32))
def test_the_upper_byte_of_a_level_is_the_bin_of_256(affinity):
    level = AffinityVolume.checked(GOOD * 0 + np.float32(affinity), NEAREST, None).levels(0, 0)[0, 0]
    assert level >> 8 == min(int(256 * affinity), 255)
    assert level / 65535 == pytest.approx(affinity, abs=1 / 65536)


def test_channels_are_looked_up_in_offsets():
    offsets = [(0, 0, -1), (-3, 0, 0), (0, -1, 0), (-1, 0, 0)]
    affinities = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1) / 4
    found = sections(AffinityVolume.checked(affinities, offsets, None))
    assert found.ravel().tolist() == [0.75, 0.5, 0]


def test_forward_edges_are_those_backward_but_for_the_first_plane():
    labels = np.random.default_rng(0).integers(1, 3, (3, 4, 5))
    backward, known = labels_to_affinities(labels)
    forward, _ = labels_to_affinities(labels, FORWARD)
    volume = AffinityVolume.checked(forward, FORWARD, None)
    found = sections(volume)
    assert np.array_equal(found[known], backward[known])
    assert np.array_equal(levels(volume)[known], 65535 * backward[known])
    # What enters the volume is unknown: forward edges of the first plane stand in for it.
    assert np.array_equal(found[0, 0], forward[0, 0])
    assert np.array_equal(found[1, :, 0], forward[1, :, 0])
    assert np.array_equal(found[2, :, :, 0], forward[2, :, :, 0])


def test_rounding_beyond_one_is_clipped():
    affinities = GOOD.copy()
    affinities[0, 0, 0, :2] = 1.00001, -0.00001
    found = sections(AffinityVolume.checked(affinities, NEAREST, None))
    assert (found.min(), found.max()) == (0, 1)


@pytest.mark.parametrize(
    ("affinities", "offsets", "mask", "message"),
    [
        (GOOD[0], NEAREST, None, r"affinities: wanted four axes \(c, z, y, x\), got shape \(2, 3, 4\)"),
        (GOOD[:2], NEAREST, None, r"affinities: wanted 3 channels, one per offset, got 2"),
        (GOOD[:, :0], NEAREST, None, r"affinities: wanted at least one voxel, got shape \(3, 0, 3, 4\)"),
        (GOOD.astype(np.int32), NEAREST, None, r"affinities: wanted uint8 .* got int32"),
        (GOOD * np.nan, NEAREST, None, r"affinities: .* got NaN in 72 of 72"),
        (GOOD * 255, NEAREST, None, r"affinities: wanted floats in \[0, 1\], got 127.5 to 127.5"),
        (GOOD - 1, NEAREST, None, r"affinities: wanted floats in \[0, 1\], got -0.5 to -0.5"),
        (
            GOOD,
            [(-1, 0), (0, -1), (0, 0)],
            None,
            r"offsets: wanted steps along z, y and x for each channel, got \[\(-1, 0",
        ),
        (GOOD, [(-1, 0, 0), (0, -1, 0), (0, 0, -2)], None, r"offsets: .* without \(0, 0, -1\)"),
        (GOOD, NEAREST, np.ones((2, 3, 5), bool), r"mask: wanted bool .*\(2, 3, 4\), got bool \(2, 3, 5\)"),
        (GOOD, NEAREST, np.ones((2, 3, 4)), r"mask: wanted bool .* got float64"),
    ],
)
def test_mistakes_are_told(affinities, offsets, mask, message):
    with pytest.raises(UserError, match=message):
        AffinityVolume.checked(affinities, offsets, mask)
