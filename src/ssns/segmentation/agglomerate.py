"""Agglomeration by waterz: fragments merge in the order of the affinity between them, up to a threshold."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import waterz
from pydantic import Field

from ssns.segmentation.fragments import Fragments, SeededWatershed
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import Ids, as_smallest
from ssns.settings import Component

Quantile = Literal[10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95]
"""Percentages that waterz is compiled for; others would need a compiler on the user's machine."""


class QuantileScore(Component):
    """1 minus a quantile of the affinities between two regions, from a histogram of 256 bins."""

    type: Literal["quantile"] = "quantile"
    quantile: Quantile = Field(default=50, description="Percentage of the quantile; 50 is the median")
    start: Literal["maximum", "all"] = Field(
        default="maximum",
        description="What two touching fragments enter: the largest affinity between them (the paper), or all",
    )

    def expression(self) -> str:
        """The score in waterz's language, which is C++."""
        start = "true" if self.start == "maximum" else "false"
        return f"OneMinus<HistogramQuantileAffinity<RegionGraphType,{self.quantile},ScoreValue,256,{start}>>"


class MeanScore(Component):
    """1 minus the mean of the affinities between two regions."""

    type: Literal["mean"] = "mean"

    def expression(self) -> str:
        """The score in waterz's language, which is C++."""
        return "OneMinus<MeanAffinity<RegionGraphType,ScoreValue>>"


Score = Annotated[QuantileScore | MeanScore, Field(discriminator="type")]


class Waterz(Component):
    """Agglomeration of fragments by waterz (Funke et al. 2019, doi 10.1109/TPAMI.2018.2835450; reference 8.1).

    The defaults are the paper's.
    """

    type: Literal["waterz"] = "waterz"
    fragments: Fragments = Field(default=SeededWatershed(), description="What is agglomerated")
    score: Score = Field(default=QuantileScore(), description="When two regions merge: those of lowest score first")
    queue: Literal[0, 256] = Field(
        default=256, description="Bins of the queue, merging in order of arrival within each; 0 for the exact order"
    )
    threshold: float = Field(default=0.5, ge=0, le=1, description="Regions merge while the lowest score is below it")
    minimum_size: int = Field(default=0, ge=0, description="Voxels below which a segment joins its best neighbour")

    swept: ClassVar[str] = "threshold"

    def partitions(
        self, fragments: Ids, volume: AffinityVolume, thresholds: Sequence[float], threads: int | None = None
    ) -> Iterator[Ids]:
        """Partitions of given fragments, from one agglomeration that stops at every threshold.

        Args:
            fragments: Dense ids (z, y, x); 0 takes no part.
            volume: The affinities.
            thresholds: Where to stop, ascending.
            threads: waterz knows one thread only.

        Yields:
            Segment of each fragment, (n + 1,); 0 for fragment 0.
        """
        del threads
        # waterz writes its result over the ids that it is given, and yields that array again and again.
        regions = fragments.astype(np.uint64)
        results = waterz.agglomerate(
            volume.nearest,
            list(thresholds),
            fragments=regions,
            scoring_function=self.score.expression(),
            discretize_queue=self.queue,
        )
        segments = np.zeros(int(fragments.max()) + 1, dtype=np.uint64)
        for _ in thresholds:
            with _silenced():
                next(results)
            segments[fragments] = regions
            yield as_smallest(segments)


_silence = threading.Lock()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep waterz's progress reports off standard output, which belongs to the user.

    They come from Python and from C++, so both ``sys.stdout`` and file descriptor 1 lead nowhere for the time of one
    call. waterz does not release the interpreter, so other threads write nothing meanwhile, save for the moments
    before and after. Calls wait for each other, or the second would restore what the first had set.
    """
    with _silence, contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as restore:
        # A closed standard output needs no silence.
        with contextlib.suppress(OSError):
            kept = os.dup(1)
            restore.callback(os.close, kept)
            restore.callback(os.dup2, kept, 1)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.close(nowhere)
        yield
