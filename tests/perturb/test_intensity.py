import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage
from skimage import filters
from skimage.exposure import adjust_gamma

from ssns.perturb import Blur, Intensity, Noise, Patch, Sobel, StrongBlur
from ssns.perturb.intensity import add_noise, adjust_contrast, gaussian_blur, sobel_magnitude


@pytest.fixture
def raw():
    return torch.rand((4, 30, 25), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("contrast", "brightness", "gamma"), [(1.05, 0.05, 0.5), (0.95, -0.05, 2.0), (3.0, -1.0, 1.3)])
def test_contrast_is_a_clipped_line_then_scikit_images_gamma(raw, contrast, brightness, gamma):
    wanted = adjust_gamma(np.clip(contrast * raw.double().numpy() + brightness, 0, 1), gamma)
    assert_allclose(adjust_contrast(raw, contrast, brightness, gamma), wanted, atol=1e-6)


def test_contrast_per_section_is_that_of_each_section(raw):
    drawn = torch.tensor([[1.0, 0.9, 1.1, 1.2], [0.0, 0.1, -0.1, 0.2], [1.0, 0.5, 2.0, 1.5]])
    together = adjust_contrast(raw, *drawn)
    for z, values in enumerate(drawn.T.tolist()):
        assert_allclose(together[z], adjust_contrast(raw[z : z + 1], *values)[0], atol=1e-6)


@pytest.mark.parametrize(("sigma", "size"), [(0.3, 3), (2.0, 3), (1.1, 9), (0.4, None), (1.0, None), (4.9, None)])
def test_blur_is_that_of_scipy_with_the_extent_of_opencv(raw, sigma, size):
    reach = (round(8 * sigma + 1) | 1) // 2 if size is None else size // 2
    section = raw.double().numpy()
    wanted = ndimage.gaussian_filter(section, sigma, mode="mirror", radius=reach, axes=(1, 2))
    assert_allclose(gaussian_blur(raw, sigma, size), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5, 7, 9, None])
@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.1, 2.0, 4.9])
def test_blur_is_that_of_opencv(sigma, size):
    raw = torch.rand((2, 60, 50), generator=torch.Generator().manual_seed(0))
    extent = (0, 0) if size is None else (size, size)
    wanted = [cv2.GaussianBlur(section, extent, sigma, borderType=cv2.BORDER_REFLECT_101) for section in raw.numpy()]
    assert_allclose(gaussian_blur(raw, sigma, size), wanted, atol=1e-5)


def test_blur_of_a_point_is_opencvs_kernel():
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1
    kernel = [0.05448868, 0.24420134, 0.40261994, 0.24420134, 0.05448868]  # cv2.getGaussianKernel(5, 1)
    assert_allclose(gaussian_blur(point, 1.0, 5)[0, 2:7, 2:7], np.outer(kernel, kernel), atol=1e-7)


def test_blur_per_section_is_that_of_each_section_and_zero_is_none(raw):
    sigmas = [0.0, 0.5, 3.0, 1.0]
    together = gaussian_blur(raw, torch.tensor(sigmas))
    assert torch.equal(together[0], raw[0])
    for z, sigma in enumerate(sigmas):
        assert_allclose(together[z], gaussian_blur(raw[z : z + 1], sigma)[0], atol=1e-6)


def test_blur_reaches_over_sections_smaller_than_its_kernel():
    section = torch.rand(1, 3, 2, generator=torch.Generator().manual_seed(0))
    wanted = ndimage.gaussian_filter(section[0].double().numpy(), 4.0, mode="mirror", radius=16)
    assert_allclose(gaussian_blur(section, 4.0)[0], wanted, atol=1e-5)


@given(st.integers(0, 500))
def test_intensity_alike_for_all_sections_or_drawn_for_each(seed):
    patch = Patch(torch.full((6, 2, 2), 0.5))

    def values(per_section):
        generator = torch.Generator().manual_seed(seed)
        return Intensity(per_section=per_section).apply(patch, generator).raw[:, 0, 0]

    alike = values(0.0)
    torch.testing.assert_close(alike, alike[:1].expand(6))  # powers in vectors and alone may round differently
    assert len(values(1.0).unique()) == 6


def test_intensity_stays_in_the_range_that_its_settings_span():
    patch = Patch(torch.full((1000, 1, 1), 0.5))
    raw = Intensity(per_section=1.0).apply(patch, torch.Generator().manual_seed(0)).raw
    darkest, brightest = (0.95 * 0.5 - 0.05) ** 2, (1.05 * 0.5 + 0.05) ** 0.5
    assert darkest <= raw.min() < darkest + 0.05
    assert brightest - 0.05 < raw.max() <= brightest


def test_noise_is_numpys_clipped_sum(raw):
    noise = np.random.default_rng(0).normal(size=raw.shape)
    wanted = np.clip(raw.double().numpy() + 0.2 * noise, 0, 1)
    assert_allclose(add_noise(raw, torch.from_numpy(noise).float(), 0.2), wanted, atol=1e-6)


def test_noise_has_the_drawn_strength():
    patch = Patch(torch.full((8, 64, 64), 0.5))
    noisy = Noise(sigma=(0.05, 0.05)).apply(patch, torch.Generator().manual_seed(0)).raw
    assert float(noisy.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.02)


def test_blur_draws_odd_extents_up_to_the_largest():
    point = torch.zeros(1, 15, 15)
    point[0, 7, 7] = 1
    generator = torch.Generator().manual_seed(0)
    blur = Blur(sigma=(2.0, 2.0))
    extents = {int((blur.apply(Patch(point), generator).raw[0, 7] > 0).sum()) for _ in range(100)}
    assert extents == {3, 5, 7, 9}


def test_strong_blur_of_whole_sections_leaves_the_others(raw):
    patch = Patch(raw)
    blur = StrongBlur(partial=0.0, section_probability=0.5, sigma=(3.0, 3.0))
    blurred = blur.apply(patch, torch.Generator().manual_seed(2)).raw
    changed = (blurred != raw).flatten(1).any(dim=1)
    assert 0 < int(changed.sum()) < 4
    assert_allclose(blurred[changed], gaussian_blur(raw[changed], 3.0), atol=1e-6)


def test_strong_blur_of_rectangles_is_that_of_the_part_by_itself(raw):
    blur = StrongBlur(partial=1.0, rectangle_probability=1.0, sigma=(3.0, 3.0))
    blurred = blur.apply(Patch(raw), torch.Generator().manual_seed(0)).raw
    for before, after in zip(raw, blurred, strict=True):
        places = (before != after).nonzero()
        (top, left), (bottom, right) = places.min(dim=0).values.tolist(), places.max(dim=0).values.tolist()
        part = (slice(top, bottom + 1), slice(left, right + 1))
        assert_allclose(after[part], gaussian_blur(before[part][None], 3.0)[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 30, 25), (1, 1, 7), (2, 2, 1), (1, 160, 160)])
def test_sobel_is_that_of_scikit_image(shape):
    raw = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    wanted = np.stack([filters.sobel(section) for section in raw.double().numpy()])
    assert_allclose(sobel_magnitude(raw), wanted, atol=1e-5)


def test_sobel_adds_the_mean_of_each_section_and_clips(raw):
    sections = (
        raw * torch.tensor([0.1, 0.5, 1.0, 0.0])[:, None, None] + torch.tensor([0.0, 0.2, 0.0, 1.0])[:, None, None]
    )
    wanted = [np.clip(filters.sobel(section) + section.mean(), 0, 1) for section in sections.double().numpy()]
    assert_allclose(Sobel().apply(Patch(sections), torch.Generator()).raw, np.stack(wanted), atol=1e-5)
