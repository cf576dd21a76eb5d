"""Nodes change sides between touching segments while that lowers the energy: the compiled part of Kernighan-Lin.

1. Each two segments that touch: of the nodes at their border, the one whose move gains most, or loses least, changes
   sides, and so on, each node once, until ``PATIENCE`` moves have not paid. Moves up to the best sum of gains are kept;
   or the two are joined, where that is better.
2. Each segment: nodes leave it for a new one in the same way.
3. What of a segment does not hang together any more becomes segments of their own.
4. Rounds of this go on until nothing changes. What two segments tell is known as long as neither changes, so they are
   left out: after the first round, few are looked at.

These are the moves of Keuper et al. 2015 (doi 10.1109/ICCV.2015.204). There a chain ends when all nodes have moved, so
that every pair costs the size of both: where a large segment has many small neighbours, that is most of the time.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from ssns.kernels import compiled

PATIENCE = 128
"""Moves after the best sum of gains that are tried."""
LEAST = 1e-7
"""Gains up to this, over the largest cost, are taken for errors of rounding."""

_UNSEEN, _WAITING, _MOVED = 0, 1, 2


class _Partition(NamedTuple):
    """A graph, and segments as linked lists of its nodes.

    Attributes:
        starts: First entry of each node, and the end (n + 1,).
        ends: The node at the other end of each entry (2 e,).
        costs: Cost of cutting it (2 e,).
        labels: Segment of each node (n,).
        first: First node of each segment (n,), -1 if it is empty.
        following: Next node of the same segment (n,), -1 after the last.
        previous: The one before (n,), -1 before the first.
        sizes: Nodes of each segment (n,).
        changed: Round in which it changed last (n,).
        empty: Segments without nodes, a stack (n,).
        room: How many these are (1,).
        states: Whether a node has been seen, and has moved, in the present chain (n,).
        gains: What its move would gain, if it waits (n,).
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    costs: NDArray[np.float64]
    labels: NDArray[np.int32]
    first: NDArray[np.int64]
    following: NDArray[np.int64]
    previous: NDArray[np.int64]
    sizes: NDArray[np.int32]
    changed: NDArray[np.int32]
    empty: NDArray[np.int64]
    room: NDArray[np.int64]
    states: NDArray[np.uint8]
    gains: NDArray[np.float64]

    @classmethod
    def of(cls, pairs: NDArray[np.int64], costs: NDArray[np.float64], labels: NDArray[np.int32]) -> _Partition:
        """Dense labels of the nodes that pairs are of."""
        nodes = len(labels)
        both = np.concatenate([pairs, pairs[:, ::-1]]).T
        graph = coo_array((np.tile(costs, 2), tuple(both)), (nodes, nodes)).tocsr()
        partition = cls(
            starts=graph.indptr.astype(np.int64),
            ends=graph.indices.astype(np.int64),
            costs=graph.data,
            labels=labels,
            first=np.full(nodes, -1),
            following=np.full(nodes, -1),
            previous=np.full(nodes, -1),
            sizes=np.zeros(nodes, np.int32),
            changed=np.zeros(nodes, np.int32),
            empty=np.arange(nodes)[::-1].copy(),
            room=np.array([nodes - 1 - labels.max()]),
            states=np.zeros(nodes, np.uint8),
            gains=np.zeros(nodes),
        )
        _link(partition)
        _separate(partition, 0)
        return partition


def moved(
    pairs: NDArray[np.int64], costs: NDArray[np.float64], labels: NDArray[Any], rounds: int
) -> NDArray[np.uint64]:
    """A partition whose energy is not above that of the one given: if rounds suffice, no move or join lowers it.

    Args:
        pairs: Ends of each edge (e, 2), no pair twice.
        costs: Cost of cutting it (e,): positive where it attracts.
        labels: Segment of each node (n,).
        rounds: Most of them.

    Returns:
        Segment of each node (n,), dense from 0 on; segments are connected.
    """
    partition = _Partition.of(pairs, costs, np.unique(labels, return_inverse=True)[1].astype(np.int32))
    least = LEAST * np.abs(costs).max(initial=0)
    for number in range(1, rounds + 1):
        one, other = partition.labels[pairs].T.astype(np.int64)
        touching = np.unique((np.minimum(one, other) << 32 | np.maximum(one, other))[one != other])
        better = _round(partition, touching, number, least)
        _separate(partition, number)
        if not better:
            break
    return np.unique(partition.labels, return_inverse=True)[1].astype(np.uint64)


@compiled
def _round(partition: _Partition, touching: NDArray[np.int64], number: int, least: float) -> bool:
    """Try all that may have changed since it was tried; whether anything was better."""
    better = False
    for pair in touching:
        one, other = int(pair >> 32), int(pair & 0xFFFFFFFF)
        recent = max(partition.changed[one], partition.changed[other]) >= number - 1
        if recent and min(partition.sizes[one], partition.sizes[other]) > 0:
            better |= _chain(partition, one, other, number, least)
    for one in range(len(partition.first)):
        while partition.changed[one] >= number - 1 and partition.sizes[one] > 1:
            partition.room[0] -= 1
            if not _chain(partition, one, int(partition.empty[partition.room[0]]), number, least):
                partition.room[0] += 1
                break
            better = True
    return better


@compiled
def _chain(partition: _Partition, one: int, other: int, number: int, least: float) -> bool:
    """Move nodes between two segments, of which the second may be empty, or join them; whether that was better."""
    if 0 < partition.sizes[other] < partition.sizes[one]:
        one, other = other, one
    waiting, seen = [(0.0, one) for _ in range(0)], [one for _ in range(0)]  # empty, of a type that numba can infer
    between = _wait_at_border(partition, one, other, waiting, seen)
    moves, gain = _tried(partition, one, other, least, waiting, seen)
    for node in seen:
        partition.states[node] = _UNSEEN
    if partition.sizes[other] > 0 and between > gain + least:
        while partition.first[one] >= 0:
            _move(partition, int(partition.first[one]), other)
    elif len(moves) > 0:
        for node in moves:
            _move(partition, node, one + other - partition.labels[node])
    else:
        return False
    partition.changed[one] = partition.changed[other] = number
    for segment in (one, other):
        if partition.sizes[segment] == 0:
            partition.empty[partition.room[0]] = segment
            partition.room[0] += 1
    return True


@compiled
def _wait_at_border(
    partition: _Partition, one: int, other: int, waiting: list[tuple[float, int]], seen: list[int]
) -> float:
    """Let nodes at the border of two segments wait, or all of the first if the second is empty; costs of the border."""
    between = 0.0
    node = int(partition.first[one])
    while node >= 0:
        if partition.sizes[other] == 0:
            _see(partition, node, one, other, waiting, seen)
        for entry in range(partition.starts[node], partition.starts[node + 1]):
            end = int(partition.ends[entry])
            if partition.labels[end] == other:
                between += partition.costs[entry]
                _see(partition, node, one, other, waiting, seen)
                _see(partition, end, one, other, waiting, seen)
        node = int(partition.following[node])
    return between


@compiled
def _tried(
    partition: _Partition, one: int, other: int, least: float, waiting: list[tuple[float, int]], seen: list[int]
) -> tuple[list[int], float]:
    """Moves up to the best sum of gains, and that sum; labels are as before."""
    moves = [one for _ in range(0)]
    total, best, kept = 0.0, 0.0, 0
    while len(waiting) > 0 and len(moves) - kept < PATIENCE:
        loss, node = heappop(waiting)
        if partition.states[node] == _MOVED or partition.gains[node] != -loss:
            continue
        here = partition.labels[node]
        partition.labels[node], partition.states[node] = one + other - here, _MOVED
        moves.append(node)
        total -= loss
        if total > best + least:
            best, kept = total, len(moves)
        for entry in range(partition.starts[node], partition.starts[node + 1]):
            end = int(partition.ends[entry])
            if partition.states[end] == _WAITING:
                change = 2 * partition.costs[entry]
                partition.gains[end] += change if partition.labels[end] == here else -change
                heappush(waiting, (-partition.gains[end], end))
            elif partition.labels[end] == here:
                _see(partition, end, one, other, waiting, seen)
    for node in moves:
        partition.labels[node] = one + other - partition.labels[node]
    return moves[:kept], best


@compiled
def _see(
    partition: _Partition, node: int, one: int, other: int, waiting: list[tuple[float, int]], seen: list[int]
) -> None:
    """Let a node wait for its move, if it does not yet, and has not moved."""
    if partition.states[node] != _UNSEEN:
        return
    gain, here = 0.0, partition.labels[node]
    for entry in range(partition.starts[node], partition.starts[node + 1]):
        label = partition.labels[partition.ends[entry]]
        if label == here:
            gain -= partition.costs[entry]
        elif label == one + other - here:
            gain += partition.costs[entry]
    partition.gains[node], partition.states[node] = gain, _WAITING
    heappush(waiting, (-gain, node))
    seen.append(node)


@compiled
def _separate(partition: _Partition, number: int) -> None:
    """Make parts of segments that have changed in a round, and do not hang together, segments of their own."""
    for segment in range(len(partition.first)):
        while partition.changed[segment] == number and partition.sizes[segment] > 1:
            reached = [int(partition.first[segment])]
            partition.states[reached[0]] = _WAITING
            done = 0
            while done < len(reached):
                node = reached[done]
                done += 1
                for entry in range(partition.starts[node], partition.starts[node + 1]):
                    end = int(partition.ends[entry])
                    if partition.labels[end] == segment and partition.states[end] == _UNSEEN:
                        partition.states[end] = _WAITING
                        reached.append(end)
            for node in reached:
                partition.states[node] = _UNSEEN
            if done == partition.sizes[segment]:
                break
            partition.room[0] -= 1
            part = partition.empty[partition.room[0]]
            partition.changed[part] = number
            for node in reached:
                _move(partition, node, part)


@compiled
def _link(partition: _Partition) -> None:
    """Make the lists of nodes, in ascending order."""
    for node in range(len(partition.labels) - 1, -1, -1):
        _put(partition, node, partition.labels[node])


@compiled
def _put(partition: _Partition, node: int, segment: int) -> None:
    """Put a node at the beginning of the list of a segment."""
    following = partition.first[segment]
    partition.previous[node], partition.following[node] = -1, following
    if following >= 0:
        partition.previous[following] = node
    partition.first[segment] = node
    partition.labels[node] = segment
    partition.sizes[segment] += 1


@compiled
def _move(partition: _Partition, node: int, segment: int) -> None:
    """Take a node out of its segment's list, and put it into another's."""
    own, previous, following = partition.labels[node], partition.previous[node], partition.following[node]
    if previous >= 0:
        partition.following[previous] = following
    else:
        partition.first[own] = following
    if following >= 0:
        partition.previous[following] = previous
    partition.sizes[own] -= 1
    _put(partition, node, segment)
