"""All that is found out about the segmentation of a part, in one pass over its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.blockwise.grid import Block, blocks
from ssns.commands.inputs import Part
from ssns.commands.objects import ObjectRow, object_rows
from ssns.commands.terminal import warn
from ssns.commands.truth import PartLabels, labels_of, warn_of_nothing
from ssns.errors import UserError
from ssns.metrics import (
    BLOCK,
    BlockwiseComponents,
    Contingency,
    Convention,
    ScoringSettings,
    Skeletons,
    expected_run_length,
    ids_at,
    near_boundary,
    object_errors,
    read_swc,
    score_table,
    skeleton_step,
    skeletonize,
)
from ssns.metrics.cremi import halo
from ssns.metrics.pairs import PairCounter
from ssns.space import Box, VoxelSize, triple
from ssns.volume import Volume


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is found out.

    Attributes:
        scores: By the names of ``scores.json``: what can be told with the labels, the skeletons and the voxel size that
            there are; empty if nothing can.
        objects: Lines of the table of objects.
        overlaps: Voxels of neurons and segments, without background on either side.
        sections: Neurons in the sections that were asked for, 0 where nothing is known, (n, y, x).
    """

    scores: dict[str, float]
    objects: list[ObjectRow] = field(default_factory=list)
    overlaps: Contingency | None = None
    sections: NDArray[np.int64] | None = None


def judge(part: Part, segmentation: Volume, convention: Convention, sections: Sequence[int] = ()) -> Judgement:
    """Judge a segmentation of a part by the labels or skeletons that it has.

    Truth is relabelled into 26-connected components. It is read block by block, once, as the segmentation is.

    Args:
        part: The part.
        segmentation: Segment ids of its shape.
        convention: What segment 0 means.
        sections: Those of the part whose truth is wanted.

    Raises:
        NothingSegmentedError: There is nothing that the convention scores.
        UserError: Skeletons cannot be read.
    """
    size = part.source.raw.voxel_size_nm
    if part.source.labels is None:
        return Judgement(_run_length(part, segmentation, size, None))
    tally = _Tally(part, size, sections)
    for block in blocks(Box.of_shape(part.box.shape), BLOCK, halo(size) if size else (0, 0, 0)):
        tally.add(block, segmentation.read(block.write))
    components, labels = tally.finder.joined()
    table = tally.everywhere.table(components)
    run_length = _run_length(part, segmentation, size, tally.skeletons(components))
    if not table.labels.any():
        warn_of_nothing(part)
        return Judgement(run_length)
    settings = ScoringSettings(convention=convention)
    scores = score_table(table, settings).to_dict()
    with suppress(UserError):  # nothing is left inside the borders
        scores["cremi"] = score_table(tally.inside.table(components), settings).cremi
    return Judgement(
        scores | run_length,
        object_rows(
            part.name, part.box.start, object_errors(table, settings), tally.everywhere.places(components), labels
        ),
        table.foreground(),
        components[tally.sections],
    )


class _Tally:
    """What has been counted of a part, its neurons under the numbers of their pieces."""

    def __init__(self, part: Part, size: VoxelSize | None, sections: Sequence[int]) -> None:
        self.labels = PartLabels(part)
        self.finder = BlockwiseComponents(labels_of(part), part.source.settings.background)
        self.everywhere, self.inside = PairCounter(), PairCounter()
        self.wanted = list(sections)
        self.sections = np.zeros((len(self.wanted), *part.box.shape[1:]), np.int64)
        self.size = size
        self.step = skeleton_step(size) if size else (1, 1, 1)
        coarse = [-(-n // step) for n, step in zip(part.box.shape, self.step, strict=True)]
        self.coarse = np.zeros(coarse if size and not part.source.settings.skeletons else (0, 0, 0), np.int64)

    def add(self, block: Block, segments: NDArray[Any]) -> None:
        """Count a block."""
        box = block.write
        pieces, known = self.finder.pieces(block), self.labels.known(box)
        self.everywhere.add(segments, pieces, known, start=box.start)
        pieces = np.where(known, pieces, 0)
        for row, z in enumerate(self.wanted):
            if box.start[0] <= z < box.stop[0]:
                self.sections[row][box.slices[1:]] = pieces[z - box.start[0]]
        if self.size is None:
            return
        near = near_boundary(self.labels[block.read.slices], self.size)[box.relative_to(block.read.start).slices]
        self.inside.add(segments, pieces, known & ~near)
        if self.coarse.size:
            first = triple(-a % step for a, step in zip(box.start, self.step, strict=True))
            taken = pieces[tuple(slice(a, None, step) for a, step in zip(first, self.step, strict=True))]
            start = triple((a + b) // step for a, b, step in zip(box.start, first, self.step, strict=True))
            self.coarse[Box.of_shape(taken.shape, start).slices] = taken

    def skeletons(self, components: NDArray[np.int64]) -> Skeletons | None:
        """Those of the neurons, if they are wanted."""
        if self.size is None or not self.coarse.size:
            return None
        z, y, x = (length * step for length, step in zip(self.size, self.step, strict=True))
        return skeletonize(components[self.coarse], (z, y, x))


def _run_length(part: Part, segmentation: Volume, size: VoxelSize | None, made: Skeletons | None) -> dict[str, float]:
    """Scores of the skeletons that the experiment names, or of those made from labels."""
    given = part.source.settings.skeletons
    skeletons = made
    if given is not None and size is not None:
        skeletons = read_swc(given).within(Box.of_shape(part.box.shape, part.origin), size)
        if not skeletons.lengths_nm.sum() > 0:
            warn(f"{part.name}: no edge of {given} is in it, so there is no NERL: positions are x, y, z in nm")
    if skeletons is None or size is None or not skeletons.lengths_nm.sum() > 0:
        return {}
    found = expected_run_length(skeletons, ids_at(segmentation, skeletons.voxels(size)))
    return {"erl_nm": found.erl_nm, "nerl": found.nerl}
