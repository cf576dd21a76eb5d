"""Scores of partition methods and of cleaning, on affinities of a run: what docs/segmentation.md tells of them.

    python benchmarks/partition_methods.py RUN LABELS FRAGMENTS

RUN is a run folder on AC4 (experiments/ac4), LABELS its label file, FRAGMENTS distance or seeded. The value of each
method is that of lowest VOI sum on sections 35-49; it is then fixed and scored on sections 50-99. Fragments and their
graph are made once and shared, as partitions rename fragments. Learned costs are learned from the validation sections.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.affinities import NEAREST
from ssns.metrics import Scores, ScoringSettings, components, score_table
from ssns.metrics.contingency import Contingency
from ssns.segmentation import (
    Agglomeration,
    Cleaning,
    DistanceTransformWatershed,
    FusionMoves,
    GraphDistance,
    GreedyAdditive,
    LearnedAffinity,
    MeanScore,
    Multicut,
    MutexClustering,
    QuantileAffinity,
    QuantileScore,
    SeededWatershed,
)
from ssns.segmentation.cleaning import Extent
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.volume import open_volume

Method = Agglomeration | Multicut

SECTIONS = {"validation": slice(35, 50), "test": slice(50, 100)}
VALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

CLEANINGS = {
    "none": Cleaning(),
    "holes": Cleaning(holes=True),
    "islands": Cleaning(islands=True),
    "minimum size 500": Cleaning(minimum_size=500),
    "minimum size 2000": Cleaning(minimum_size=2000),
    "holes, islands, 500": Cleaning(holes=True, islands=True, minimum_size=500),
}

CLEANED = ("agglomeration, mean", "agglomeration, median from the maximum", "multicut, Kernighan-Lin")
"""Methods that are scored with each cleaning."""


@dataclass(frozen=True)
class Part:
    """Fragments of one part, their graph, and how they overlap with the truth."""

    fragments: NDArray[np.uint32]
    graph: RegionGraph
    truth: NDArray[Any]
    overlaps: Contingency

    @classmethod
    def read(cls, run: Path, labels: Path, role: str, flood: Any) -> Part:
        """The part of a role."""
        affinities = open_volume(run / f"ac4-{role}" / "affinities.zarr").read()
        truth = components(open_volume(labels).read()[SECTIONS[role]], background=0)
        volume = AffinityVolume.checked(affinities, NEAREST, None)
        fragments = flood(volume)
        overlaps = Contingency.count(fragments, truth, np.ones(truth.shape, bool))
        return cls(fragments, RegionGraph.of(fragments, volume, histograms=True), truth, overlaps)

    def scores(self, method: Method, values: tuple[float, ...], cleaning: Cleaning) -> dict[float, Scores]:
        """Scores at each value of the swept setting."""
        partitions = zip(values, method.partitions(self.graph, values), strict=True)
        extent = Extent.of(self.fragments) if cleaning.needs_extent else None
        cleaned = ((value, cleaning.clean(each, self.graph, extent)) for value, each in partitions)
        return {value: score_table(self.overlaps.renamed(each), ScoringSettings()) for value, each in cleaned}


def methods(learned: LearnedAffinity) -> dict[str, Method]:
    distant = GraphDistance(strength=0.01)
    return {
        "agglomeration, mean": Agglomeration(score=MeanScore()),
        "agglomeration, median from the maximum": Agglomeration(),
        "agglomeration, median of all": Agglomeration(score=QuantileScore(start="all")),
        "multicut, Kernighan-Lin": Multicut(),
        "multicut, greedy": Multicut(solver=GreedyAdditive()),
        "multicut, fusion moves": Multicut(solver=FusionMoves(iterations=10)),
        "multicut, costs xyz": Multicut(weighting="xyz"),
        "multicut, costs z": Multicut(weighting="z"),
        "multicut, costs unweighted": Multicut(weighting="none"),
        "multicut, median": Multicut(affinity=QuantileAffinity()),
        "multicut, upper quartile": Multicut(affinity=QuantileAffinity(quantile=75)),
        "multicut, learned": Multicut(affinity=learned),
        "multicut, learned, unweighted": Multicut(affinity=learned, weighting="none"),
        "mutex clustering": Multicut(solver=MutexClustering(), weighting="none"),
        "mutex clustering, learned": Multicut(solver=MutexClustering(), weighting="none", affinity=learned),
        "lifted multicut, 2 contacts": Multicut(lifted=distant),
    }


FRAGMENTS: dict[str, DistanceTransformWatershed | SeededWatershed] = {
    "distance": DistanceTransformWatershed(),
    "seeded": SeededWatershed(),
}


def main(run: Path, labels: Path, fragments: str) -> None:
    validation, test = (Part.read(run, labels, role, FRAGMENTS[fragments].flood) for role in SECTIONS)
    learned = LearnedAffinity.fitted([(validation.graph, validation.fragments, validation.truth)])
    print("| method | cleaning | chosen | validation VOI sum | test VOI split | VOI merge | VOI sum | ARAND | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for title, method in methods(learned).items():
        for name, cleaning in CLEANINGS.items() if title in CLEANED else [("none", Cleaning())]:
            table = validation.scores(method, VALUES, cleaning)
            value = min(table, key=lambda each: table[each].voi_sum)
            start = time.process_time()
            found = test.scores(method, (value,), cleaning)[value]
            seconds = time.process_time() - start
            figures = (table[value].voi_sum, found.voi_split, found.voi_merge, found.voi_sum, found.arand)
            cells = (title, name, f"{value:g}", *(f"{each:.4f}" for each in figures), f"{seconds:.2f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
