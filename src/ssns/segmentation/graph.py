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
from dataclasses import dataclass, replace
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
    Pairs,
    Section,
    Tally,
    add_contacts,
    add_histograms,
    count_pairs,
    count_section,
    run_means,
)
from ssns.segmentation.inputs import ONE, AffinityVolume, as_levels
from ssns.space import Triple, triple


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
        far: Table as ``contacts``, of the voxel pairs at offsets beyond the nearest neighbours; regions in contact are
            among its pairs. None: they have not been counted.
        running: Mean affinity of each contact, float32, rounded after each of its voxel pairs as waterz does, (e,). It
            belongs to a whole volume: graphs of blocks, and of regions that merge, have none.
    """

    voxels: NDArray[np.int64]
    contacts: NDArray[np.int64]
    histograms: Histograms | None = None
    far: NDArray[np.int64] | None = None
    running: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        regions: NDArray[Any],
        volume: AffinityVolume,
        *,
        histograms: bool = False,
        far: bool = False,
        running: bool = False,
        origin: Triple = (0, 0, 0),
        lead: Triple = (0, 0, 0),
        threads: int | None = None,
    ) -> RegionGraph:
        """The graph of regions in a volume, or the part of it that a block of the volume adds.

        Args:
            regions: Dense ids (z, y, x), 0 for nothing.
            volume: Their affinities.
            histograms: Whether to count them.
            far: Whether to count the voxel pairs at offsets beyond the nearest neighbours.
            running: Whether to follow the running means.
            origin: Coordinates of the first voxel.
            lead: Planes at the beginning of z, y and x that other blocks count: where there is a block before, as many
                as offsets reach, 1 if no others than the nearest neighbours are counted.
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
            beyond = pool.map(lambda slab: _far_rows(regions, volume, slab, origin, lead), slabs) if far else ()
        voxels = np.sum([each for each, _ in parts], axis=0)
        voxels[0] = 0
        rows = [contacts for _, each in parts for contacts, _ in each]
        levels = [levels for _, each in parts for _, levels in each]
        graph = cls._added(
            voxels, rows, levels if histograms else None, [row for each in beyond for row in each] if far else None
        )
        return replace(graph, running=_running_means(graph, regions, volume)) if running else graph

    @classmethod
    def merged(cls, parts: Iterable[RegionGraph]) -> RegionGraph:
        """The sum of graphs of separate blocks, all of them with histograms or none, and with far pairs or none."""
        graphs = list(parts)
        voxels = np.zeros(max((len(graph.voxels) for graph in graphs), default=1), np.int64)
        for graph in graphs:
            voxels[: len(graph.voxels)] += graph.voxels
        levels = [graph.histograms for graph in graphs if graph.histograms is not None]
        far = [graph.far for graph in graphs if graph.far is not None]
        return cls._added(voxels, [graph.contacts for graph in graphs], levels or None, far or None)

    def contracted(self, merged: NDArray[Any]) -> RegionGraph:
        """The graph of merged regions.

        Args:
            merged: New id of each region, (n + 1,), dense; of region 0, and no other, 0.
        """
        voxels = np.zeros(int(merged.max(initial=0)) + 1, np.int64)
        np.add.at(voxels, merged, self.voxels)
        return self._added(
            voxels,
            [_renamed(self.contacts, merged)],
            None if self.histograms is None else [self.histograms],
            None if self.far is None else [_renamed(self.far, merged)],
        )

    @classmethod
    def _added(
        cls,
        voxels: NDArray[np.int64],
        parts: Sequence[NDArray[np.int64]],
        levels: Sequence[Histograms] | None,
        far: Sequence[NDArray[np.int64]] | None,
    ) -> RegionGraph:
        """Add contacts of the same pair, and their histograms; drop those of a region with itself."""
        contacts, order, groups = _grouped(parts)
        histograms = None if levels is None else Histograms(*add_histograms(_joined(levels), order, groups))
        beyond = None if far is None else add_contacts(*_grouped(far))
        return cls(voxels, add_contacts(contacts, order, groups), histograms, beyond)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """Regions in contact, the smaller id first, (e, 2)."""
        return pairs_of(self.contacts)

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
    def between(self) -> NDArray[np.bool_]:
        """Contacts between sections only, (e,): where fragments are flat, all others are within a section."""
        return np.equal(self.area_xy, 0)

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

    def quantile(self, percent: int) -> NDArray[np.float64]:
        """A quantile of the affinities of each contact, the middle of its bin of 256, (e,).

        Of ``n`` affinities in ascending order it is number ``floor(percent n / 100) + 1``, the last at most.
        """
        assert self.histograms is not None, "they were to be counted"
        starts, bins, counts = self.histograms
        below = np.append(0, np.cumsum(counts, dtype=np.int64))
        wanted = np.minimum(percent * self.area // 100 + 1, self.area)
        return (bins[np.searchsorted(below, below[starts[:-1]] + wanted) - 1] + 0.5) / 256

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean coordinates z, y, x of the voxels of each contact, (e, 3)."""
        return self.contacts[:, POSITION : POSITION + 3] / (2 * self.area)[:, None]


def _running_means(graph: RegionGraph, regions: NDArray[Any], volume: AffinityVolume) -> NDArray[np.float32]:
    """The running mean of each contact, (e,)."""
    means, counts = np.zeros(len(graph.contacts), np.float32), np.zeros(len(graph.contacts), np.int64)
    pairs = np.ascontiguousarray(graph.contacts[:, PAIR])
    before = np.zeros(regions.shape[1:], np.uint32)
    for z, section in enumerate(regions):
        here = np.ascontiguousarray(section, np.uint32)
        run_means(
            means, counts, pairs, here, before, (volume.section(0, z), volume.section(1, z), volume.section(2, z))
        )
        before = here
    return means


def pairs_of(contacts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The two regions of each row of a table of contacts, the smaller id first, (e, 2)."""
    pairs = contacts[:, PAIR]
    return np.stack([pairs >> 32, pairs & 0xFFFFFFFF], axis=1)


def _renamed(contacts: NDArray[np.int64], merged: NDArray[Any]) -> NDArray[np.int64]:
    """A table of contacts with other ids."""
    first, second = np.sort(merged[pairs_of(contacts)].astype(np.int64), axis=1).T
    contacts = contacts.copy()
    contacts[:, PAIR] = first << 32 | second
    return contacts


def _grouped(parts: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of all parts, and how those of two regions are grouped: the arguments of `add_contacts`."""
    contacts = np.concatenate([np.empty((0, COLUMNS), np.int64), *parts])
    pairs = contacts[:, PAIR].copy()
    apart = np.flatnonzero(pairs >> 32 != pairs & 0xFFFFFFFF)
    order = apart[np.argsort(pairs[apart])]
    changes = np.flatnonzero(np.diff(pairs[order], prepend=-1))
    return contacts, order, np.append(changes, len(order))


def _far_rows(
    regions: NDArray[Any], volume: AffinityVolume, slab: NDArray[np.int64], origin: Triple, lead: Triple
) -> list[NDArray[np.int64]]:
    """Rows of the voxel pairs at offsets beyond the nearest neighbours, whose last section is in a slab."""
    tally, rows = Tally.empty(regions.shape[2], histograms=False), []
    for z in slab:
        for channel in volume.far:
            if z < abs(volume.offsets[channel][0]):
                continue
            pairs = _pairs(regions, volume, channel, int(z), origin, lead)
            row = 0
            while row < len(pairs.here):
                row = count_pairs(tally, pairs, row)
                rows.append(tally.taken()[0])
    return rows


def _pairs(regions: NDArray[Any], volume: AffinityVolume, channel: int, z: int, origin: Triple, lead: Triple) -> Pairs:
    """The voxel pairs of one channel whose last section is z, and the other one in the volume.

    A pair belongs to the block of its last coordinates along z, y and x, of whichever end: only pairs where these are
    beyond the lead are counted, and both ends of them are in the block, which reads as far back as offsets reach.
    """
    offset = volume.offsets[channel]
    ahead = [max(0, step) for step in offset]
    first = [max(0, -step, planes - far) for step, planes, far in zip(offset, lead, ahead, strict=True)]
    here = [slice(a, max(a, n - far)) for a, n, far in zip(first, regions.shape, ahead, strict=True)]
    there = [slice(part.start + step, part.stop + step) for part, step in zip(here, offset, strict=True)]
    begin, end = z - ahead[0], z - ahead[0] + offset[0]
    levels = as_levels(np.ascontiguousarray(volume.values[channel, begin][here[1], here[2]]))
    return Pairs(
        here=np.ascontiguousarray(regions[begin][here[1], here[2]], np.uint32),
        there=np.ascontiguousarray(regions[end][there[1], there[2]], np.uint32),
        levels=levels,
        unit=ONE // int(np.iinfo(levels.dtype).max),
        area=AREA_Z if offset[0] else AREA_XY,
        at=triple(2 * (o + a) + step for o, a, step in zip(origin, (begin, *first[1:]), offset, strict=True)),
    )


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
