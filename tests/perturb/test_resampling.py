import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from ssns.perturb.resampling import reflect_pad, reflected, resize_sections, warp_sections


@given(extent=st.integers(1, 9), before=st.integers(0, 40), after=st.integers(0, 40))
def test_reflected_indices_are_those_of_numpy(extent, before, after):
    index = torch.arange(-before, extent + after)
    assert_array_equal(reflected(index, extent), np.pad(np.arange(extent), (before, after), mode="reflect"))


@given(margin=st.tuples(st.integers(0, 15), st.integers(0, 15)))
def test_reflect_pad_is_that_of_numpy_and_is_undone_by_its_negative(margin):
    labels = torch.arange(2 * 5 * 7).reshape(2, 5, 7)
    padded = reflect_pad(labels, margin)
    assert_array_equal(padded, np.pad(labels, ((0, 0), *((m, m) for m in margin)), mode="reflect"))
    assert torch.equal(reflect_pad(padded, (-margin[0], -margin[1])), labels)


@pytest.mark.parametrize("shape", [(20, 30), (9, 31), (33, 8), (1, 1)])
def test_resized_floats_are_interpolated_between_voxel_centres(shape):
    section = np.random.default_rng(0).random((20, 30))
    places = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, section.shape, strict=True)]
    wanted = ndimage.map_coordinates(section, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    resized = resize_sections(torch.from_numpy(section).float()[None, None], shape)
    assert_allclose(resized[0, 0], wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(106, 240), (160, 160), (33, 200)])
def test_resized_floats_are_those_of_opencv(shape):
    section = np.random.default_rng(0).random(shape, dtype=np.float32)
    wanted = cv2.resize(section, (150, 160), interpolation=cv2.INTER_LINEAR)
    assert_allclose(resize_sections(torch.from_numpy(section)[None], (160, 150))[0], wanted, atol=1e-5)


@given(extent=st.integers(1, 30), target=st.integers(1, 30))
def test_resized_integers_take_the_voxel_around_their_centre(extent, target):
    resized = resize_sections(torch.arange(extent).expand(1, extent, extent), (extent, target))
    assert_array_equal(resized[0, 0], np.floor((np.arange(target) + 0.5) * extent / target))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 12), (2, 13, 9)])
def test_warp_is_that_of_scipy_far_outside_too(shape):
    draws = np.random.default_rng(0)
    volume, displacement = draws.random(shape), draws.normal(0, 20, (2, *shape)).astype(np.float32)
    ids = draws.integers(0, 2**40, shape)
    places = np.indices(shape[1:])[:, None] + displacement.astype(float)
    warped = warp_sections(torch.from_numpy(volume).float(), torch.from_numpy(displacement))
    warped_ids = warp_sections(torch.from_numpy(ids), torch.from_numpy(displacement))
    for z, section in enumerate(volume):
        wanted = ndimage.map_coordinates(section, places[:, z], order=1, mode="mirror")
        assert_allclose(warped[z], wanted, atol=1e-5)
        rows, columns = (
            reflected(torch.from_numpy(np.rint(p)).long(), n) for p, n in zip(places[:, z], shape[1:], strict=True)
        )
        assert_array_equal(warped_ids[z], ids[z][rows, columns])


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), shape=st.tuples(*[st.integers(1, 8)] * 3))
def test_warped_indicator_agrees_with_the_warped_label(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, shape, generator=generator)
    displacement = 3 * torch.randn((2, *shape), generator=generator)
    raw, moved = warp_sections(labels.float(), displacement), warp_sections(labels, displacement)
    # The nearest of the four voxels that are blended has at least a quarter of the weight.
    assert (raw[moved == 1] >= 0.25 - 1e-5).all()
    assert (raw[moved == 0] <= 0.75 + 1e-5).all()


def test_nearest_sampling_reads_floats_as_it_reads_integers():
    ids = torch.arange(3 * 9 * 8).reshape(3, 9, 8)
    displacement = 3 * torch.randn((2, 3, 9, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(warp_sections(ids.float(), displacement, "nearest"), warp_sections(ids, displacement).float())


def test_one_displacement_may_serve_all_sections():
    volume, displacement = torch.rand(3, 9, 8), torch.randn(2, 1, 9, 8)
    assert torch.equal(warp_sections(volume, displacement), warp_sections(volume, displacement.expand(2, 3, 9, 8)))


def test_warp_carries_leading_axes_and_booleans():
    channels = torch.rand(3, 2, 5, 6)
    displacement = torch.randn(2, 2, 5, 6)
    together = warp_sections(channels, displacement)
    assert torch.equal(together, torch.stack([warp_sections(channel, displacement) for channel in channels]))
    assert warp_sections(channels > 0.5, displacement).dtype == torch.bool
