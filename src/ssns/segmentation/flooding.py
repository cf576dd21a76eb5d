"""Seeded watershed: labels spread from voxel to voxel, over the lowest land first.

1. Heights are whole levels. Each has a queue of labelled voxels; there is room in it for all voxels of that height.
2. A voxel of the lowest level where any waits gives its label to each neighbour that has none, which waits in turn.

Which of equals goes first, and what happens where the land falls again, differs between libraries, and results hang on
it: `flood` is mahotas' (the paper's), `flood_rising` is bioimage-cpp's (python-elf's).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled
from ssns.segmentation.frames import framed, steps, unframed

Levels = NDArray[np.uint32]
"""Heights in whole steps, 0 .. 2^32 - 2; memory grows with the highest."""
Labels = NDArray[np.uint32]
"""Ids, 0 for none."""
Queues = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]
"""Voxels of all levels (voxels,), and where the queue of each level begins and ends in it (levels + 1,)."""

Bits = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]
"""Which levels have voxels that wait, 64 in a word; then which words are not 0, 64 in one; and once more."""

_DONE = np.uint32(0xFFFFFFFF)
"""Level of what has a label, and of the frame: nothing flows there."""
_ONE = np.uint64(1)
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Its products with powers of 2 differ in their upper six bits."""
_BIT_OF = np.empty(64, np.int64)
_BIT_OF[(_DE_BRUIJN << np.arange(64, dtype=np.uint64)) >> np.uint64(58)] = np.arange(64)


def flood(levels: Levels, labels: Labels) -> Labels:
    """Spread labels over all voxels that have none, to neighbours along the axes.

    Of equals, the one that was reached first; seeds are reached in their order. Lower land comes first wherever it is
    met.

    Args:
        levels: Height of each voxel.
        labels: Seeds, same shape.

    Returns:
        Same shape; 0 throughout if there are no seeds.
    """
    heights, owners = framed(levels, _DONE), framed(labels, 0)
    _flood(heights.ravel(), owners.ravel(), steps(owners.shape).astype(np.uint64), int(levels.max()) + 1)
    return np.ascontiguousarray(unframed(owners))


def flood_rising(levels: Levels, labels: Labels) -> Labels:
    """As `flood`, but it never sinks: lower land that is met counts as of the level that it has risen to.

    Of equals, the one that was reached last.
    """
    heights, owners = framed(levels, _DONE), framed(labels, 0)
    each = steps(owners.shape)
    to_neighbours = np.stack([each, each[::-1]], axis=1)[: labels.ndim].ravel()  # To and fro along z, then y, then x.
    _flood_rising(heights.ravel(), owners.ravel(), to_neighbours.astype(np.uint64), int(levels.max()) + 1)
    return np.ascontiguousarray(unframed(owners))


@compiled
def _flood(levels: Levels, owners: Labels, to_neighbours: NDArray[np.uint64], count: int) -> None:
    """As `flood`, in place, in a flat frame; there are ``count`` levels."""
    queue, begin, end = _start(levels, owners, to_neighbours, count)
    words = (count + 63) // 64
    bits = np.zeros(words, np.uint64), np.zeros((words + 63) // 64, np.uint64), np.zeros(words // 4096 + 1, np.uint64)
    for level in range(count):
        if begin[level] < end[level]:
            _mark(bits, level)
    level = 0
    while True:
        if begin[level] == end[level]:
            _unmark(bits, level)
            level = _lowest(bits)
            if level < 0:
                return
            continue
        voxel = np.uint64(queue[begin[level]])
        begin[level] += np.uint32(1)
        owner, lowest = owners[voxel], level
        for step in to_neighbours:
            near = voxel + step
            if levels[near] != _DONE:
                own = int(levels[near])
                levels[near] = _DONE
                owners[near] = owner
                if begin[own] == end[own]:
                    _mark(bits, own)
                queue[end[own]] = near
                end[own] += np.uint32(1)
                lowest = min(lowest, own)
        level = lowest


@compiled
def _flood_rising(levels: Levels, owners: Labels, to_neighbours: NDArray[np.uint64], count: int) -> None:
    """As `flood_rising`, in place, in a flat frame; there are ``count`` levels."""
    queue, begin, end = _start(levels, owners, to_neighbours, count)
    present, size = (
        np.empty(queue.size, np.uint32),
        0,
    )  # What was reached at this level lies on top of what waited there.
    for level in range(count):
        while size > 0 or end[level] > begin[level]:
            if size > 0:
                size -= 1
                voxel = np.uint64(present[size])
            else:
                end[level] -= np.uint32(1)
                voxel = np.uint64(queue[end[level]])
            owner = owners[voxel]
            for step in to_neighbours:
                near = voxel + step
                if levels[near] != _DONE:
                    own = int(levels[near])
                    levels[near] = _DONE
                    owners[near] = owner
                    if own <= level:
                        present[size] = near
                        size += 1
                    else:
                        queue[end[own]] = near
                        end[own] += np.uint32(1)


@compiled
def _start(levels: Levels, owners: Labels, to_neighbours: NDArray[np.uint64], count: int) -> Queues:
    """Queues of all voxels that have a label, save those that have no neighbour to give it to."""
    end = np.zeros(count + 1, np.uint32)
    for level in levels:
        if level != _DONE:
            end[np.int64(level) + 1] += np.uint32(1)
    for level in range(count):
        end[level + 1] += end[level]
    begin, queue = end.copy(), np.empty(end[count], np.uint32)
    for voxel in range(np.uint64(levels.size)):
        if owners[voxel] != 0:
            for step in to_neighbours:
                if owners[voxel + step] == 0 and levels[voxel + step] != _DONE:
                    queue[end[levels[voxel]]] = voxel
                    end[levels[voxel]] += np.uint32(1)
                    break
    for voxel in range(np.uint64(levels.size)):
        if owners[voxel] != 0:
            levels[voxel] = _DONE
    return queue, begin, end


@compiled
def _mark(bits: Bits, level: int) -> None:
    for each in bits:
        each[level >> 6] |= _ONE << np.uint64(level & 63)
        level >>= 6


@compiled
def _unmark(bits: Bits, level: int) -> None:
    for each in bits:
        each[level >> 6] &= ~(_ONE << np.uint64(level & 63))
        if each[level >> 6] != 0:
            return
        level >>= 6


@compiled
def _lowest(bits: Bits) -> int:
    """The lowest level that is marked, -1 if none is."""
    first, second, third = bits
    for top in range(third.size):
        if third[top] != 0:
            word = top << 6 | _first_bit(third[top])
            word = word << 6 | _first_bit(second[word])
            return word << 6 | _first_bit(first[word])
    return -1


@compiled
def _first_bit(word: np.uint64) -> int:
    """The lowest bit that is set."""
    return int(_BIT_OF[int((word & (~word + _ONE)) * _DE_BRUIJN >> np.uint64(58))])


@compiled
def ranks(values: Levels) -> Levels:
    """Replace values by their ranks: 0 for the smallest, equals alike, no rank left out.

    Args:
        values: Contiguous; memory grows with the largest, by 3 bytes for 16.

    Returns:
        Same shape.
    """
    flat = values.reshape(-1)
    present = np.zeros((np.int64(flat.max()) >> 6) + 1, np.uint64)
    for value in flat:
        present[value >> 6] |= _ONE << np.uint64(value & 63)
    before = np.empty(present.size, np.uint32)
    count = 0
    for word in range(present.size):
        before[word] = count
        if present[word] != 0:
            count += _ones(present[word])
    result = np.empty(flat.size, np.uint32)
    for i in range(flat.size):
        word = flat[i] >> 6
        below = (_ONE << np.uint64(flat[i] & 63)) - _ONE
        result[i] = before[word] + _ones(present[word] & below)
    return result.reshape(values.shape)


@compiled
def _ones(word: np.uint64) -> int:
    """How many bits are set: of 2, of 4, of 8 beside each other, and then of all."""
    pairs = word - (word >> _ONE & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + (pairs >> np.uint64(2) & np.uint64(0x3333333333333333))
    bytes_ = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int(bytes_ * np.uint64(0x0101010101010101) >> np.uint64(56))


@compiled
def stretched(heights: NDArray[np.float32]) -> Levels:
    """Levels 0 .. 65535 of heights, from the lowest to the highest.

    Args:
        heights: Contiguous.

    Returns:
        Same shape; 0 throughout if the land is flat.
    """
    flat = heights.reshape(-1)
    low, high = np.float64(flat.min()), np.float64(flat.max())
    levels = np.zeros(flat.size, np.uint32)
    if low < high:
        scale = 65535 / (high - low)
        for i in range(flat.size):
            levels[i] = np.uint32((np.float64(flat[i]) - low) * scale)
    return levels.reshape(heights.shape)
