"""Scores of parts: what is known of the truth, and sweeps of a method against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part
from ssns.commands.terminal import warn
from ssns.experiment import Experiment
from ssns.metrics import NothingSegmentedError, Scores, ScoringSettings, components, score
from ssns.segmentation import sweep


def known_truth(part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Ground truth of a part, relabelled into 26-connected components within it, and where it is known.

    Whatever the background is in the labels, it is 0 in the truth. Voxels outside the labels or of the ignored id are
    not known.
    """
    source = part.source
    assert source.labels is not None, "only parts with labels are scored"
    labels = np.zeros(part.box.shape, source.labels.dtype)
    known = np.zeros(part.box.shape, bool)
    for covered in source.labels_boxes:
        common = covered.intersection(part.box)
        if common.size:
            here = common.relative_to(part.box.start).slices
            labels[here] = source.labels.read(common.relative_to(source.labels_start))
            known[here] = True
    if source.settings.ignored is not None:
        known &= labels != source.settings.ignored
    return components(labels, background=source.settings.background), known


def truths(found: Iterable[Part]) -> Iterator[tuple[Part, NDArray[Any], NDArray[np.bool_]]]:
    """Parts with their `known_truth`, one at a time; those where nothing is known are left out with a warning."""
    for part in found:
        truth, known = known_truth(part)
        if truth[known].any():
            yield part, truth, known
        else:
            warn(f"{part.name}: no voxel there is of a neuron, so it is not scored: label some, or move the region")


def swept_scores(
    affinities: NDArray[Any],
    experiment: Experiment,
    truth: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    nothing: Scores | None = None,
) -> dict[float, Scores]:
    """Scores at each threshold of the experiment (or at the method's own, where it lists none).

    Args:
        affinities: Of the part.
        experiment: Settings of segmentation and scoring.
        truth: As from `known_truth`.
        known: Where it is known.
        nothing: What counts where nothing is segmented that the convention scores. None: that is an error.

    Raises:
        NothingSegmentedError: There is nothing to score, and ``nothing`` is None.
    """
    method = experiment.segmentation.method
    thresholds = experiment.segmentation.thresholds or (getattr(method, method.swept),)
    table = {}
    for threshold, segmentation in sweep(affinities, method, thresholds, offsets=experiment.offsets):
        try:
            table[threshold] = scored(segmentation, experiment, truth, known)
        except NothingSegmentedError:
            if nothing is None:
                raise
            table[threshold] = nothing
    return table


def scored(segmentation: NDArray[Any], experiment: Experiment, truth: NDArray[Any], known: NDArray[np.bool_]) -> Scores:
    """Scores of one segmentation where the truth is known."""
    return score(segmentation, truth, settings=ScoringSettings(convention=experiment.scoring), mask=known)


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
