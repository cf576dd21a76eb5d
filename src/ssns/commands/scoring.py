"""Scores of the sweep of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.experiment import Experiment
from ssns.metrics import Contingency, NothingSegmentedError, Scores, ScoringSettings, score_table
from ssns.segmentation import sweep_fragments


def swept_scores(
    affinities: NDArray[Any],
    experiment: Experiment,
    truth: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    nothing: Scores | None = None,
) -> dict[float, Scores]:
    """Scores at each threshold of the experiment (or at the method's own, where it lists none).

    Voxels are looked at once, to count how fragments overlap with the truth; a partition of fragments renames them.

    Args:
        affinities: Of the part.
        experiment: Settings of segmentation and scoring.
        truth: As from ``known_truth``.
        known: Where it is known.
        nothing: What counts where nothing is segmented that the convention scores. None: that is an error.

    Raises:
        NothingSegmentedError: There is nothing to score, and ``nothing`` is None.
    """
    method = experiment.segmentation.method
    thresholds = experiment.segmentation.thresholds or (getattr(method, method.swept),)
    fragments, partitions = sweep_fragments(affinities, method, thresholds, offsets=experiment.offsets)
    overlaps = Contingency.count(fragments, truth, known)
    settings = ScoringSettings(convention=experiment.scoring)
    table = {}
    for threshold, segments in partitions:
        try:
            table[threshold] = score_table(overlaps.renamed(segments), settings)
        except NothingSegmentedError:
            if nothing is None:
                raise
            table[threshold] = nothing
    return table


def weighted_means(rows: Sequence[tuple[int, Mapping[float, Scores]]]) -> dict[float, dict[str, float]]:
    """Scores at each value, averaged over parts by their scored voxels."""
    total = sum(size for size, _ in rows)
    first = rows[0][1]
    return {
        value: {
            name: sum(size * table[value].to_dict()[name] for size, table in rows) / total
            for name in first[value].to_dict()
        }
        for value in first
    }
