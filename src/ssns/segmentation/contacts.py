"""Contacts between regions, counted section by section: the compiled part of the region graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled

CONTACTS = 1 << 15
"""Contacts counted together, at least: with histograms they take 1 kB each in every thread."""

PAIR, AREA_Z, AREA_XY, TOTAL, POSITION, MAXIMUM = 0, 1, 2, 3, 4, 7
"""Columns of a table of contacts: what is called so in `graph.RegionGraph`, ``POSITION`` being the first of three. A
row is one line of the cache. A pair of regions is one number, which sorts quickly: 2^32 times the smaller id, and the
larger."""
COLUMNS = 8

_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Histograms(NamedTuple):
    """Sparse histograms of 256 bins: that of contact ``i`` is from ``starts[i]`` to ``starts[i + 1]``.

    Attributes:
        starts: Shape (e + 1,).
        bins: Upper byte of a level (k,), ascending within a contact.
        counts: Voxel pairs in that bin (k,), at least 1; no contact in any volume has 2^32.
    """

    starts: NDArray[np.int64]
    bins: NDArray[np.uint8]
    counts: NDArray[np.uint32]


class Section(NamedTuple):
    """What is read of one section.

    Attributes:
        regions: Ids (y, x), 0 for nothing.
        before: Ids of the section before, (y, x); all 0 if there is none.
        along_z: Levels of the affinities to the previous voxel along z, (y, x), uint8 or uint16.
        along_y: Along y.
        along_x: Along x.
        unit: What a level counts: 257 for uint8, 1 for uint16.
        place: Coordinates z, y, x of its first voxel.
        lead: First row and column that are counted.
    """

    regions: NDArray[np.uint32]
    before: NDArray[np.uint32]
    along_z: NDArray[Any]
    along_y: NDArray[Any]
    along_x: NDArray[Any]
    unit: int
    place: tuple[int, int, int]
    lead: tuple[int, int]


class Pairs(NamedTuple):
    """Voxel pairs of one section at one offset.

    Attributes:
        here: Ids at one end (y, x), 0 for nothing.
        there: Ids at the other end, (y, x).
        levels: Levels of their affinities, (y, x), uint8 or uint16.
        unit: What a level counts: 257 for uint8, 1 for uint16.
        area: Column that counts them.
        at: Sum of the coordinates z, y, x of both ends of the first.
    """

    here: NDArray[np.uint32]
    there: NDArray[np.uint32]
    levels: NDArray[Any]
    unit: int
    area: int
    at: tuple[int, int, int]


class Tally(NamedTuple):
    """Contacts counted so far, in order of appearance, with a hash table that finds them by their pair.

    Attributes:
        places: Index + 1 of a contact, 0 where a place is free; their number is a power of 2.
        contacts: Table of contacts (c, 8).
        histograms: Voxel pairs by the upper byte of their level (c, 256), or (0, 256) where they are not counted.
        used: Number of contacts (1,).
    """

    places: NDArray[np.int32]
    contacts: NDArray[np.int64]
    histograms: NDArray[np.uint32]
    used: NDArray[np.int64]

    @classmethod
    def empty(cls, width: int, *, histograms: bool) -> Tally:
        """Room for the contacts of at least one row of ``width`` voxels."""
        size = max(CONTACTS, 3 * width)
        return cls(
            places=np.zeros(2 << size.bit_length(), np.int32),
            contacts=np.zeros((size, COLUMNS), np.int64),
            histograms=np.zeros((size if histograms else 0, 256), np.uint32),
            used=np.zeros(1, np.int64),
        )

    def taken(self) -> tuple[NDArray[np.int64], Histograms]:
        """What has been counted, a table of contacts and their histograms; the tally is empty after it."""
        contacts, histograms = self.contacts[: self.used[0]], self.histograms[: self.used[0]]
        counted = contacts.copy(), Histograms(*_squeeze(histograms))
        for each in (contacts, histograms, self.places, self.used):
            each[...] = 0
        return counted


@compiled
def count_section(tally: Tally, voxels: NDArray[np.int64], section: Section, row: int) -> int:
    """Count the voxels of each region, and the voxel pairs of each contact, from one row of a section on.

    Returns:
        The row to go on with once the tally has been emptied, or the number of rows.
    """
    rows, columns = len(section.regions), section.regions.shape[1]
    first = section.lead[1]
    z, y0, x0 = section.place
    for y in range(row, rows):
        if tally.used[0] + 3 * columns > tally.contacts.shape[0]:
            return y
        here, along_x = section.regions[y], section.along_x[y]
        at = (2 * z - 1, 2 * (y0 + y), 2 * x0)
        _count_row(tally, here, section.before[y], section.along_z[y], section.unit, AREA_Z, at, first)
        if y > 0:
            at = (2 * z, 2 * (y0 + y) - 1, 2 * x0)
            _count_row(tally, here, section.regions[y - 1], section.along_y[y], section.unit, AREA_XY, at, first)
        at = (2 * z, 2 * (y0 + y), 2 * x0 - 1)
        if first > 0:
            _count_run(tally, here[first], here[first - 1], along_x, section.unit, AREA_XY, at, first, first + 1)
        begin = first
        for x in range(first + 1, columns):
            if here[x] != here[begin]:
                _count_run(tally, here[x], here[begin], along_x, section.unit, AREA_XY, at, x, x + 1)
                voxels[here[begin]] += x - begin
                begin = x
        voxels[here[begin]] += columns - begin
    return rows


@compiled
def count_pairs(tally: Tally, pairs: Pairs, row: int) -> int:
    """Count voxel pairs from one row on.

    Returns:
        The row to go on with once the tally has been emptied, or the number of rows.
    """
    rows, columns = len(pairs.here), pairs.here.shape[1]
    z, y0, x0 = pairs.at
    for y in range(row, rows):
        if tally.used[0] + columns > tally.contacts.shape[0]:
            return y
        at = (z, y0 + 2 * y, x0)
        _count_row(tally, pairs.here[y], pairs.there[y], pairs.levels[y], pairs.unit, pairs.area, at, 0)
    return rows


@compiled
def run_means(
    means: NDArray[np.float32],
    counts: NDArray[np.int64],
    pairs: NDArray[np.int64],
    here: NDArray[np.uint32],
    before: NDArray[np.uint32],
    affinities: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Add the voxel pairs of one section to the mean of their contact, one by one, as waterz does.

    Args:
        means: Mean affinity of each contact so far, (e,).
        counts: Voxel pairs so far, (e,).
        pairs: Of contacts as in ``PAIR``, ascending, (e,).
        here: Ids (y, x).
        before: Ids of the section before.
        affinities: To the previous voxel along z, y and x, (y, x) each.
    """
    for y in range(here.shape[0]):
        for x in range(here.shape[1]):
            for axis in range(3):
                if (axis == 1 and y == 0) or (axis == 2 and x == 0):
                    continue
                one = here[y, x]
                other = before[y, x] if axis == 0 else (here[y - 1, x] if axis == 1 else here[y, x - 1])
                if one == other or one == 0 or other == 0:
                    continue
                contact = np.searchsorted(pairs, int(min(one, other)) << 32 | int(max(one, other)))
                affinity = affinities[0][y, x] if axis == 0 else (affinities[1] if axis == 1 else affinities[2])[y, x]
                count = np.float32(counts[contact])
                means[contact] = (affinity + means[contact] * count) / np.float32(counts[contact] + 1)
                counts[contact] += 1


@compiled
def _count_row(
    tally: Tally,
    here: NDArray[np.uint32],
    there: NDArray[np.uint32],
    levels: NDArray[Any],
    unit: int,
    area: int,
    at: tuple[int, int, int],
    first: int,
) -> None:
    """Count the pairs of two rows, run by run: along a run neither id changes."""
    begin = first
    for x in range(first + 1, here.shape[0] + 1):
        if x == here.shape[0] or here[x] != here[begin] or there[x] != there[begin]:
            _count_run(tally, here[begin], there[begin], levels, unit, area, at, begin, x)
            begin = x


@compiled
def _count_run(
    tally: Tally,
    one: int,
    other: int,
    levels: NDArray[Any],
    unit: int,
    area: int,
    at: tuple[int, int, int],
    begin: int,
    end: int,
) -> None:
    """Count a run of voxel pairs of the same two regions; ``at`` has the sum of the coordinates of both at x = 0."""
    if one == other or one == 0 or other == 0:
        return
    index = _find(tally, int(min(one, other)) << 32 | int(max(one, other)))
    total, highest = 0, 0
    for x in range(begin, end):
        level = int(levels[x])
        total += level
        highest = max(highest, level)
    contact, pairs = tally.contacts[index], end - begin
    contact[area] += pairs
    contact[TOTAL] += total * unit
    contact[POSITION] += at[0] * pairs
    contact[POSITION + 1] += at[1] * pairs
    contact[POSITION + 2] += (at[2] + begin + end - 1) * pairs
    contact[MAXIMUM] = max(contact[MAXIMUM], highest * unit)
    if tally.histograms.shape[0] > 0:
        histogram = tally.histograms[index]
        for x in range(begin, end):
            histogram[int(levels[x]) * unit >> 8] += np.uint32(1)


@compiled
def _find(tally: Tally, pair: int) -> int:
    """The index of the contact of a pair, which may be new."""
    mask = tally.places.shape[0] - 1
    place = np.int64(np.uint64(pair) * _SPREAD >> np.uint64(32)) & mask
    while tally.places[place] != 0:
        index = int(tally.places[place]) - 1
        if tally.contacts[index, PAIR] == pair:
            return index
        place = (place + 1) & mask
    index = int(tally.used[0])
    tally.places[place] = index + 1
    tally.contacts[index, PAIR] = pair
    tally.used[0] += 1
    return index


@compiled
def _squeeze(histograms: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint32]]:
    """Drop empty bins; see `Histograms`."""
    starts = np.zeros(histograms.shape[0] + 1, np.int64)
    for i in range(histograms.shape[0]):
        starts[i + 1] = starts[i] + np.sum(histograms[i] > 0)
    bins, counts = np.empty(starts[-1], np.uint8), np.empty(starts[-1], np.uint32)
    for i in range(histograms.shape[0]):
        place = starts[i]
        for level in range(256):
            if histograms[i, level] > 0:
                bins[place], counts[place] = level, histograms[i, level]
                place += 1
    return starts, bins, counts


@compiled
def add_contacts(contacts: NDArray[np.int64], order: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Add the rows of a table of contacts by groups.

    Args:
        contacts: Shape (r, 8).
        order: Rows, those of a group, which are of the same pair, beside each other.
        groups: Where each group begins in ``order``, and its end (g + 1,).

    Returns:
        Shape (g, 8).
    """
    added = np.zeros((groups.shape[0] - 1, COLUMNS), np.int64)
    for group in range(added.shape[0]):
        for row in order[groups[group] : groups[group + 1]]:
            for column in range(PAIR + 1, MAXIMUM):
                added[group, column] += contacts[row, column]
            added[group, MAXIMUM] = max(added[group, MAXIMUM], contacts[row, MAXIMUM])
        added[group, PAIR] = contacts[order[groups[group]], PAIR]
    return added


@compiled
def add_histograms(
    histograms: Histograms, order: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint32]]:
    """Add histograms by groups, as `add_contacts` does."""
    room = 0
    for row in order:
        room += histograms.starts[row + 1] - histograms.starts[row]
    starts, bins, counts = np.zeros(groups.shape[0], np.int64), np.empty(room, np.uint8), np.empty(room, np.uint32)
    total = np.zeros(256, np.uint32)
    place = 0
    for group in range(groups.shape[0] - 1):
        for row in order[groups[group] : groups[group + 1]]:
            for i in range(histograms.starts[row], histograms.starts[row + 1]):
                total[histograms.bins[i]] += histograms.counts[i]
        for level in range(256):
            if total[level] > 0:
                bins[place], counts[place] = level, total[level]
                total[level] = 0
                place += 1
        starts[group + 1] = place
    return starts, bins[:place], counts[:place]
