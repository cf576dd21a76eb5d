"""The graph of touching regions, with statistics in integers that add up when regions merge or blocks are joined.

1. Slabs of sections are shared among threads. Each section is counted by itself (`contacts`), which gives rows: one per
   pair of regions, or several where the compiled tally had to be emptied in between.
2. Rows of all sections are sorted by their pair, and those of the same pair are added.
3. Graphs of blocks are added in the same way, and so are the contacts of regions that merge.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.segmentation.contacts import (
    AREA_XY,
    AREA_Z,
    COLUMNS,
    MAXIMUM,
    PAIR,
    POSITION,
    TOTAL,
    Histograms,
    Section,
    Tally,
    add_contacts,
    add_histograms,
    count_section,
)
from ssns.segmentation.inputs import ONE, AffinityVolume
from ssns.space import Triple


@dataclass(frozen=True, eq=False)
class RegionGraph:
    """Regions 1 .. n and their contacts. Region 0 is nothing: it has no contacts.

    A contact is made of pairs of neighbouring voxels, one in each region. Affinities are levels of 0 .. 65535 (see
    `AffinityVolume.levels`).

    Attributes:
        voxels: Size of each region, (n + 1,), 0 for region 0.
        contacts: Table of contacts (e, 8), sorted by the pair of regions, which is unique; the columns are read through
            the properties below.
        histograms: Levels of each contact. None: they have not been counted.
    """

    voxels: NDArray[np.int64]
    contacts: NDArray[np.int64]
    histograms: Histograms | None = None

    @classmethod
    def of(
        cls,
        regions: NDArray[Any],
        volume: AffinityVolume,
        *,
        histograms: bool = False,
        origin: Triple = (0, 0, 0),
        lead: Triple = (0, 0, 0),
        threads: int | None = None,
    ) -> RegionGraph:
        """The graph of regions in a volume, or the part of it that a block of the volume adds.

        Args:
            regions: Dense ids (z, y, x), 0 for nothing.
            volume: Their affinities.
            histograms: Whether to count them.
            origin: Coordinates of the first voxel.
            lead: Planes at the beginning of z, y and x that other blocks count: 1 where there is a block before.
            threads: None: one per core.
        """
        count = int(regions.max(initial=0))
        slabs = np.array_split(np.arange(lead[0], len(regions)), threads or os.cpu_count() or 1)

        def counted(slab: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[NDArray[np.int64], Histograms]]]:
            voxels, rows = np.zeros(count + 1, np.int64), []
            tally = Tally.empty(regions.shape[2], histograms=histograms)
            for z in slab:
                section = _section(regions, volume, int(z), origin, lead)
                row = lead[1]
                while row < len(section.regions):
                    row = count_section(tally, voxels, section, row)
                    rows.append(tally.taken())
            return voxels, rows

        with ThreadPoolExecutor(len(slabs)) as pool:
            parts = list(pool.map(counted, slabs))
        voxels = np.sum([each for each, _ in parts], axis=0)
        voxels[0] = 0
        rows = [contacts for _, each in parts for contacts, _ in each]
        return cls._added(voxels, rows, [levels for _, each in parts for _, levels in each] if histograms else None)

    @classmethod
    def merged(cls, parts: Iterable[RegionGraph]) -> RegionGraph:
        """The sum of graphs of separate blocks, all of them with histograms or none."""
        graphs = list(parts)
        voxels = np.zeros(max((len(graph.voxels) for graph in graphs), default=1), np.int64)
        for graph in graphs:
            voxels[: len(graph.voxels)] += graph.voxels
        levels = [graph.histograms for graph in graphs if graph.histograms is not None]
        return cls._added(voxels, [graph.contacts for graph in graphs], levels or None)

    def contracted(self, merged: NDArray[Any]) -> RegionGraph:
        """The graph of merged regions.

        Args:
            merged: New id of each region, (n + 1,), dense; of region 0, and no other, 0.
        """
        voxels = np.zeros(int(merged.max(initial=0)) + 1, np.int64)
        np.add.at(voxels, merged, self.voxels)
        first, second = np.sort(merged[self.pairs].astype(np.int64), axis=1).T
        contacts = self.contacts.copy()
        contacts[:, PAIR] = first << 32 | second
        return self._added(voxels, [contacts], None if self.histograms is None else [self.histograms])

    @classmethod
    def _added(
        cls, voxels: NDArray[np.int64], parts: Sequence[NDArray[np.int64]], levels: Sequence[Histograms] | None
    ) -> RegionGraph:
        """Add contacts of the same pair, and their histograms; drop those of a region with itself."""
        contacts = np.concatenate([np.empty((0, COLUMNS), np.int64), *parts])
        pairs = contacts[:, PAIR].copy()
        apart = np.flatnonzero(pairs >> 32 != pairs & 0xFFFFFFFF)
        order = apart[np.argsort(pairs[apart])]
        changes = np.flatnonzero(np.diff(pairs[order], prepend=-1))
        groups = np.append(changes, len(order))
        histograms = None if levels is None else Histograms(*add_histograms(_joined(levels), order, groups))
        return cls(voxels, add_contacts(contacts, order, groups), histograms)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """Regions in contact, the smaller id first, (e, 2)."""
        pairs = self.contacts[:, PAIR]
        return np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1)

    @property
    def area_z(self) -> NDArray[np.int64]:
        """Voxel pairs along z of each contact, (e,)."""
        return self.contacts[:, AREA_Z]

    @property
    def area_xy(self) -> NDArray[np.int64]:
        """Voxel pairs within sections of each contact, (e,)."""
        return self.contacts[:, AREA_XY]

    @property
    def area(self) -> NDArray[np.int64]:
        """All voxel pairs of each contact, (e,)."""
        return self.area_z + self.area_xy

    @property
    def total(self) -> NDArray[np.int64]:
        """Sum of the levels of each contact, (e,)."""
        return self.contacts[:, TOTAL]

    @property
    def maximum(self) -> NDArray[np.int64]:
        """Highest level of each contact, (e,)."""
        return self.contacts[:, MAXIMUM]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean affinity of each contact, 0 to 1, (e,)."""
        return self.total / (ONE * self.area)

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean coordinates z, y, x of the voxels of each contact, (e, 3)."""
        return self.contacts[:, POSITION : POSITION + 3] / (2 * self.area)[:, None]


def _section(regions: NDArray[Any], volume: AffinityVolume, z: int, origin: Triple, lead: Triple) -> Section:
    """What is counted in one section."""
    here = np.ascontiguousarray(regions[z], np.uint32)
    along_z, along_y, along_x = (volume.levels(axis, z) for axis in range(3))
    return Section(
        regions=here,
        before=np.ascontiguousarray(regions[z - 1], np.uint32) if z else np.zeros_like(here),
        along_z=along_z,
        along_y=along_y,
        along_x=along_x,
        unit=ONE // int(np.iinfo(along_z.dtype).max),
        place=(origin[0] + z, origin[1], origin[2]),
        lead=lead[1:],
    )


def _joined(parts: Sequence[Histograms]) -> Histograms:
    """The histograms of all parts, in a row."""
    lengths = [np.diff(part.starts) for part in parts]
    return Histograms(
        np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
        np.concatenate([np.empty(0, np.uint8), *(part.bins for part in parts)]),
        np.concatenate([np.empty(0, np.uint32), *(part.counts for part in parts)]),
    )
