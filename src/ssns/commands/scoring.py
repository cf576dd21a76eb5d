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
    inside: Box | None = None,
    nothing: Scores | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005  nobody listens
) -> dict[Method, Scores]:
    """Scores of methods, each with its own value of the swept setting.

    Voxels are looked at once for each kind of fragments, to count how these overlap with the truth; a partition of
    fragments renames them.

    Args:
        affinities: Of the part, or of more than it.
        methods: What is compared.
        experiment: Its offsets, and the convention of scores.
        truth: Of the part, as from ``known_truth``.
        known: Where it is known.
        inside: Where the part is in the affinities; None: it is all of them.
        nothing: What counts where nothing is segmented that the convention scores. None: that is an error.
        tell: Called as methods are scored with how many are, and how many there are.

    Raises:
        NothingSegmentedError: There is nothing to score, and ``nothing`` is None.
    """
    settings = ScoringSettings(convention=experiment.scoring)
    several, table = list(methods), {}
    tell(0, len(several))
    for fragments, partitions in sweep_methods(affinities, several, offsets=experiment.offsets):
        overlaps = Contingency.count(fragments if inside is None else fragments[inside.slices], truth, known)
        for method, segments in partitions:
            try:
                table[method] = score_table(overlaps.renamed(segments), settings)
            except NothingSegmentedError:
                if nothing is None:
                    raise
                table[method] = nothing
            tell(len(table), len(several))
    return table


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
