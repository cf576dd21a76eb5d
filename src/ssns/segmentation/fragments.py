"""Fragments: an over-segmentation by seeded watershed of each section, whose pieces are never cut again.

Sections are independent, and both libraries release the interpreter for most of the work: threads share them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import bioimage_cpp
import mahotas
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import Ids, relabel
from ssns.settings import Component

Boundary = NDArray[np.float32]
"""Boundary strength of one section (y, x): 0 inside of a neuron, 1 on a membrane."""


class MaximaSeeds(Component):
    """Seeds where the squared distance to the boundary has a regional maximum."""

    type: Literal["maxima_distance"] = "maxima_distance"
    boundary: float = Field(default=0.5, gt=0, le=1, description="Boundary strength from which on a pixel is boundary")

    def seeds(self, boundary: Boundary) -> NDArray[Any]:
        """Seed ids 1 .. n (y, x), 0 elsewhere."""
        distance = mahotas.distance(boundary < self.boundary)
        return _connected(mahotas.regmax(distance))


class MinimaSeeds(Component):
    """Seeds at the regional minima of the boundary strength."""

    type: Literal["minima"] = "minima"

    def seeds(self, boundary: Boundary) -> NDArray[Any]:
        """Seed ids 1 .. n (y, x), 0 elsewhere."""
        return _connected(mahotas.regmin(boundary))


class GridSeeds(Component):
    """Seeds on a square grid."""

    type: Literal["grid"] = "grid"
    spacing: int = Field(default=10, ge=1, description="Pixels from one seed to the next along y and x")

    def seeds(self, boundary: Boundary) -> NDArray[Any]:
        """Seed ids 1 .. n (y, x), 0 elsewhere."""
        seeds = np.zeros(boundary.shape, dtype=np.int64)
        nodes = seeds[:: self.spacing, :: self.spacing]
        nodes[...] = np.arange(1, nodes.size + 1).reshape(nodes.shape)
        return seeds


Seeds = Annotated[MaximaSeeds | MinimaSeeds | GridSeeds, Field(discriminator="type")]


class SeededWatershed(Component):
    """Watershed of the boundary strength 1 - (y affinity + x affinity) / 2, as the paper has it (reference 8.1)."""

    type: Literal["seeded_watershed"] = "seeded_watershed"
    seeds: Seeds = Field(default=MaximaSeeds(), description="Where fragments start")
    mask_fragments: float | None = Field(
        default=None, ge=0, le=1, description="Pixels whose mean of y and x affinity is below it stay 0; none: no such"
    )

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:
        """Fragments of each section, no id in two of them.

        Args:
            volume: Affinities and mask.
            threads: Sections worked on at a time. None: one per core.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask, and below ``mask_fragments``.
        """

        def section(z: int) -> NDArray[Any]:
            inside = 0.5 * (volume.section(1, z) + volume.section(2, z))
            boundary = _walled(1 - inside, volume, z)
            labels = mahotas.cwatershed(boundary, self.seeds.seeds(boundary))
            return labels if self.mask_fragments is None else np.where(inside < self.mask_fragments, 0, labels)

        return _stack(section, volume, threads)


class DistanceTransformWatershed(Component):
    """Watershed of smoothed boundaries and their distance transform, as python-elf has it (reference 8.2).

    The boundary strength is the larger of 1 - y affinity and 1 - x affinity.
    """

    type: Literal["distance_transform_watershed"] = "distance_transform_watershed"
    boundary: float = Field(default=0.25, ge=0, lt=1, description="Boundary strength above which a pixel is boundary")
    sigma_seeds: float = Field(
        default=2.0, gt=0, description="Pixels by which the distance is smoothed before its maxima"
    )
    sigma_weights: float = Field(default=2.0, gt=0, description="Pixels by which the boundary strength is smoothed")
    alpha: float = Field(default=0.9, ge=0, le=1, description="Weight of the boundary strength against the distance")
    minimum_size: int = Field(default=100, ge=0, description="Smaller fragments are given to others of the section")

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:
        """Fragments of each section, no id in two of them.

        Args:
            volume: Affinities and mask.
            threads: Sections worked on at a time. None: one per core.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask.
        """

        def section(z: int) -> NDArray[Any]:
            boundary = 1 - np.minimum(volume.section(1, z), volume.section(2, z))
            return self._flood_section(_walled(boundary, volume, z))

        return _stack(section, volume, threads)

    def _flood_section(self, boundary: Boundary) -> NDArray[np.uint32]:
        """Fragments of one section, small ones given to their neighbours."""
        inside = boundary <= self.boundary
        if inside.all() or not inside.any():
            return np.ones(boundary.shape, dtype=np.uint32)
        distance = bioimage_cpp.filters.gaussian_smoothing(
            bioimage_cpp.distance.distance_transform(inside), self.sigma_seeds
        )
        maxima = mahotas.regmax(distance, Bc=np.ones((3, 3), dtype=bool))
        smooth = bioimage_cpp.filters.gaussian_smoothing(boundary, self.sigma_weights)
        nearness = 1 - (distance - distance.min()) / distance.max()
        height = np.asarray(self.alpha * smooth + (1 - self.alpha) * nearness, dtype=np.float32)
        labels = bioimage_cpp.segmentation.watershed(height, _connected(maxima).astype(np.uint32))
        sizes = np.bincount(labels.ravel())
        # The largest stays whatever its size: a section must keep a seed.
        small = sizes < min(self.minimum_size, sizes.max())
        if not small[1:].any():
            return np.asarray(labels)
        return np.asarray(bioimage_cpp.segmentation.watershed(height, np.where(small[labels], np.uint32(0), labels)))


Fragments = Annotated[SeededWatershed | DistanceTransformWatershed, Field(discriminator="type")]


def _connected(pixels: NDArray[np.bool_]) -> NDArray[Any]:
    """Ids of the 4-connected pieces."""
    labels, _ = mahotas.label(pixels)
    return np.asarray(labels)


def _walled(boundary: Boundary, volume: AffinityVolume, z: int) -> Boundary:
    """The boundary strength with full strength where there is nothing to segment."""
    return boundary if volume.mask is None else np.where(volume.mask[z], boundary, np.float32(1))


def _stack(section: Callable[[int], NDArray[Any]], volume: AffinityVolume, threads: int | None) -> NDArray[np.uint32]:
    """Label all sections and give them separate, dense ids."""
    result = np.zeros(volume.shape, dtype=np.uint32)
    count = 0

    def dense(z: int) -> Ids:
        labels = relabel(section(z))
        if volume.mask is None:
            return labels
        # A fragment that reached across masked pixels is several fragments.
        return relabel(bioimage_cpp.segmentation.label(np.where(volume.mask[z], labels, 0), connectivity=1))

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for z, labels in enumerate(pool.map(dense, range(len(result)))):
            result[z] = np.where(labels > 0, labels + np.uint32(count), 0)
            count += int(labels.max())
    return result
