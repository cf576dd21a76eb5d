"""Neurons as objects: which of them a segment stands for, and how well it covers them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.metrics.contingency import Contingency

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100
"""From 0.50 to 0.95, as COCO takes them."""


class Detection(NamedTuple):
    """How many objects were found, 0 to 1.

    Attributes:
        object_precision: Share of the segments that are a neuron, at an IoU of 0.5 or more.
        object_recall: Share of the neurons that are a segment, likewise.
        panoptic_quality: F-score of the two times the mean IoU of the pairs (Kirillov et al. 2019,
            arXiv 1801.00868).
        ap_50: ``TP / (TP + FP + FN)``: of all neurons and segments, a pair counted as one, the share that is a pair at
            an IoU of 0.5 or more. (The average precision of the 2018 Data Science Bowl, as of StarDist and cellpose.)
        ap_75: The same at 0.75.
        ap: Its mean over 0.50, 0.55 .. 0.95.
    """

    object_precision: float
    object_recall: float
    panoptic_quality: float
    ap_50: float
    ap_75: float
    ap: float


def detect(table: Contingency) -> Detection:
    """Match neurons with segments, one to one.

    ``IoU = overlap / (neuron + segment - overlap)``, in voxels of the table. A pair has an IoU of 0.5 or more only
    where each is the other's best, so that there is nothing to choose. Segment 0 is no object: its voxels count for the
    size of their neurons alone.

    Args:
        table: The voxels to be scored, at least one.
    """
    objects = table.segments != 0
    labels, segments = table.labels[objects], table.segments[objects]
    both = table.counts[objects].astype(np.float64)
    iou = both / (table.label_sizes[objects] + table.segment_sizes[objects] - both)
    mutual = np.intersect1d(_best(labels, iou), _best(segments, iou))
    neurons, found = len(np.unique(table.labels)), len(np.unique(segments))
    matched = iou[mutual]
    hits = (matched >= IOU_THRESHOLDS[:, np.newaxis]).sum(axis=1)
    average = hits / (neurons + found - hits)
    sure = matched[matched >= IOU_THRESHOLDS[0]]
    return Detection(
        object_precision=len(sure) / found if found else 0.0,
        object_recall=len(sure) / neurons,
        panoptic_quality=2 * float(sure.sum()) / (neurons + found),
        ap_50=float(average[0]),
        ap_75=float(average[5]),
        ap=float(average.mean()),
    )


def _best(ids: NDArray[np.uint64], iou: NDArray[np.float64]) -> NDArray[np.intp]:
    """For each id its pair of highest IoU, the first of equals."""
    order = np.lexsort((-iou, ids))
    _, first = np.unique(ids[order], return_index=True)
    return order[first]
