import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import distance_transform_edt

from ssns.errors import UserError
from ssns.metrics.cremi import halo, near_boundary

LABELS = arrays(
    np.uint16, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 1, 2])
)


def by_distance_transform(labels: np.ndarray, voxel_size_nm, distance_nm: float) -> np.ndarray:
    """What CREMI's page describes, section by section."""
    near = np.zeros(labels.shape, bool)
    for section, found in zip(labels, near, strict=True):
        padded = np.pad(section, 1, mode="edge")
        moved = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        inside = np.all([section == other for other in moved], axis=0)
        if not inside.all():  # the transform knows no distance where there is nothing to be distant from
            found[:] = distance_transform_edt(inside, sampling=voxel_size_nm[1:]) <= distance_nm
    return near


@given(LABELS, st.sampled_from([0.0, 5.9, 6.0, 12.0, 25.0, 30.0, 100.0]), st.sampled_from([(30, 6, 6), (8, 3, 6)]))
def test_equals_the_distance_transform(labels, distance, size):
    assert np.array_equal(near_boundary(labels, size, distance), by_distance_transform(labels, size, distance))


@pytest.mark.real_data
def test_equals_the_distance_transform_on_real_labels(development_data):
    labels = tifffile.imread(development_data / "AC4_labels.tif", key=range(2))[:, :300, :300]
    near = near_boundary(labels, (30, 6, 6))
    assert 0.3 < near.mean() < 0.9
    assert np.array_equal(near, by_distance_transform(labels, (30, 6, 6), 25.0))


def test_a_boundary_takes_a_voxel_on_both_sides_and_the_distance_beyond():
    labels = np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]])
    assert near_boundary(labels, (40, 4, 4), 0.0).astype(int).tolist() == [[[0, 0, 0, 1, 1, 0, 0, 0]]]
    assert near_boundary(labels, (40, 4, 4), 4.0).astype(int).tolist() == [[[0, 0, 1, 1, 1, 1, 0, 0]]]


def test_other_sections_play_no_part():
    assert not near_boundary(np.arange(3).reshape(3, 1, 1) * np.ones((3, 4, 4), int), (1, 1, 1)).any()


@given(st.sampled_from([0.0, 6.0, 25.0]), st.data())
def test_the_halo_decides_about_a_block(distance, data):
    labels = data.draw(arrays(np.uint8, (1, 24, 24), elements=st.sampled_from([0] * 9 + [1])))
    _, y, x = halo((30, 6, 8), distance)
    part = near_boundary(labels[:, 12 - y : 14 + y, 12 - x : 14 + x], (30, 6, 8), distance)
    assert np.array_equal(part[:, y:-y, x:-x], near_boundary(labels, (30, 6, 8), distance)[:, 12:14, 12:14])


@pytest.mark.parametrize(
    ("shape", "size", "distance", "message"),
    [
        ((4, 4), (1, 1, 1), 1, r"labels: wanted three axes \(z, y, x\), got shape \(4, 4\)"),
        ((1, 4, 4), (1, 0, 1), 1, "voxel_size_nm and distance_nm: wanted positive lengths"),
        ((1, 4, 4), (1, 1, 1), -1, "voxel_size_nm and distance_nm: wanted positive lengths"),
    ],
)
def test_mistakes_are_told(shape, size, distance, message):
    with pytest.raises(UserError, match=message):
        near_boundary(np.ones(shape, int), size, distance)
