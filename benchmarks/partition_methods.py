"""Scores of partition methods and of cleaning, on affinities of a run: what docs/segmentation.md tells of them.

    python benchmarks/partition_methods.py RUN LABELS FRAGMENTS [WORD ...]

RUN is a run folder on AC4 (experiments/ac4), LABELS its label file, FRAGMENTS distance or seeded. The value of each
method is that of lowest VOI sum on sections 35-49; it is then fixed and scored on sections 50-99. Fragments and their
graph are made once and shared, as partitions rename fragments. Learned costs are learned from the validation sections.
Where the run predicted affinities of long range, they lift edges, and the mutex watershed of voxels is scored as well
(FRAGMENTS mutex: that alone, the bias chosen). With words, methods whose title has one of them: lifted ones take long
with seeded fragments.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.experiment import load_experiment
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
    LongRange,
    MeanScore,
    Multicut,
    MutexClustering,
    MutexWatershed,
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
STRIDES, BIASES, STRENGTHS = (1, 4, 4), (-0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2), (1.0, 0.1)
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
        volume, truth = read(run, labels, role)
        fragments = flood(volume)
        graph = RegionGraph.of(fragments, volume, histograms=True, far=bool(volume.far))
        overlaps = Contingency.count(fragments, truth, np.ones(truth.shape, bool))
        return cls(fragments, graph, truth, overlaps)

    def scores(self, method: Method, values: tuple[float, ...], cleaning: Cleaning) -> dict[float, Scores]:
        """Scores at each value of the swept setting."""
        partitions = zip(values, method.partitions(self.graph, values), strict=True)
        extent = Extent.of(self.fragments) if cleaning.needs_extent else None
        cleaned = ((value, cleaning.clean(each, self.graph, extent)) for value, each in partitions)
        return {value: score_table(self.overlaps.renamed(each), ScoringSettings()) for value, each in cleaned}


def read(run: Path, labels: Path, role: str) -> tuple[AffinityVolume, NDArray[Any]]:
    """Affinities of the part of a role, and its labels."""
    affinities = open_volume(run / f"ac4-{role}" / "affinities.zarr").read()
    truth = components(open_volume(labels).read()[SECTIONS[role]], background=0)
    offsets = load_experiment(run / "experiment.toml").offsets
    return AffinityVolume.checked(affinities, offsets, None), truth


def methods(learned: LearnedAffinity, *, far: bool) -> dict[str, Method]:
    """The rows, by title."""
    distant = GraphDistance(strength=0.01)
    rows: dict[str, Method] = {
        f"lifted multicut, long range, strength {strength:g}": Multicut(lifted=LongRange(strength=strength))
        for strength in (STRENGTHS if far else ())
    }
    return rows | {
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


def main(run: Path, labels: Path, fragments: str, *words: str) -> None:
    print("| method | cleaning | chosen | validation VOI sum | test VOI split | VOI merge | VOI sum | ARAND | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    if fragments == "mutex":
        mutex_watershed(run, labels)
    else:
        partitions(run, labels, fragments, words)


def mutex_watershed(run: Path, labels: Path) -> None:
    """Its row, every sixteenth long-range affinity looked at."""

    def flooded(volume: AffinityVolume, truth: NDArray[Any], bias: float) -> tuple[Scores, float]:
        start = time.process_time()
        regions = MutexWatershed(strides=STRIDES, bias=bias).flood(volume)
        seconds = time.process_time() - start
        overlaps = Contingency.count(regions, truth, np.ones(truth.shape, bool))
        return score_table(overlaps, ScoringSettings()), seconds

    validation, test = (read(run, labels, role) for role in SECTIONS)
    found = {bias: flooded(*validation, bias)[0] for bias in BIASES}
    bias = min(found, key=lambda each: found[each].voi_sum)
    print_row("mutex watershed", "none", bias, found[bias], *flooded(*test, bias))


def partitions(run: Path, labels: Path, fragments: str, words: tuple[str, ...]) -> None:
    """The rows of methods that partition the graph of fragments."""
    validation, test = (Part.read(run, labels, role, FRAGMENTS[fragments].flood) for role in SECTIONS)
    learned = LearnedAffinity.fitted([(validation.graph, validation.fragments, validation.truth)])
    for title, method in methods(learned, far=validation.graph.far is not None).items():
        if words and not any(word in title for word in words):
            continue
        for name, cleaning in CLEANINGS.items() if title in CLEANED else [("none", Cleaning())]:
            table = validation.scores(method, VALUES, cleaning)
            value = min(table, key=lambda each: table[each].voi_sum)
            start = time.process_time()
            found = test.scores(method, (value,), cleaning)[value]
            print_row(title, name, value, table[value], found, time.process_time() - start)


def print_row(title: str, cleaning: str, value: float, validation: Scores, test: Scores, seconds: float) -> None:
    """One row of the table."""
    figures = (validation.voi_sum, test.voi_split, test.voi_merge, test.voi_sum, test.arand)
    cells = (title, cleaning, f"{value:g}", *(f"{each:.4f}" for each in figures), f"{seconds:.2f}")
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
