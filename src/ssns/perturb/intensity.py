"""Perturbations of values alone: contrast, noise, focus and edges of sections.

Kernels take their parameters drawn; the components draw them. The numbers of the defaults are the paper's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ssns.perturb.draws import Count, Probability, Range, chance, integers, normal_like, rectangle, uniform
from ssns.perturb.patch import Patch, Perturbation
from ssns.perturb.resampling import reflect_pad

if TYPE_CHECKING:
    from torch import Generator, Tensor


def adjust_contrast(raw: Tensor, contrast: float | Tensor, brightness: float | Tensor, gamma: float | Tensor) -> Tensor:
    """clip(contrast * raw + brightness, 0, 1) ** gamma.

    Args:
        raw: (z, y, x), 0 black, 1 white.
        contrast: Factor; one number, or one per section, (z,).
        brightness: Summand, likewise.
        gamma: Exponent, positive, likewise; below 1 brightens.
    """
    factor, summand, exponent = (_per_section(value, raw) for value in (contrast, brightness, gamma))
    return (raw * factor + summand).clamp_(0, 1).pow_(exponent)


def add_noise(raw: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """clip(raw + sigma * noise, 0, 1).

    Args:
        raw: (z, y, x), 0 black, 1 white.
        noise: Of the same shape, of unit strength.
        sigma: Its factor.
    """
    return (raw + sigma * noise).clamp_(0, 1)


def gaussian_blur(raw: Tensor, sigma: float | Tensor, size: int | None = None) -> Tensor:
    """Gaussian blur of each section, the border reflected: OpenCV's GaussianBlur with its kernel in float.

    Args:
        raw: (z, y, x), float.
        sigma: Standard deviation in voxels, not negative; one number, or one per section, (z,). 0 changes nothing.
        size: Odd extent of the kernel; None: the one that holds four standard deviations, section by section.
    """
    from torch.nn import functional

    kernels = _gaussian_kernels(sigma, raw.shape[0], size).to(raw)
    reach = kernels.shape[1] // 2
    padded = reflect_pad(raw, (reach, reach))[None]
    # One group per section, so that each has a kernel of its own.
    rows = functional.conv2d(padded, kernels[:, None, :, None], groups=len(kernels))
    return functional.conv2d(rows, kernels[:, None, None, :], groups=len(kernels))[0]


def _gaussian_kernels(sigma: float | Tensor, sections: int, size: int | None) -> Tensor:
    """Weights (z, k) in float64 on the CPU; shorter kernels have zeros at both ends."""
    import torch

    sigmas = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").expand(sections)
    # OpenCV's automatic extent for float images: round(8 sigma + 1), made odd.
    sizes = (8 * sigmas + 1).round().long() | 1 if size is None else torch.full((sections,), size)
    reach = int(sizes.max()) // 2
    distance = torch.arange(-reach, reach + 1)
    # A standard deviation of 0 leaves the centre alone, without 0 / 0.
    weights = torch.exp(-0.5 * (distance / sigmas.clamp(min=1e-6)[:, None]) ** 2)
    weights = weights * (distance.abs() <= sizes[:, None] // 2)
    return weights / weights.sum(dim=1, keepdim=True)


def sobel_magnitude(raw: Tensor) -> Tensor:
    """Strength of the edges of each section: ``skimage.filters.sobel``, the outermost voxels repeated at the border.

    sqrt((down ** 2 + across ** 2) / 2), where both are differences over two voxels, smoothed by (1, 2, 1) / 4 along the
    other axis.

    Args:
        raw: (z, y, x), float.
    """
    from torch.nn import functional

    height, width = raw.shape[1:]
    grown = functional.pad(raw[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    rows = grown[:, :-2] + 2 * grown[:, 1:-1] + grown[:, 2:]
    columns = grown[:, :, :-2] + 2 * grown[:, :, 1:-1] + grown[:, :, 2:]
    across = rows[:, :, 2:] - rows[:, :, :width]
    down = columns[:, 2:] - columns[:, :height]
    return across.square_().addcmul_(down, down).sqrt_().mul_(0.25 / 2**0.5)


def _per_section(value: float | Tensor, raw: Tensor) -> float | Tensor:
    """A number, or one per section, made to multiply ``raw``."""
    return value if isinstance(value, float | int) else value.to(raw).reshape(-1, 1, 1)


class Intensity(Perturbation):
    """Contrast, brightness and gamma, of each section by itself or of the patch as a whole."""

    type: Literal["intensity"] = Field("intensity", description="Contrast, brightness and gamma.")
    contrast: float = Field(0.1, ge=0, le=2, description="Width of the range of the factor, centred at 1.")
    brightness: float = Field(0.1, ge=0, le=2, description="Width of the range of the summand, centred at 0.")
    gamma_octaves: float = Field(1.0, ge=0, description="Gamma is 2 to a power within plus and minus this.")
    per_section: Probability = Field(0.75, description="How often the sections are drawn one by one; else all alike.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Every voxel by the three numbers of its section."""
        count = patch.shape[0] if bool(chance(generator, self.per_section)) else 1
        contrast = uniform(generator, 1 - self.contrast / 2, 1 + self.contrast / 2, (count,))
        brightness = uniform(generator, -self.brightness / 2, self.brightness / 2, (count,))
        gamma = 2 ** uniform(generator, -self.gamma_octaves, self.gamma_octaves, (count,))
        return patch.with_raw(adjust_contrast(patch.raw, contrast, brightness, gamma))


class Noise(Perturbation):
    """Independent Gaussian noise in every voxel, of one strength in the patch."""

    type: Literal["noise"] = Field("noise", description="Gaussian noise.")
    sigma: Range = Field((0.01, 0.2), description="Range of the standard deviation; raw is in 0 to 1.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Noise added, and the sum clipped to [0, 1]."""
        sigma = float(uniform(generator, *self.sigma))
        return patch.with_raw(add_noise(patch.raw, normal_like(generator, patch.raw), sigma))


class Blur(Perturbation):
    """A mild Gaussian blur in the plane, the same for all sections."""

    type: Literal["blur"] = Field("blur", description="Gaussian blur of all sections alike.")
    sigma: Range = Field((0.0, 2.0), description="Range of the standard deviation in voxels.")
    size: Count = Field(9, ge=3, description="Largest extent of the kernel; it is one of 3, 5, ... up to this.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Every section blurred."""
        size = 3 + 2 * int(integers(generator, 0, (self.size - 3) // 2))
        sigma = float(uniform(generator, *self.sigma))
        return patch.with_raw(gaussian_blur(patch.raw, sigma, size).clamp_(0, 1))


class StrongBlur(Perturbation):
    """Sections out of focus: some of them as a whole, or a rectangle in some of them."""

    type: Literal["strong_blur"] = Field("strong_blur", description="Some sections, or parts of them, out of focus.")
    sigma: Range = Field((0.0, 5.0), description="Range of the standard deviation in voxels, drawn per section.")
    partial: Probability = Field(0.5, description="How often rectangles are blurred; else whole sections.")
    section_probability: Probability = Field(0.5, description="Chance of each section to be blurred as a whole.")
    rectangle_probability: Probability = Field(0.7, description="Chance of each section to have a blurred rectangle.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Chosen sections blurred; a rectangle is blurred by itself, so that it has a visible rim."""
        depth = patch.shape[0]
        sigmas = uniform(generator, *self.sigma, (depth,))
        if not bool(chance(generator, self.partial)):
            sigmas = sigmas * chance(generator, self.section_probability, (depth,))
            return patch.with_raw(gaussian_blur(patch.raw, sigmas).clamp_(0, 1))
        raw = patch.raw.clone()
        for section in chance(generator, self.rectangle_probability, (depth,)).nonzero().flatten().tolist():
            rows, columns = rectangle(generator, patch.shape[1:])
            part = raw[section : section + 1, rows, columns]
            part.copy_(gaussian_blur(part, float(sigmas[section])).clamp_(0, 1))
        return patch.with_raw(raw)


class Sobel(Perturbation):
    """Each section replaced by the strength of its edges, about as bright as before."""

    type: Literal["sobel"] = Field("sobel", description="The edges of each section, in place of its image.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:  # noqa: ARG002  nothing is drawn
        """The Sobel magnitude plus the mean of the section, clipped to [0, 1]."""
        mean = patch.raw.mean(dim=(1, 2), keepdim=True)
        return patch.with_raw((sobel_magnitude(patch.raw) + mean).clamp_(0, 1))
