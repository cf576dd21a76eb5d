from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage

from ssns.affinities import GRID_SYMMETRIES, labels_to_affinities, transform_affinities
from ssns.perturb import Elastic, FlipTranspose, Patch, Scale
from ssns.perturb.geometry import Deformation, Zoom, smooth_field, spline_matrix, zoom_sections
from ssns.perturb.resampling import warp_sections


def numbered(*shape):
    labels = torch.arange(int(np.prod(shape))).reshape(shape)
    return Patch(labels / labels.numel(), labels, labels % 3 > 0)


def test_all_sixteen_symmetries_are_equally_frequent():
    generator = torch.Generator().manual_seed(0)
    counts = Counter(FlipTranspose().draw((3, 8, 8), generator) for _ in range(3200))
    assert set(counts) == set(GRID_SYMMETRIES)
    assert all(140 <= count <= 260 for count in counts.values())


def test_patches_that_are_not_square_keep_their_shape():
    generator = torch.Generator().manual_seed(0)
    drawn = {FlipTranspose().draw((3, 8, 9), generator) for _ in range(200)}
    assert len(drawn) == 8
    assert not any(symmetry.transpose for symmetry in drawn)


@given(st.integers(0, 200))
def test_flipped_raw_and_labels_stay_together(seed):
    moved = FlipTranspose().apply(numbered(3, 5, 5), torch.Generator().manual_seed(seed))
    assert torch.equal(moved.raw, moved.labels / moved.labels.numel())
    assert torch.equal(moved.valid, moved.labels % 3 > 0)
    assert sorted(moved.labels.flatten().tolist()) == list(range(75))


@settings(max_examples=20)
@given(st.integers(0, 200))
def test_a_drawn_symmetry_carries_affinities_as_it_carries_labels(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (3, 6, 6), generator=generator)
    offsets = [(-1, 0, 0), (0, -1, 0), (0, 0, -1)]
    move = FlipTranspose().draw((3, 6, 6), generator)
    carried, mask = transform_affinities(labels_to_affinities(labels, offsets)[0], offsets, move)
    wanted, known = labels_to_affinities(move.apply(labels), offsets)
    assert torch.equal(carried[mask & known], wanted[mask & known])
    assert (mask & known).any()


@pytest.mark.parametrize(("factor", "smallest", "largest"), [(1.5, 106, 240), (2.0, 80, 320), (1.49, 106, 238)])
def test_scale_draws_the_windows_of_the_paper(factor, smallest, largest):
    generator = torch.Generator().manual_seed(0)
    windows = {Scale(factor=factor).draw((18, 160, 160), generator).window for _ in range(3000)}
    assert windows == {(size, size) for size in range(smallest, largest + 1, 2)}


def test_scale_leaves_a_patch_as_it_is_as_rarely_as_the_papers():
    generator = torch.Generator().manual_seed(0)
    same = sum(Scale().draw((18, 160, 160), generator).window == (160, 160) for _ in range(20_000))
    assert same / 20_000 == pytest.approx(0.015, abs=0.003)


@pytest.mark.parametrize("window", [(106, 106), (158, 158), (240, 240), (100, 250)])
def test_zoom_is_opencvs_resize_of_the_window(window):
    section = np.random.default_rng(0).random((160, 160), dtype=np.float32)
    seen = np.pad(section, 50, mode="reflect")[tuple(slice((260 - n) // 2, (260 + n) // 2) for n in window)]
    wanted = cv2.resize(seen, (160, 160), interpolation=cv2.INTER_LINEAR)
    assert_allclose(zoom_sections(torch.from_numpy(section)[None], window)[0], wanted, atol=1e-5)


@given(shape=st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 30)), seed=st.integers(0, 100))
def test_scale_windows_are_centred_on_the_voxels_of_any_patch(shape, seed):
    window = Scale(factor=3.0).draw(shape, torch.Generator().manual_seed(seed)).window
    assert all(extent > 0 and (extent - own) % 2 == 0 for extent, own in zip(window, shape[1:], strict=True))


def test_zoom_in_shows_the_centre_and_zoom_out_reflects():
    section = torch.from_numpy(np.random.default_rng(0).random((1, 16, 20)))

    def places(window, n):
        return (np.arange(n) + 0.5) * window / n - 0.5 + (n - window) / 2

    for window in [(8, 10), (16, 20), (24, 30)]:
        grid = np.meshgrid(places(window[0], 16), places(window[1], 20), indexing="ij")
        inner = tuple(slice(2, -2) if window[0] < 16 else slice(None) for _ in range(2))
        wanted = ndimage.map_coordinates(section[0].numpy(), grid, order=1, mode="mirror")
        assert_allclose(zoom_sections(section, window)[0][inner], wanted[inner], atol=1e-5)


@pytest.mark.parametrize("controls", [2, 3, 5, 8])
@pytest.mark.parametrize("margin", [0, 7])
def test_spline_is_that_of_scipy(controls, margin):
    values = np.random.default_rng(0).normal(size=controls)
    grown = 41 + 2 * margin
    wanted = ndimage.zoom(values, grown / controls, order=3, mode="mirror")[margin : margin + 41]
    assert_allclose(spline_matrix(controls, 41, margin).numpy() @ values, wanted, atol=1e-5)


def test_spline_of_one_value_is_constant():
    assert_allclose(spline_matrix(1, 5), np.ones((5, 1)))


def test_field_is_the_references_zoom_of_the_control_points():
    control = np.random.default_rng(0).normal(0, 2, (2, 4, 5, 5))
    field = smooth_field(torch.from_numpy(control).float(), (18, 160, 160), 20)
    for drawn, component in zip(control, field, strict=True):
        wanted = ndimage.zoom(drawn, (18 / 4, 200 / 5, 200 / 5), order=3, mode="mirror")[:, 20:180, 20:180]
        assert_allclose(component, wanted, atol=1e-5)


def test_elastic_draws_the_papers_grid():
    control = torch.stack(
        [Elastic().draw((18, 160, 160), torch.Generator().manual_seed(seed)).control for seed in range(40)]
    )
    assert control.shape == (40, 2, 4, 5, 5)
    assert float(control.std()) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(("sampling", "order"), [("linear", 1), ("nearest", 0)])
def test_elastic_is_that_of_scipy(sampling, order):
    draws = np.random.default_rng(0)
    control = draws.normal(0, 2, (2, 2, 3, 4))
    volume, ids = draws.random((6, 40, 52)), draws.integers(0, 2**30, (6, 40, 52))
    grown = (6, 80, 92)
    field = [ndimage.zoom(each, [n / k for n, k in zip(grown, each.shape, strict=True)], order=3) for each in control]
    places = np.indices(grown) + np.stack([np.zeros(grown), *field])

    def deformed(array, order):
        padded = np.pad(array, ((0, 0), (20, 20), (20, 20)), mode="reflect")
        return ndimage.map_coordinates(padded, places, order=order, mode="mirror")[:, 20:-20, 20:-20]

    move = Deformation(torch.from_numpy(control).float(), 20, sampling)
    different = np.abs(move.apply(torch.from_numpy(volume).float()).numpy() - deformed(volume, order)) > 1e-5
    assert different.mean() <= (0 if sampling == "linear" else 1e-3)  # near ties of rounding
    assert (move.apply(torch.from_numpy(ids)).numpy() == deformed(ids, 0)).mean() > 0.999


def test_elastic_is_that_of_opencv():
    draws = np.random.default_rng(0)
    control = torch.from_numpy(draws.normal(0, 2, (2, 4, 5, 5))).float()
    # Smooth raw: OpenCV rounds places to single precision.
    raw = ndimage.gaussian_filter(draws.random((18, 160, 160)), (0, 2, 2)).astype(np.float32)
    found = Deformation(control, 20, "linear").apply(torch.from_numpy(raw))
    down, across = smooth_field(control, (18, 160, 160), 20).numpy()
    rows, columns = np.mgrid[:160, :160].astype(np.float32)
    for z, section in enumerate(raw):
        places = columns + across[z], rows + down[z]
        wanted = cv2.remap(section, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        assert_allclose(found[z], wanted, atol=1e-5)


def test_elastic_reads_raw_and_labels_alike_if_told_to():
    labels = torch.arange(4 * 40 * 40).reshape(4, 40, 40)
    moved = Elastic(sampling="nearest").apply(Patch(labels.float(), labels), torch.Generator().manual_seed(0))
    assert torch.equal(moved.raw, moved.labels.float())


def test_elastic_of_constant_displacement_is_a_shift():
    section = torch.arange(30.0).expand(1, 30, 30)
    field = smooth_field(torch.tensor([0.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2), (1, 30, 30))
    assert_allclose(warp_sections(section, field)[0, :, :27], section[0, :, 3:], atol=1e-5)


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)))
@pytest.mark.parametrize("perturbation", [Scale(), Elastic(spacing=(2, 4, 4), margin=2)], ids=lambda p: p.type)
def test_interpolated_raw_and_nearest_labels_stay_together(perturbation, seed, shape):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, shape, generator=generator)
    moved = perturbation.apply(Patch(labels.float(), labels, labels == 1), generator)
    # The nearest of the four voxels that are blended has at least a quarter of the weight.
    assert (moved.raw[moved.labels == 1] >= 0.25 - 1e-5).all()
    assert (moved.raw[moved.labels == 0] <= 0.75 + 1e-5).all()
    assert torch.equal(moved.valid, moved.labels == 1)


def test_window_of_the_patch_itself_changes_nothing():
    patch = numbered(2, 7, 9)
    moved = patch.moved(Zoom((7, 9), (9, 11)))
    assert torch.equal(moved.raw, patch.raw)
    assert torch.equal(moved.labels, patch.labels)
