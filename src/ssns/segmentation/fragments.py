"""Fragments: an over-segmentation by seeded watershed, whose pieces are never cut again.

Sections are independent, and threads share them, unless a volume is flooded as a whole. Steps work on arrays of either
number of axes: a part is a section (y, x), or the volume (z, y, x).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import maximum_filter

from ssns.segmentation.flooding import Labels, flood, flood_rising, ranks, stretched
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.maxima import regional_maxima, squared_distance
from ssns.segmentation.mutex import MutexWatershed
from ssns.segmentation.relabelling import relabel
from ssns.settings import Component

Floats = NDArray[np.float32]
"""Of a part: its affinities, or its boundary strength, 0 inside of a neuron and 1 on a membrane."""
Mask = NDArray[np.bool_]

_DIMENSIONS = "2: each section by itself, from affinities along y and x; 3: the volume as a whole, from all three"


class MaximaSeeds(Component):
    """Seeds where the squared distance to the boundary has a regional maximum."""

    type: Literal["maxima_distance"] = "maxima_distance"
    boundary: float = Field(default=0.5, gt=0, le=1, description="Boundary strength from which on a pixel is boundary")

    def seeds(self, boundary: Floats) -> Labels:
        """Seed ids 1 .. n of a part, 0 elsewhere."""
        return regional_maxima(squared_distance(boundary < self.boundary))


class MinimaSeeds(Component):
    """Seeds at the regional minima of the boundary strength."""

    type: Literal["minima"] = "minima"

    def seeds(self, boundary: Floats) -> Labels:
        """Seed ids 1 .. n of a part, 0 elsewhere."""
        return regional_maxima(-boundary)


class GridSeeds(Component):
    """Seeds on a grid of squares, or of cubes."""

    type: Literal["grid"] = "grid"
    spacing: int = Field(default=10, ge=1, description="Voxels from one seed to the next along each axis")

    def seeds(self, boundary: Floats) -> Labels:
        """Seed ids 1 .. n of a part, 0 elsewhere."""
        seeds = np.zeros(boundary.shape, dtype=np.uint32)
        nodes = seeds[(slice(None, None, self.spacing),) * seeds.ndim]
        nodes[...] = np.arange(1, nodes.size + 1).reshape(nodes.shape)
        return seeds


Seeds = Annotated[MaximaSeeds | MinimaSeeds | GridSeeds, Field(discriminator="type")]


class SeededWatershed(Component):
    """Watershed of the boundary strength, 1 minus the mean affinity, as the paper has it (reference 8.1)."""

    type: Literal["seeded_watershed"] = "seeded_watershed"
    seeds: Seeds = Field(default=MaximaSeeds(), description="Where fragments start")
    dimensions: Literal[2, 3] = Field(default=2, description=_DIMENSIONS)
    mask_fragments: float | None = Field(
        default=None, ge=0, le=1, description="Voxels whose mean affinity is below it stay 0; none: no such"
    )

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:
        """Fragments; of sections, no id is in two.

        Args:
            volume: Affinities and mask.
            threads: Sections worked on at a time. None: one per core.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask, and below ``mask_fragments``.
        """
        return _labelled(self._label, _mean, volume, self.dimensions, threads)

    def _label(self, affinity: Floats, mask: Mask | None) -> Labels:
        boundary = _walled(1 - affinity, mask)
        labels = flood(_levels(boundary), self.seeds.seeds(boundary))
        if self.mask_fragments is None:
            return labels
        labels[affinity < self.mask_fragments] = 0
        return relabel(labels).astype(np.uint32, copy=False)


class LsdWatershed(Component):
    """Watershed of the distance to the boundary, from its maxima within a window.

    So are the fragments of local shape descriptors made (Sheridan et al. 2023, doi 10.1038/s41592-022-01711-z). The
    boundary strength is 1 minus the mean affinity; distances are in voxels, whatever their size.
    """

    type: Literal["lsd_watershed"] = "lsd_watershed"
    dimensions: Literal[2, 3] = Field(default=3, description=_DIMENSIONS)
    boundary: float = Field(default=0.5, gt=0, le=1, description="Boundary strength from which on a voxel is boundary")
    window: int = Field(default=10, ge=1, description="Voxels along each axis of the window that has one maximum")
    minimum_affinity: float = Field(default=0, ge=0, le=1, description="Fragments of a lower mean affinity become 0")

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:
        """Fragments; of sections, no id is in two.

        Args:
            volume: Affinities and mask.
            threads: Sections worked on at a time. None: one per core.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask, and where ``minimum_affinity`` is not reached.
        """
        return _labelled(self._label, _mean, volume, self.dimensions, threads)

    def _label(self, affinity: Floats, mask: Mask | None) -> Labels:
        distance = squared_distance(_walled(1 - affinity, mask) < self.boundary)
        maxima = distance == maximum_filter(distance, self.window)
        depths = ranks((distance.max() - distance).astype(np.uint32))
        labels = flood(depths, _connected(maxima))
        if self.minimum_affinity == 0:
            return labels
        inside = labels if mask is None else np.where(mask, labels, 0)
        counts, totals = np.bincount(inside.ravel()), np.bincount(inside.ravel(), affinity.ravel())
        low = totals < self.minimum_affinity * counts
        return relabel(np.where(low[labels], 0, labels)).astype(np.uint32, copy=False)


class DistanceTransformWatershed(Component):
    """Watershed of smoothed boundaries and their distance transform, as python-elf has it (reference 8.2).

    The boundary strength is 1 minus the lowest affinity.
    """

    type: Literal["distance_transform_watershed"] = "distance_transform_watershed"
    dimensions: Literal[2, 3] = Field(default=2, description=_DIMENSIONS)
    boundary: float = Field(default=0.25, ge=0, lt=1, description="Boundary strength above which a pixel is boundary")
    sigma_seeds: float = Field(
        default=2.0, gt=0, description="Pixels by which the distance is smoothed before its maxima"
    )
    sigma_weights: float = Field(default=2.0, gt=0, description="Pixels by which the boundary strength is smoothed")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the boundary strength against the distance")
    minimum_size: int = Field(default=100, ge=0, description="Smaller fragments are given to others")

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:
        """Fragments; of sections, no id is in two.

        Args:
            volume: Affinities and mask.
            threads: Sections worked on at a time. None: one per core.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask.
        """
        return _labelled(self._label, _lowest, volume, self.dimensions, threads)

    def _label(self, affinity: Floats, mask: Mask | None) -> Labels:
        boundary = _walled(1 - affinity, mask)
        inside = boundary <= self.boundary
        if inside.all() or not inside.any():
            return np.ones(boundary.shape, dtype=np.uint32)
        levels, seeds = self._landscape(boundary, inside)
        labels = flood_rising(levels, seeds)
        sizes = np.bincount(labels.ravel())
        # The largest stays whatever its size: a part must keep a seed.
        small = sizes < min(self.minimum_size, sizes.max())
        if not small[1:].any():
            return labels
        kept = np.arange(sizes.size)
        kept[small] = 0
        return flood_rising(levels, relabel(kept).astype(np.uint32)[labels])

    def _landscape(self, boundary: Floats, inside: Mask) -> tuple[Labels, Labels]:
        """Levels, of boundary strength and nearness to a boundary; and seeds, local maxima of the distance to any."""
        distance = np.sqrt(squared_distance(inside), dtype=np.float32)
        distance = bioimage_cpp.filters.gaussian_smoothing(distance, self.sigma_seeds)
        smooth = bioimage_cpp.filters.gaussian_smoothing(boundary, self.sigma_weights)
        nearness = 1 - (distance - distance.min()) / distance.max()
        levels = stretched(self.alpha * smooth + (1 - self.alpha) * nearness)
        maxima = (distance == maximum_filter(distance, 3)) & (distance > distance.min())
        return levels, _connected(maxima, diagonal=True)


Fragments = Annotated[
    SeededWatershed | LsdWatershed | DistanceTransformWatershed | MutexWatershed, Field(discriminator="type")
]


def _mean(volume: AffinityVolume, axes: tuple[int, ...], z: int) -> Floats:
    """The mean affinity along some axes, of one section."""
    total = volume.section(axes[0], z) + volume.section(axes[1], z)
    for axis in axes[2:]:
        total += volume.section(axis, z)
    mean: Floats = total / np.float32(len(axes))
    return mean


def _lowest(volume: AffinityVolume, axes: tuple[int, ...], z: int) -> Floats:
    """The lowest affinity along some axes, of one section."""
    lowest: Floats = np.minimum.reduce([volume.section(axis, z) for axis in axes])
    return lowest


def _walled(boundary: Floats, mask: Mask | None) -> Floats:
    """The boundary strength with full strength where there is nothing to segment."""
    return boundary if mask is None else np.where(mask, boundary, np.float32(1))


def _levels(boundary: Floats) -> Labels:
    """Ranks of the boundary strength: ``1 - a`` of a float32 ``a`` is a whole multiple of 2^-24."""
    return ranks((boundary * np.float32(1 << 24)).astype(np.uint32))


def _connected(pixels: Mask, *, diagonal: bool = False) -> Labels:
    """Ids of the pieces that are connected along the axes, or over edges and corners too."""
    connectivity = pixels.ndim if diagonal else 1
    labels: Labels = bioimage_cpp.segmentation.label(pixels, connectivity=connectivity).astype(np.uint32)
    return labels


def _labelled(
    label: Callable[[Floats, Mask | None], Labels],
    affinity: Callable[[AffinityVolume, tuple[int, ...], int], Floats],
    volume: AffinityVolume,
    dimensions: Literal[2, 3],
    threads: int | None,
) -> NDArray[np.uint32]:
    """Label all sections, or the volume, and give them separate, dense ids."""

    def dense(part: Floats, mask: Mask | None) -> Labels:
        labels = label(part, mask)
        if mask is None:
            return labels
        # A fragment that reached across masked voxels is several fragments.
        pieces: Labels = bioimage_cpp.segmentation.label(np.where(mask, labels, 0), connectivity=1).astype(np.uint32)
        return pieces

    if dimensions == 3:
        return dense(np.stack([affinity(volume, (0, 1, 2), z) for z in range(volume.shape[0])]), volume.mask)
    result = np.empty(volume.shape, dtype=np.uint32)

    def section(z: int) -> int:
        result[z] = dense(affinity(volume, (1, 2), z), None if volume.mask is None else volume.mask[z])
        return int(result[z].max())

    def renumber(z: int) -> None:
        np.add(result[z], offsets[z], out=result[z], where=result[z] > 0)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        counts = list(pool.map(section, range(len(result))))
        offsets = np.cumsum([0, *counts[:-1]], dtype=np.uint32)
        list(pool.map(renumber, range(len(result))))
    return result
