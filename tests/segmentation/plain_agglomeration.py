"""Agglomeration as it is told, without regard to time: what the compiled one is compared with."""

from itertools import pairwise

import numpy as np

from ssns.segmentation import Agglomeration
from ssns.segmentation.graph import RegionGraph


def evidence(graph: RegionGraph, method: Agglomeration) -> list[list[int]]:
    """The levels that each contact starts with, in ascending order; of quantiles the bins, of a mean count and sum."""
    if method.score.type == "mean":
        return np.stack([graph.area, graph.total], axis=1).tolist()
    if method.score.type == "maximum":
        return [[level] for level in graph.maximum.tolist()]
    if method.score.start == "maximum":
        return [[level >> 8] for level in graph.maximum.tolist()]
    starts, bins, counts = graph.histograms
    return [np.repeat(bins[a:b], counts[a:b]).tolist() for a, b in pairwise(starts)]


def value(levels: list[int], method: Agglomeration) -> np.float32:
    """The score of a contact."""
    if method.score.type == "mean":
        return np.float32(1) - np.float32(levels[1] / (65535 * levels[0]))
    if method.score.type == "maximum":
        return np.float32(1) - np.float32(max(levels) / 65535)
    place = method.score.quantile * len(levels) // 100
    return np.float32(1 - (sorted(levels)[min(place, len(levels) - 1)] + 0.5) / 256)


def together(one: list[int], other: list[int], method: Agglomeration) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)] if method.score.type == "mean" else one + other


def plainly_merged(graph: RegionGraph, method: Agglomeration) -> tuple[list[list[int]], list[float]]:
    """The merges, and the highest score that had come up by then."""
    levels = evidence(graph, method)
    scores = [value(each, method) for each in levels]
    between = {frozenset(pair): i for i, pair in enumerate(graph.pairs.tolist())}
    stale: set[int] = set()
    waiting = list(range(len(scores)))
    merges, highest, heights = [], np.float32(0), []
    while waiting:
        # The list is in order of arrival, and the first of several minima is taken.
        if method.queue == "bins":
            contact = min(waiting, key=lambda i: min(int(scores[i] * 256), 255))
        else:
            contact = min(waiting, key=lambda i: (scores[i], i))
        waiting.remove(contact)
        highest = max(highest, scores[contact])
        regions = next((pair for pair, i in between.items() if i == contact), None)
        if regions is None:
            continue
        if contact in stale:
            stale.remove(contact)
            scores[contact] = value(levels[contact], method)
            waiting.append(contact)
            continue
        stays, goes = sorted(regions)
        merges.append([stays, goes])
        heights.append(float(highest))
        del between[regions]
        for pair in [pair for pair in between if goes in pair]:
            own, moved = between.pop(pair), pair - {goes} | {stays}
            rival = between.get(moved, own)
            kept, dropped = (rival, own) if scores[rival] < scores[own] else (own, rival)
            if kept != dropped:
                levels[kept] = together(levels[kept], levels[dropped], method)
                stale.add(kept)
            between[moved] = kept
    return merges, heights
