"""How often ids occur in labels, for what `ssns init` says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssns.commands.inputs import Source
from ssns.space import Box, cover

LARGEST_LOOK = 256_000_000
"""Voxels of labels that are counted; of more, evenly spread sections."""


@dataclass(frozen=True)
class IdCounts:
    """Ids of labels by how often they occur.

    Attributes:
        voxels: Count of each id.
        every: Each how manieth section was looked at.
        empty: Sections (z of raw) that were looked at and hold no neuron.
        filled: Those that do.
        background: The id that is membrane or outside, if any.
        ignored: The id of unknown voxels, if any.
    """

    voxels: Counter[int]
    every: int
    empty: tuple[int, ...]
    filled: tuple[int, ...]
    background: int | None
    ignored: int | None

    @classmethod
    def of(cls, source: Source, boxes: Sequence[Box]) -> IdCounts:
        """Count the ids in boxes of raw, all of them labelled."""
        assert source.labels is not None, "only labels are counted"
        sections = [slab for box in boxes for slab in cover(box, (1, *box.shape[1:]))]
        every = max(1, -(-sum(box.size for box in boxes) // LARGEST_LOOK))
        unknown = {source.settings.background, source.settings.ignored}
        counted: Counter[int] = Counter()
        neurons: dict[int, bool] = {}
        for slab in sections[::every]:
            ids, counts = np.unique(source.labels.read(slab.relative_to(source.labels_start)), return_counts=True)
            counted.update(dict(zip(ids.tolist(), counts.tolist(), strict=True)))
            z = slab.start[0]
            neurons[z] = neurons.get(z, False) or not unknown.issuperset(ids.tolist())
        empty, filled = (tuple(sorted(z for z in neurons if neurons[z] == wanted)) for wanted in (False, True))
        return cls(counted, every, empty, filled, source.settings.background, source.settings.ignored)

    @property
    def neurons(self) -> int:
        """How many ids are neither background nor ignored."""
        return len(self.voxels.keys() - {self.background, self.ignored})

    def share(self, value: int) -> float:
        """Part of the voxels that have an id, 0 to 1."""
        return self.voxels[value] / self.voxels.total()
