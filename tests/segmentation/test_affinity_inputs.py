import numpy as np
import pytest
from toy_affinities import blurred_noise

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.errors import UserError
from ssns.segmentation.inputs import AffinityVolume

FORWARD = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
GOOD = np.full((3, 2, 3, 4), 0.5, dtype=np.float32)


def test_float32_of_the_nearest_neighbours_is_not_copied():
    affinities = blurred_noise((2, 3, 4))
    assert AffinityVolume.checked(affinities, NEAREST, None).nearest is affinities


def test_bytes_and_half_floats_are_scaled_to_one():
    steps = np.arange(256, dtype=np.uint8).reshape(1, 1, 1, 256).repeat(3, 0)
    nearest = AffinityVolume.checked(steps, NEAREST, None).nearest
    assert nearest.dtype == np.float32
    assert np.array_equal(nearest, (steps / 255).astype(np.float32))
    assert AffinityVolume.checked(GOOD.astype(np.float16), NEAREST, None).nearest.tolist() == GOOD.tolist()


def test_channels_are_looked_up_in_offsets():
    offsets = [(0, 0, -1), (-3, 0, 0), (0, -1, 0), (-1, 0, 0)]
    affinities = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1) / 4
    nearest = AffinityVolume.checked(affinities, offsets, None).nearest
    assert nearest.ravel().tolist() == [0.75, 0.5, 0]


def test_forward_edges_are_those_backward_but_for_the_first_plane():
    labels = np.random.default_rng(0).integers(1, 3, (3, 4, 5))
    backward, known = labels_to_affinities(labels)
    forward, _ = labels_to_affinities(labels, FORWARD)
    nearest = AffinityVolume.checked(forward, FORWARD, None).nearest
    assert np.array_equal(nearest[known], backward[known])
    # What enters the volume is unknown: forward edges of the first plane stand in for it.
    assert np.array_equal(nearest[0, 0], forward[0, 0])


def test_rounding_beyond_one_is_clipped():
    affinities = GOOD.copy()
    affinities[0, 0, 0, :2] = 1.00001, -0.00001
    nearest = AffinityVolume.checked(affinities, NEAREST, None).nearest
    assert (nearest.min(), nearest.max()) == (0, 1)


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
        (GOOD, [(-1, 0, 0), (0, -1, 0), (0, 0, -2)], None, r"offsets: .* without \(0, 0, -1\)"),
        (GOOD, NEAREST, np.ones((2, 3, 5), bool), r"mask: wanted bool .*\(2, 3, 4\), got bool \(2, 3, 5\)"),
        (GOOD, NEAREST, np.ones((2, 3, 4)), r"mask: wanted bool .* got float64"),
    ],
)
def test_mistakes_are_told(affinities, offsets, mask, message):
    with pytest.raises(UserError, match=message):
        AffinityVolume.checked(affinities, offsets, mask)
