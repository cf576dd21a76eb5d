"""Agglomeration: fragments merge in the order of the affinity between them, up to a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssns.segmentation.cleaning import Cleaning
from ssns.segmentation.fragments import Fragments, SeededWatershed
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.merging import MAXIMUM, MEAN, Evidence, merge_regions
from ssns.segmentation.relabelling import Ids, relabel
from ssns.settings import Component

BINS = 256
"""Bins of the queue, as in the paper's pipeline."""


class QuantileScore(Component):
    """1 minus a quantile of the affinities between two regions, from a histogram of 256 bins.

    Of ``n`` affinities in ascending order it takes number ``floor(quantile n / 100) + 1``, the last at most, and the
    middle of that one's bin.
    """

    type: Literal["quantile"] = "quantile"
    quantile: int = Field(default=50, ge=0, le=100, description="Percentage of the quantile; 50 is the median")
    start: Literal["maximum", "all"] = Field(
        default="maximum",
        description="What two touching fragments enter: the largest affinity between them (the paper), or all",
    )
    running: ClassVar[bool] = False

    @property
    def histograms(self) -> bool:
        """Whether the graph has to count them."""
        return self.start == "all"

    def evidence(self, graph: RegionGraph) -> Evidence:
        """What contacts start with."""
        if self.start == "all":
            assert graph.histograms is not None, "the graph was to count them"
            return Evidence.of_histograms(self.quantile, graph.area, *graph.histograms)
        one = np.ones(len(graph.pairs), np.uint32)
        starts = np.arange(len(graph.pairs) + 1)
        return Evidence.of_histograms(self.quantile, one.astype(np.int64), starts, graph.maximum >> 8, one)


class MeanScore(Component):
    """1 minus the mean of the affinities between two regions."""

    type: Literal["mean"] = "mean"
    rounding: Literal["none", "waterz"] = Field(
        default="none",
        description="Of the mean: none, as sums are of whole numbers; or float32 at each voxel and merge, as waterz",
    )
    histograms: ClassVar[bool] = False

    @property
    def running(self) -> bool:
        """Whether the graph has to follow the running means."""
        return self.rounding == "waterz"

    def evidence(self, graph: RegionGraph) -> Evidence:
        """What contacts start with."""
        if self.rounding == "none":
            return Evidence.of_levels(MEAN, graph.area, graph.total)
        assert graph.running is not None, "the graph was to follow them"
        return Evidence.of_means(graph.area, graph.running)


class MaximumScore(Component):
    """1 minus the largest of the affinities between two regions."""

    type: Literal["maximum"] = "maximum"
    histograms: ClassVar[bool] = False
    running: ClassVar[bool] = False

    def evidence(self, graph: RegionGraph) -> Evidence:
        """What contacts start with."""
        return Evidence.of_levels(MAXIMUM, np.ones(len(graph.pairs), np.int64), graph.maximum)


Score = Annotated[QuantileScore | MeanScore | MaximumScore, Field(discriminator="type")]


@dataclass(frozen=True, eq=False)
class MergeTree:
    """All merges of fragments in their order, of which a threshold takes the first few.

    Attributes:
        count: Largest id of a fragment.
        merges: The two regions of each merge (m, 2), named by their smallest fragments, the smaller first.
        scores: The highest score that had come up by then, float32 (m,), ascending.
    """

    count: int
    merges: NDArray[np.int64]
    scores: NDArray[np.float32]

    def cut(self, threshold: float) -> Ids:
        """The partition once a score of the threshold or more comes up.

        Returns:
            Segment of each fragment, dense, (n + 1,); 0 for fragment 0.
        """
        done = self.merges[: np.searchsorted(self.scores, np.float32(threshold))]
        segments = np.arange(self.count + 1)
        segments[done[:, 1]] = done[:, 0]
        while not np.array_equal(further := segments[segments], segments):
            segments = further
        return relabel(segments)


class Agglomeration(Component):
    """Agglomeration of fragments as waterz does it (Funke et al. 2019, doi 10.1109/TPAMI.2018.2835450; reference 8.1).

    The defaults are the paper's.
    """

    type: Literal["agglomeration"] = "agglomeration"
    fragments: Fragments = Field(default=SeededWatershed(), description="What is agglomerated")
    score: Score = Field(default=QuantileScore(), description="When two regions merge: those of lowest score first")
    queue: Literal["bins", "exact"] = Field(
        default="bins",
        description="Equals in score: those in the same of 256 bins, in order of arrival; or exact ones, by their ids",
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="Regions merge while the lowest score is below it")
    cleaning: Cleaning = Field(default=Cleaning(), description="What is done about segments that cannot be neurons")

    swept: ClassVar[str] = "threshold"
    far: ClassVar[bool] = False

    @property
    def histograms(self) -> bool:
        """Whether the graph has to count them."""
        return self.score.histograms

    @property
    def running(self) -> bool:
        """Whether the graph has to follow the running means."""
        return self.score.running

    def tree(self, graph: RegionGraph) -> MergeTree:
        """Merge all fragments that are in contact, directly or through others."""
        count = len(graph.voxels) - 1
        bins = BINS if self.queue == "bins" else 0
        return MergeTree(count, *merge_regions(graph.pairs, count, self.score.evidence(graph), bins))

    def partitions(self, graph: RegionGraph, thresholds: Sequence[float]) -> Iterator[Ids]:
        """Partitions of fragments, all from one merge tree.

        Args:
            graph: The graph of the fragments, with histograms where the method asks for them.
            thresholds: Where to stop.

        Yields:
            Segment of each fragment, dense, (n + 1,); 0 for fragment 0.
        """
        tree = self.tree(graph)
        for threshold in thresholds:
            yield tree.cut(threshold)
