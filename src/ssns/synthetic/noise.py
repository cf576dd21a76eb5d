"""Noise that is a function of position and seed, so that any block of it can be made alone.

Everything is hashed from whole coordinates: the same voxel has the same value in whatever block it is made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ssns.kernels import compiled

TRUNCATE = 3.0
"""Gaussian filters end at this many standard deviations."""


@compiled
def _hash(seed: int, z: int, y: int, x: int) -> np.uint64:
    """64 well-mixed bits (splitmix64's finisher over the coordinates, one after the other)."""
    value = np.uint64(seed)
    for coordinate in (z, y, x):
        value = (value ^ np.uint64(coordinate)) + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    return value


@compiled
def _fill_white(out: NDArray[np.float32], seed: int, sections: NDArray[np.int64], y_start: int, x_start: int) -> None:
    quarter = np.uint64(0xFFFF)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                bits = _hash(seed, sections[z], y_start + y, x_start + x)
                total = bits & quarter
                for part in range(1, 4):
                    total += (bits >> np.uint64(16 * part)) & quarter
                # The sum of four uniform numbers has variance 4/12 and is near enough to normal.
                out[z, y, x] = (np.float64(total) / 65535.0 - 2.0) * 1.7320508075688772


@compiled
def _fill_lattice(out: NDArray[np.float64], points: NDArray[np.float64], seed: int, spacing: float) -> None:
    corner = np.empty(3, np.int64)
    weight = np.empty((2, 3))
    for index in range(points.shape[0]):
        for axis in range(3):
            scaled = points[index, axis] / spacing
            corner[axis] = int(np.floor(scaled))
            t = scaled - corner[axis]
            weight[1, axis] = t * t * t * (t * (6.0 * t - 15.0) + 10.0)
            weight[0, axis] = 1.0 - weight[1, axis]
        value = 0.0
        for dz in range(2):
            for dy in range(2):
                for dx in range(2):
                    bits = _hash(seed, corner[0] + dz, corner[1] + dy, corner[2] + dx)
                    height = np.float64(bits >> np.uint64(11)) / 4503599627370496.0 - 1.0
                    value += weight[dz, 0] * weight[dy, 1] * weight[dx, 2] * height
        out[index] = value


def white(
    seed: int, sections: NDArray[np.int64], start: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Independent values of mean 0 and variance 1, nearly normal, one per voxel.

    Args:
        seed: Another seed is another noise.
        sections: Index of each section (n,).
        start: First voxel along y, x; may be negative.
        shape: Extent along y, x.

    Returns:
        float32 (n, y, x).
    """
    out = np.empty((len(sections), *shape), np.float32)
    _fill_white(out, seed, sections, start[0], start[1])
    return out


def lattice(seed: int, points: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """Smooth values in -1..1: random ones on a cubic lattice, blended with continuous first and second derivatives.

    Args:
        seed: Another seed is another noise.
        points: Positions (..., 3), z, y, x in nm.
        spacing: Of the lattice in nm.

    Returns:
        float64 of shape (...).
    """
    out = np.empty(points.shape[:-1])
    _fill_lattice(out.reshape(-1), np.ascontiguousarray(points).reshape(-1, 3), seed, spacing)
    return out


def reach(sigma: float) -> int:
    """Voxels on each side that ``blur`` reads."""
    return int(TRUNCATE * sigma + 0.5)


def blur(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian filter in the plane; ``reach(sigma)`` voxels at the in-plane faces are cut away.

    Args:
        image: float32 (..., y, x).
        sigma: Standard deviation in voxels.

    Returns:
        float32, smaller by ``2 * reach(sigma)`` along y and x.
    """
    radius = reach(sigma)
    for axis in (-2, -1):
        image = gaussian_filter1d(image, sigma, axis=axis, truncate=TRUNCATE)
    inner = slice(radius, -radius or None)
    return image[..., inner, inner]


def smooth(
    seed: int, sections: NDArray[np.int64], start: tuple[int, int], shape: tuple[int, int], sigma: float
) -> NDArray[np.float32]:
    """White noise blurred by ``sigma`` voxels in the plane, of variance 1 again; arguments as of ``white``."""
    margin = reach(sigma)
    larger = white(
        seed, sections, (start[0] - margin, start[1] - margin), (shape[0] + 2 * margin, shape[1] + 2 * margin)
    )
    impulse = np.zeros((2 * margin + 1, 2 * margin + 1), np.float32)
    impulse[margin, margin] = 1.0
    for axis in (0, 1):
        impulse = gaussian_filter1d(impulse, sigma, axis=axis, truncate=TRUNCATE)
    gain = np.float32(1.0 / np.sqrt(float((impulse.astype(np.float64) ** 2).sum())))
    return blur(larger, sigma) * gain
