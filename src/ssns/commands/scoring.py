"""Scores of methods that are compared, told from the overlaps of their fragments with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.experiment import LEEWAY, Experiment
from ssns.metrics import Contingency, NothingSegmentedError, Scores, ScoringSettings, score_table
from ssns.segmentation import Method, sweep_methods, value_of, without_value
from ssns.space import Box

Scored = Mapping[Method, Mapping[str, float]]
"""Scores of methods, each with its own value of the swept setting."""


def swept_scores(
    affinities: NDArray[Any],
    methods: Iterable[Method],
    experiment: Experiment,
    truth: NDArray[Any],
    known: NDArray[np.bool_],
    *,
    nothing: Scores | None = None,
) -> dict[Method, Scores]:
    """Scores of methods, each with its own value of the swept setting.

    Args:
        affinities: Of the part.
        methods: What is compared.
        experiment: Its offsets, and the convention of scores.
        truth: Of the part, as from ``known_truth``.
        known: Where it is known.
        nothing: What counts where nothing is segmented that the convention scores. None: that is an error.

    Raises:
        NothingSegmentedError: There is nothing to score, and ``nothing`` is None.
    """
    (table,) = swept_scores_of_pieces(
        affinities, methods, experiment, [(Box.of_shape(truth.shape), truth, known)], nothing=nothing
    )
    return table


def swept_scores_of_pieces(
    affinities: NDArray[Any],
    methods: Iterable[Method],
    experiment: Experiment,
    pieces: Sequence[tuple[Box, NDArray[Any], NDArray[np.bool_]]],
    *,
    nothing: Scores | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005  nobody listens
) -> list[dict[Method, Scores]]:
    """The `swept_scores` of each of several pieces of what is segmented.

    Voxels are looked at once for each kind of fragments, to count how these overlap with the truth; a partition of
    fragments renames them.

    Args:
        affinities: Of what is segmented.
        methods: What is compared.
        experiment: Its offsets, and the convention of scores.
        pieces: Each a box of the affinities, its truth, and where that is known.
        nothing: What counts where nothing is segmented that the convention scores. None: that is an error.
        tell: Called as methods are scored with how many are, and how many there are.

    Raises:
        NothingSegmentedError: There is nothing to score, and ``nothing`` is None.
    """
    settings, several = ScoringSettings(convention=experiment.scoring), list(methods)
    tables: list[dict[Method, Scores]] = [{} for _ in pieces]
    done = 0
    tell(done, len(several))
    for fragments, partitions in sweep_methods(affinities, several, offsets=experiment.offsets):
        overlaps = [Contingency.count(fragments[box.slices], truth, known) for box, truth, known in pieces]
        for method, segments in partitions:
            for table, overlap in zip(tables, overlaps, strict=True):
                try:
                    table[method] = score_table(overlap.renamed(segments), settings)
                except NothingSegmentedError:
                    if nothing is None:
                        raise
                    table[method] = nothing
            done += 1
            tell(done, len(several))
    return tables


def weighted_means(rows: Sequence[tuple[int, Mapping[Method, Scores]]]) -> dict[Method, dict[str, float]]:
    """Scores of each method, averaged over parts by their scored voxels."""
    total = sum(size for size, _ in rows)
    first = rows[0][1]
    return {
        method: {
            name: sum(size * table[method].to_dict()[name] for size, table in rows) / total
            for name in first[method].to_dict()
        }
        for method in first
    }


def ranked(table: Scored) -> list[Method]:
    """Each method once, with the value to take of its swept setting; the best first.

    The lowest VOI sum counts, averaged over the values within `LEEWAY`: where validation regions are small, the value
    that is best on them is often the last one before everything merges, and in a larger volume it is beyond that. Of
    equals, that of the lowest VOI sum.
    """
    kinds: dict[Method, dict[float, float]] = {}
    for method, scores in table.items():
        kinds.setdefault(without_value(method), {})[value_of(method)] = scores["voi_sum"]

    def judged(method: Method) -> tuple[float, float]:
        sums, value = kinds[without_value(method)], value_of(method)
        near = [found for other, found in sums.items() if abs(other - value) <= LEEWAY + 1e-9]
        return sum(near) / len(near), sums[value]

    best: dict[Method, Method] = {}
    for method in sorted(table, key=judged):
        best.setdefault(without_value(method), method)
    return list(best.values())
