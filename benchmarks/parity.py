"""Agglomeration beside waterz: how many partitions are the same, given the same fragments and thresholds.

    python benchmarks/parity.py [--affinities affinities.zarr ...] [--crop 8 256 256]

Every volume (noise of several kinds; crops from the middle of affinities that are named) has three kinds of fragments,
each of which is agglomerated by every score to every threshold, in waterz's order of 256 bins. Where partitions differ,
the table has the largest adapted Rand error of one against the other. Needs waterz; Markdown comes out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ssns.metrics import Contingency, ScoringSettings, score_table
from ssns.segmentation import (
    Agglomeration,
    DistanceTransformWatershed,
    GridSeeds,
    MeanScore,
    QuantileScore,
    SeededWatershed,
    sweep_methods,
    with_value,
)
from ssns.space import Box, triple
from ssns.volume import open_volume

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
FRAGMENTS = (SeededWatershed(), SeededWatershed(seeds=GridSeeds(spacing=6)), DistanceTransformWatershed())
HISTOGRAM = "HistogramQuantileAffinity<RegionGraphType, {}, ScoreValue, 256, {}>"
SCORES: dict[str, list[tuple[QuantileScore | MeanScore, str]]] = {
    "quantiles 10 to 90 from the maximum": [
        (QuantileScore(quantile=q, start="maximum"), HISTOGRAM.format(q, "true")) for q in range(10, 100, 10)
    ],
    "quantiles 10 to 90 from all": [
        (QuantileScore(quantile=q, start="all"), HISTOGRAM.format(q, "false")) for q in range(10, 100, 10)
    ],
    "mean, exact": [(MeanScore(), "MeanAffinity<RegionGraphType, ScoreValue>")],
    "mean, rounded as waterz": [(MeanScore(rounding="waterz"), "MeanAffinity<RegionGraphType, ScoreValue>")],
}
"""Ours, and what waterz calls it; no other score comes compiled with it."""


class Found(NamedTuple):
    """What came of a comparison."""

    same: int
    compared: int
    worst_arand: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--affinities", nargs="*", default=(), help="in run folders")
    parser.add_argument("--crop", type=int, nargs=3, default=(8, 256, 256), help="voxels of each volume")
    arguments = parser.parse_args()
    crop = triple(arguments.crop)
    print(f"| same partitions of | {' | '.join(SCORES)} |\n|---|{'---|' * len(SCORES)}")
    for name, affinities in volumes(crop, arguments.affinities):
        cells = []
        for scores in SCORES.values():
            found = [compared(affinities, score, scoring) for score, scoring in scores]
            same, total = sum(each.same for each in found), sum(each.compared for each in found)
            worst = max(each.worst_arand for each in found)
            cells.append(f"{same} of {total}" + (f", ARAND {worst:.6f}" if same < total else ""))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def volumes(crop: tuple[int, int, int], paths: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and affinities (3, z, y, x)."""
    for level in (-2, 0, 2):
        noise = gaussian_filter(np.random.default_rng(0).normal(size=(3, *crop)), (0, 0, 2, 2))
        blobs = 1 / (1 + np.exp(-8 * noise / noise.std() - level))
        yield f"blobs, {100 * (blobs > 0.5).mean():.0f} % of affinities above 0.5", blobs.astype(np.float32)
    yield "the last one as bytes", (255 * blobs).round().astype(np.uint8)
    yield "white noise", np.random.default_rng(0).random((3, *crop), dtype=np.float32)
    yield "one section of it", np.random.default_rng(0).random((3, 1, *crop[1:]), dtype=np.float32)
    for path in paths:
        opened = open_volume(path)
        start = triple((n - min(n, side)) // 2 for n, side in zip(opened.shape, crop, strict=True))
        shape = triple(min(n, side) for n, side in zip(opened.shape, crop, strict=True))
        yield "/".join(Path(path).parts[-3:-1]), opened.read(Box.of_shape(shape, start))


def compared(affinities: NDArray[Any], score: QuantileScore | MeanScore, scoring: str) -> Found:
    """Compare all partitions by one score."""
    methods = [
        with_value(Agglomeration(fragments=fragments, score=score), threshold)
        for fragments in FRAGMENTS
        for threshold in THRESHOLDS
    ]
    same, worst = 0, 0.0
    for fragments, partitions in sweep_methods(affinities, methods, threads=1):
        theirs = by_waterz(affinities, fragments, scoring)
        for (_, segments), wanted in zip(partitions, theirs, strict=True):
            table = Contingency.count(segments[fragments], wanted)
            equal = len(table.counts) == len(np.unique(table.labels)) == len(np.unique(table.segments))
            same += equal
            if not equal:
                worst = max(worst, score_table(table, ScoringSettings(background=None)).arand)
    return Found(same, len(methods), worst)


def by_waterz(affinities: NDArray[Any], fragments: NDArray[np.uint32], scoring: str) -> list[NDArray[Any]]:
    """The segmentation at each threshold."""
    import waterz

    floats = affinities if affinities.dtype == np.float32 else affinities / np.float32(255)
    with silence():
        found = waterz.agglomerate(
            floats.astype(np.float32, copy=False),
            list(THRESHOLDS),
            fragments=fragments.astype(np.uint64),
            scoring_function=f"OneMinus<{scoring}>",
            discretize_queue=256,
        )
        return [np.array(segmentation) for segmentation in found]  # all are written into the same array


@contextmanager
def silence() -> Iterator[None]:
    """Drop what C++ prints."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


if __name__ == "__main__":
    main()
