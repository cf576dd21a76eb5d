"""Regions merge, the likeliest pair first, until none are in contact: the compiled part of agglomeration.

1. Every contact has a score, 1 minus the affinity that is read from its evidence, and waits in a queue.
2. The first of the queue is taken out. If it is gone by now, nothing happens. If evidence has been added since it was
   scored, it is scored again and waits anew. Otherwise its two regions merge.
3. Where both have a contact with the same third region, that of lower score stays, and takes the evidence of the other.

This is the order of waterz (Funke et al. 2019, doi 10.1109/TPAMI.2018.2835450; reference 8.1). A contact keeps the
score under which it waits, so 3 compares scores that may be out of date.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled
from ssns.segmentation.inputs import ONE

MEAN, MAXIMUM, QUANTILE, RUNNING_MEAN = 0, 1, 2, 3
"""How the affinity of a contact is read from its evidence."""

_CURRENT, _STALE, _GONE = 0, 1, 2
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Evidence(NamedTuple):
    """What the affinity of each contact is read from. Histograms of 256 bins are linked lists of those that are filled.

    Attributes:
        rule: ``MEAN``, ``MAXIMUM``, ``QUANTILE`` or ``RUNNING_MEAN``.
        percent: Of the quantile.
        counts: How many levels there are (e,).
        totals: Their sum (e,), or their maximum.
        first: First entry of each histogram (e,).
        bins: Bin of each entry (k,), ascending along a list.
        amounts: How many levels lie in it (k,).
        following: Next entry (k,), -1 at the end.
        means: What is kept in the place of totals by ``RUNNING_MEAN``, (e,).
    """

    rule: int
    percent: int
    counts: NDArray[np.int64]
    totals: NDArray[np.int64]
    first: NDArray[np.int32]
    bins: NDArray[np.uint8]
    amounts: NDArray[np.uint32]
    following: NDArray[np.int32]
    means: NDArray[np.float32]

    @classmethod
    def of_levels(cls, rule: int, counts: NDArray[np.int64], totals: NDArray[np.int64]) -> Evidence:
        """Evidence without histograms; the arrays are copied."""
        none = np.empty(0, np.int32)
        return cls(
            rule,
            0,
            counts.copy(),
            totals.copy(),
            none,
            none.astype(np.uint8),
            none.astype(np.uint32),
            none,
            none.astype(np.float32),
        )

    @classmethod
    def of_means(cls, counts: NDArray[np.int64], means: NDArray[np.float32]) -> Evidence:
        """Evidence of means that are rounded whenever they change; the arrays are copied."""
        return cls.of_levels(RUNNING_MEAN, counts, np.zeros(0, np.int64))._replace(means=means.copy())

    @classmethod
    def of_histograms(
        cls,
        percent: int,
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        bins: NDArray[Any],
        amounts: NDArray[np.uint32],
    ) -> Evidence:
        """Evidence for quantiles: ``counts`` levels in histograms as in `contacts.Histograms`; arrays are copied."""
        following = np.arange(1, len(bins) + 1, dtype=np.int32)
        following[starts[1:] - 1] = -1
        first, none = starts[:-1].astype(np.int32), np.zeros_like(counts)
        return cls(
            QUANTILE,
            percent,
            counts.copy(),
            none,
            first,
            bins.astype(np.uint8),
            amounts.copy(),
            following,
            none[:0].astype(np.float32),
        )


class _Net(NamedTuple):
    """Regions, and the contacts between them, each of which has two ends: 2 i and 2 i + 1 are those of contact i.

    A region is known by the index of one of its fragments, and bears the name of the smallest.

    Attributes:
        regions: Region at each end (2 e,).
        following: Next end of the same region (2 e,), -1 after the last.
        first: First end of each region (n + 1,), -1 if there is none.
        last: Last end.
        ends: Number of ends in the list, of contacts that are gone too (n + 1,).
        names: Name of each region (n + 1,).
        states: Whether a contact is current, stale or gone (e,).
        scores: Score under which a contact waits (e,).
        places: Hash table that finds a contact by its regions: index + 1, 0 where a place is free.
        used: Number of places taken (1,).
    """

    regions: NDArray[np.int32]
    following: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    ends: NDArray[np.int32]
    names: NDArray[np.int32]
    states: NDArray[np.uint8]
    scores: NDArray[np.float32]
    places: NDArray[np.int32]
    used: NDArray[np.int64]


class _Queue(NamedTuple):
    """Contacts in a heap, that of the lowest key on top.

    Attributes:
        bins: Number of bins by score, in order of arrival within each; 0: by score, then by contact.
        keys: Bin or score, and in the lower 32 bits arrival or contact (e,).
        contacts: Shape (e,).
        size: How many wait, and how many have arrived (2,).
    """

    bins: int
    keys: NDArray[np.uint64]
    contacts: NDArray[np.int32]
    size: NDArray[np.int64]


@compiled
def merge_regions(
    pairs: NDArray[np.int64], count: int, evidence: Evidence, bins: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Merge all regions that are in contact.

    Args:
        pairs: Regions in contact (e, 2), the smaller id first, sorted.
        count: Largest id of a region.
        evidence: Of each contact; it is used up.
        bins: Bins of the queue, for scores of 0 to 1, in order of arrival within each; 0: the order of scores, equal
            ones by their place in ``pairs``.

    Returns:
        The two regions of each merge (m, 2), named by their smallest, the smaller first; and the highest score that had
        come to the front of the queue by then (m,).
    """
    net, queue = _connected(pairs, count), _empty_queue(len(pairs), bins)
    for contact in range(len(pairs)):
        net.scores[contact] = _score(evidence, contact)
        _push(queue, contact, net.scores)
    merges, scores = np.empty((count, 2), np.int64), np.empty(count, np.float32)
    done, highest = 0, np.float32(0)
    while queue.size[0] > 0:
        contact = _pop(queue)
        highest = max(highest, net.scores[contact])
        if net.states[contact] == _STALE:
            net.states[contact] = _CURRENT
            net.scores[contact] = _score(evidence, contact)
            _push(queue, contact, net.scores)
        elif net.states[contact] == _CURRENT:
            merges[done, 0], merges[done, 1] = _merge(net, evidence, contact)
            scores[done] = highest
            done += 1
    return merges[:done].copy(), scores[:done].copy()


@compiled
def _merge(net: _Net, evidence: Evidence, contact: int) -> tuple[int, int]:
    """Merge the two regions of a contact; their names, the smaller first.

    The region with the shorter list is the one that is walked, whatever the names: an end is moved into a list at least
    as long as its own, or dropped for good, so that all merges of e contacts take some e log e steps.
    """
    net.states[contact] = _GONE
    stays, goes = net.regions[2 * contact], net.regions[2 * contact + 1]
    if net.ends[stays] < net.ends[goes]:
        stays, goes = goes, stays
    if net.used[0] + net.ends[goes] > len(net.places) // 2:
        _tidy(net)
    end = net.first[goes]
    while end >= 0:
        following, own = net.following[end], end >> 1
        if net.states[own] != _GONE:
            place = _place(net, stays, net.regions[end ^ 1])
            rival = net.places[place] - 1
            net.regions[end] = stays
            net.used[0] += rival < 0
            if rival >= 0 and _yields(net, own, goes, rival, stays):
                _absorb(evidence, rival, own)
                net.states[own], net.states[rival] = _GONE, _STALE
            else:
                if rival >= 0:
                    _absorb(evidence, own, rival)
                    net.states[own], net.states[rival] = _STALE, _GONE
                net.places[place] = own + 1
                _append(net, stays, end)
        end = following
    name, gone = min(net.names[stays], net.names[goes]), max(net.names[stays], net.names[goes])
    net.names[stays] = name
    return name, gone


@compiled
def _yields(net: _Net, one: int, region: int, other: int, its_region: int) -> bool:
    """Whether the other of two contacts with the same region stays: that of lower score, or else of the larger name."""
    if net.scores[one] == net.scores[other]:
        return bool(net.names[region] < net.names[its_region])
    return bool(net.scores[other] < net.scores[one])


@compiled
def _connected(pairs: NDArray[np.int64], count: int) -> _Net:
    """The net before any merge."""
    size = 1
    while size < 4 * len(pairs):
        size *= 2
    net = _Net(
        np.empty(2 * len(pairs), np.int32),
        np.empty(2 * len(pairs), np.int32),
        np.full(count + 1, -1, np.int32),
        np.full(count + 1, -1, np.int32),
        np.zeros(count + 1, np.int32),
        np.arange(count + 1).astype(np.int32),
        np.full(len(pairs), _CURRENT, np.uint8),
        np.empty(len(pairs), np.float32),
        np.zeros(size, np.int32),
        np.zeros(1, np.int64),
    )
    for contact in range(len(pairs)):
        for side in range(2):
            net.regions[2 * contact + side] = pairs[contact, side]
            _append(net, pairs[contact, side], 2 * contact + side)
    _tidy(net)
    return net


@compiled
def _append(net: _Net, region: int, end: int) -> None:
    """Put an end at the end of the list of a region."""
    net.following[end] = -1
    if net.first[region] < 0:
        net.first[region] = end
    else:
        net.following[net.last[region]] = end
    net.last[region] = end
    net.ends[region] += 1


@compiled
def _tidy(net: _Net) -> None:
    """Build the hash table anew, of the contacts that there are."""
    net.places[:] = 0
    net.used[0] = 0
    for contact in range(len(net.states)):
        if net.states[contact] != _GONE:
            net.places[_place(net, net.regions[2 * contact], net.regions[2 * contact + 1])] = contact + 1
            net.used[0] += 1


@compiled
def _place(net: _Net, one: int, other: int) -> int:
    """The place of the contact of two regions in the hash table, or where it can be put."""
    mask = len(net.places) - 1
    pair = np.uint64(min(one, other)) << np.uint64(32) | np.uint64(max(one, other))
    place = int(pair * _SPREAD >> np.uint64(32)) & mask
    while net.places[place] != 0:
        contact = net.places[place] - 1
        # A contact that was moved is found at its former place too, and must not be once it is gone.
        if net.states[contact] != _GONE:
            first, second = net.regions[2 * contact], net.regions[2 * contact + 1]
            if (first == one and second == other) or (first == other and second == one):
                return place
        place = (place + 1) & mask
    return place


@compiled
def _score(evidence: Evidence, contact: int) -> np.float32:
    """1 minus the affinity of a contact."""
    count = evidence.counts[contact]
    if evidence.rule == RUNNING_MEAN:
        return np.float32(np.float32(1) - evidence.means[contact])
    if evidence.rule != QUANTILE:
        return np.float32(1) - np.float32(evidence.totals[contact] / (count * ONE))
    wanted = min(count, evidence.percent * count // 100 + 1)
    entry = evidence.first[contact]
    below = int(evidence.amounts[entry])
    while below < wanted:
        entry = evidence.following[entry]
        below += int(evidence.amounts[entry])
    return np.float32(1 - (evidence.bins[entry] + 0.5) / 256)


@compiled
def _absorb(evidence: Evidence, stays: int, goes: int) -> None:
    """Give one contact the evidence of another."""
    if evidence.rule == MAXIMUM:
        evidence.totals[stays] = max(evidence.totals[stays], evidence.totals[goes])
        return
    if evidence.rule == RUNNING_MEAN:
        one, other = np.float32(evidence.counts[goes]), np.float32(evidence.counts[stays])
        both = np.float32(evidence.counts[goes] + evidence.counts[stays])
        evidence.means[stays] = (evidence.means[goes] * one + evidence.means[stays] * other) / both
        evidence.counts[stays] += evidence.counts[goes]
        return
    evidence.counts[stays] += evidence.counts[goes]
    evidence.totals[stays] += evidence.totals[goes]
    if evidence.rule == QUANTILE:
        evidence.first[stays] = _chain(evidence, evidence.first[stays], evidence.first[goes])


@compiled
def _chain(evidence: Evidence, one: int, other: int) -> int:
    """Join two lists of bins, of which neither is empty; the first entry of the result."""
    head, tail = -1, -1
    while one >= 0 or other >= 0:
        if other < 0 or (one >= 0 and evidence.bins[one] <= evidence.bins[other]):
            entry = one
            if other >= 0 and evidence.bins[one] == evidence.bins[other]:
                evidence.amounts[one] += evidence.amounts[other]
                other = evidence.following[other]
            one = evidence.following[one]
        else:
            entry = other
            other = evidence.following[other]
        if tail < 0:
            head = entry
        else:
            evidence.following[tail] = entry
        tail = entry
    return head


@compiled
def _empty_queue(room: int, bins: int) -> _Queue:
    """A queue in which no contact waits yet."""
    return _Queue(bins, np.empty(room, np.uint64), np.empty(room, np.int32), np.zeros(2, np.int64))


@compiled
def _push(queue: _Queue, contact: int, scores: NDArray[np.float32]) -> None:
    """Let a contact wait for its turn."""
    if queue.bins > 0:
        first, then = min(int(scores[contact] * queue.bins), queue.bins - 1), queue.size[1]
    else:
        # The bits of floats that are not negative are in the order of the floats.
        first, then = scores.view(np.uint32)[contact], contact
    key = np.uint64(first) << np.uint64(32) | np.uint64(then)
    queue.size[1] += 1
    place = queue.size[0]
    queue.size[0] += 1
    while place > 0 and queue.keys[(place - 1) >> 1] > key:
        above = (place - 1) >> 1
        queue.keys[place], queue.contacts[place] = queue.keys[above], queue.contacts[above]
        place = above
    queue.keys[place], queue.contacts[place] = key, contact


@compiled
def _pop(queue: _Queue) -> int:
    """Take out the contact whose turn it is."""
    top = int(queue.contacts[0])
    queue.size[0] -= 1
    size = queue.size[0]
    key, contact = queue.keys[size], queue.contacts[size]
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and queue.keys[below + 1] < queue.keys[below]:
            below += 1
        if queue.keys[below] >= key:
            break
        queue.keys[place], queue.contacts[place] = queue.keys[below], queue.contacts[below]
        place = below
    queue.keys[place], queue.contacts[place] = key, contact
    return top
