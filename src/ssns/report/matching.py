"""Which segment stands for which neuron, and where a segmentation errs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.metrics.contingency import Contingency
from ssns.report.colors import label_colors

Ids = NDArray[np.uint64]

_CANDIDATES = 16
"""Free ids among which the colour of a stray segment is chosen."""


def count_overlaps(truth: NDArray[Any], segmentation: NDArray[Any]) -> Contingency:
    """Voxels that neurons and segments share, without background on either side; arrays of equal shape."""
    return Contingency.count(segmentation, truth).foreground()


def main_neurons(overlaps: Contingency) -> tuple[Ids, Ids]:
    """Segments in ascending order, and the neuron that each shares most voxels with (least id of equals)."""
    return _partners(overlaps.segments, overlaps.labels, overlaps.counts)


def main_segments(overlaps: Contingency) -> tuple[Ids, Ids]:
    """Neurons in ascending order, and the segment that each shares most voxels with (least id of equals)."""
    return _partners(overlaps.labels, overlaps.segments, overlaps.counts)


def _partners(ids: Ids, partners: Ids, voxels: NDArray[np.int64]) -> tuple[Ids, Ids]:
    order = np.lexsort((partners, -voxels, ids))
    unique, first = np.unique(ids[order], return_index=True)
    return unique, partners[order][first]


def matched_ids(segmentation: NDArray[Any], overlaps: Contingency) -> Ids:
    """Segment ids exchanged for those of their neurons, so that errors change colour and nothing else does.

    A neuron gives its id to the one segment that shares most voxels with it among those that share most with it.
    Every other segment gets an id that no neuron has, of a colour unlike that of the neuron that it lies in: a false
    split changes colour within a neuron, a false merge carries the colour of one neuron into another.

    Args:
        segmentation: Segment ids, any shape; 0 is no segment, and kept.
        overlaps: ``count_overlaps`` of the whole volume, of which ``segmentation`` may be a part.

    Returns:
        Ids, shape as ``segmentation``; equal where and only where ``segmentation`` is.
    """
    segments, neurons = main_neurons(overlaps)
    is_main_pair = look_up(overlaps.segments, segments, neurons) == overlaps.labels
    owners = main_segments(overlaps.where(is_main_pair))
    matched = look_up(neurons, *owners) == segments
    others = np.setdiff1d(segmentation.astype(np.uint64), np.append(segments[matched], np.uint64(0)))
    taken = np.append(np.unique(overlaps.labels), np.uint64(0))
    free = np.setdiff1d(np.arange(len(taken) + len(others) + _CANDIDATES, dtype=np.uint64), taken)
    beside = look_up(others, segments, neurons)
    keys = np.append(segments[matched], others)
    values = np.append(neurons[matched], _contrasting_ids(beside, free))
    order = np.argsort(keys)
    return look_up(segmentation, keys[order], values[order])


def _contrasting_ids(beside: Ids, free: Ids) -> Ids:
    """For each id in ``beside`` one of the ``free`` ids, none twice, whose colour differs much from its colour."""
    colors = label_colors(free)[:, :3].astype(np.int64)
    candidates = list(range(_CANDIDATES))
    chosen = []
    for following, color in enumerate(label_colors(beside)[:, :3].astype(np.int64), start=_CANDIDATES):
        distances = np.abs(colors[candidates] - color).sum(axis=1)
        chosen.append(candidates.pop(int(distances.argmax())))
        candidates.append(following)
    return free[chosen]


def look_up(ids: NDArray[Any], keys: Ids, values: Ids) -> Ids:
    """The value of each id, shape as ``ids``; 0 for ids that are not among the ascending ``keys``."""
    wanted = ids.astype(np.uint64)
    if not len(keys):
        return np.zeros(wanted.shape, np.uint64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], np.uint64(0))


def find_errors(
    truth: NDArray[Any], segmentation: NDArray[Any], overlaps: Contingency
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels of neurons that are split off, and those that are merged into another neuron.

    Args:
        truth: Neuron ids, any shape; 0 is no neuron.
        segmentation: Segment ids, same shape; 0 is no segment.
        overlaps: ``count_overlaps`` of the whole volumes, of which ``truth`` and ``segmentation`` may be a part.

    Returns:
        ``split``: the voxel is outside the main segment of its neuron (also where it has no segment). ``merged``:
        the voxel is outside the main neuron of its segment. A piece that one neuron lost to another is both.
    """
    neuron = truth != 0
    expected_segment = look_up(truth, *main_segments(overlaps))
    split = neuron & ((expected_segment != segmentation.astype(np.uint64)) | (segmentation == 0))
    expected_neuron = look_up(segmentation, *main_neurons(overlaps))
    merged = neuron & (segmentation != 0) & (expected_neuron != truth.astype(np.uint64))
    return split, merged
