from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ssns.perturb import Patch, QuarterTurn, Rotation, Turn
from ssns.perturb.rotation import QUARTER_TURNS


@pytest.mark.parametrize("k", range(4))
def test_quarter_turns_are_rot90_of_torch_and_numpy(k):
    labels = torch.arange(3 * 5 * 5).reshape(3, 5, 5)
    turned = QUARTER_TURNS[k].apply(labels)
    assert torch.equal(turned, torch.rot90(labels, k, (-2, -1)))
    assert_array_equal(turned, np.rot90(labels.numpy(), k, (-2, -1)))


def test_quarter_turns_are_equally_frequent():
    generator = torch.Generator().manual_seed(0)
    counts = Counter(QuarterTurn().draw((3, 8, 8), generator) for _ in range(2000))
    assert set(counts) == set(QUARTER_TURNS)
    assert all(count == pytest.approx(500, abs=80) for count in counts.values())


def test_a_patch_that_is_not_square_is_turned_by_half_a_turn_or_not():
    generator = torch.Generator().manual_seed(0)
    assert {QuarterTurn().draw((3, 8, 9), generator) for _ in range(50)} == set(QUARTER_TURNS[::2])


@pytest.mark.parametrize("extent", [15, 16, 160])
@pytest.mark.parametrize("k", [-2, -1, 0, 1, 2, 3])
def test_turns_by_right_angles_are_the_quarter_turns(extent, k):
    raw = torch.rand((2, extent, extent), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(raw.numel()).reshape(raw.shape)
    assert_allclose(Turn(90.0 * k).apply(raw), QUARTER_TURNS[k % 4].apply(raw), atol=1e-5)
    assert torch.equal(Turn(90.0 * k).apply(labels), QUARTER_TURNS[k % 4].apply(labels))


def turned_places(shape, angle):
    """Where the voxels of a turned section come from, written out."""
    (height, width), turn = shape, np.deg2rad(angle)
    y, x = np.indices(shape) - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    down, across = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    return np.stack([down + (height - 1) / 2, across + (width - 1) / 2])


@pytest.mark.parametrize("angle", [-134.0, -7.5, 1e-3, 33.3, 91.0, 178.0])
@pytest.mark.parametrize("shape", [(40, 40), (31, 48), (48, 17)])
def test_turn_is_that_of_scipy(shape, angle):
    draws = np.random.default_rng(0)
    section, ids = draws.random(shape), draws.integers(0, 2**40, shape)
    places = turned_places(shape, angle)
    wanted = ndimage.map_coordinates(section, places, order=1, mode="mirror")
    assert_allclose(Turn(angle).apply(torch.from_numpy(section).float()[None])[0], wanted, atol=1e-5)
    wanted = ndimage.map_coordinates(ids.astype(float), places, order=0, mode="mirror")
    agree = Turn(angle).apply(torch.from_numpy(ids)[None])[0].numpy() == wanted
    assert agree.mean() > 0.99  # but for near ties of rounding


@pytest.mark.parametrize("angle", [-134.0, 12.3, 45.0, 91.0])
def test_turn_is_that_of_opencv(angle):
    # Smooth, as its places are in single precision too: on white noise both are off by 1e-5.
    section = ndimage.gaussian_filter(np.random.default_rng(0).random((160, 150), dtype=np.float32), 1.5)
    matrix = cv2.getRotationMatrix2D((149 / 2, 159 / 2), angle, 1.0)
    wanted = cv2.warpAffine(section, matrix, (150, 160), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    assert_allclose(Turn(angle).apply(torch.from_numpy(section)[None])[0], wanted, atol=1e-5)


@given(angle=st.floats(-180, 180), shape=st.tuples(st.just(1), st.integers(1, 200), st.integers(1, 200)))
def test_displacement_leads_to_the_place_in_single_precision(angle, shape):
    displacement = Turn(angle).displacement(shape)
    assert displacement.dtype == torch.float32
    assert displacement.shape == (2, 1, *shape[1:])  # all sections alike
    places = displacement[:, 0].double().numpy() + np.indices(shape[1:])
    assert_allclose(places, turned_places(shape[1:], angle), atol=2**-17)


def test_the_center_is_seen_from_any_angle():
    raw = torch.zeros(1, 21, 21)
    raw[0, 10, 10] = 1
    assert all(float(Turn(angle).apply(raw)[0, 10, 10]) == 1 for angle in (-90.0, -1.0, 12.3, 45.0, 180.0))


def test_a_turn_back_undoes_a_turn_inside():
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    section = (y + 2 * x)[None] / 200
    back = Turn(-25.0).apply(Turn(25.0).apply(section))
    assert_allclose(back[0, 20:44, 20:44], section[0, 20:44, 20:44], atol=1e-5)


def test_angles_cover_both_directions_up_to_the_largest():
    generator = torch.Generator().manual_seed(0)
    angles = torch.tensor([Rotation(degrees=30.0).draw((1, 8, 8), generator).angle for _ in range(2000)])
    assert -30 <= angles.min() < -29.5
    assert 29.5 < angles.max() <= 30
    assert float(angles.mean()) == pytest.approx(0, abs=1.5)


def test_raw_and_labels_turn_together():
    labels = torch.randint(0, 2, (3, 30, 30), generator=torch.Generator().manual_seed(0))
    moved = Rotation().apply(Patch(labels.float(), labels, labels == 1), torch.Generator().manual_seed(1))
    assert (moved.raw[moved.labels == 1] >= 0.25 - 1e-5).all()
    assert (moved.raw[moved.labels == 0] <= 0.75 + 1e-5).all()
    assert torch.equal(moved.valid, moved.labels == 1)
