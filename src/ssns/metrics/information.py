"""Variation of information."""

from __future__ import annotations

import numpy as np

from ssns.metrics.overlaps import Overlaps, Sizes


def variation_of_information(overlaps: Overlaps) -> tuple[float, float]:
    """The two conditional entropies between segmentation S and truth T, in bits: 0 for equal partitions.

    ``split = H(S | T) = mean over voxels of log2(label size / overlap)`` grows where a neuron is cut in pieces,
    ``merge = H(T | S) = mean of log2(segment size / overlap)`` where a segment covers several neurons. Their sum is
    the variation of information (Meila 2003, doi 10.1007/978-3-540-45167-9_14).

    Args:
        overlaps: Sizes of at least one voxel.

    Returns:
        ``split`` and ``merge``.
    """
    split, merge = contributions(overlaps)
    return float(split.sum()), float(merge.sum())


def contributions(overlaps: Overlaps) -> tuple[Sizes, Sizes]:
    """What each group of voxels adds to ``split`` and to ``merge``, (k,) each, in bits, never negative."""
    share = overlaps.voxels / overlaps.voxels.sum()
    return share * np.log2(overlaps.label / overlaps.both), share * np.log2(overlaps.segment / overlaps.both)
