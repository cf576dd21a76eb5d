"""CutMix: boxes of labelled and unlabelled patches change places before the network, and back after it.

Since logits change back, losses, targets and masks stay where they are; only edges across the rim of a box are masked,
for no patch holds both their ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ssns.affinities import edge_ends
from ssns.perturb.draws import integers, uniform
from ssns.space import Triple
from ssns.training.objectives import CutMix


@dataclass(frozen=True, eq=False)
class Exchange:
    """The voxels that change places, bool (z, y, x)."""

    box: Tensor

    def swap(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Two tensors (..., z, y, x) with the voxels exchanged; doing it twice does nothing."""
        return torch.where(self.box, second, first), torch.where(self.box, first, second)

    def whole_edges(self, offsets: Sequence[Triple]) -> Tensor:
        """Where both ends of an edge are in the box, or both outside of it, bool (c, z, y, x)."""
        whole = torch.ones((len(offsets), *self.box.shape), dtype=torch.bool, device=self.box.device)
        for channel, offset in enumerate(offsets):
            here, there = edge_ends(self.box.shape, offset)
            whole[channel][here] = self.box[here] == self.box[there]
        return whole


def draw_exchange(settings: CutMix, shape: Triple, generator: Generator, device: torch.device) -> Exchange | None:
    """A box of a patch of ``shape`` (z, y, x): a rectangle in all sections, sections from one on, or none."""
    turn = float(uniform(generator, 0, 1))
    box = torch.zeros(shape, dtype=torch.bool)
    if turn < settings.plane:
        box[(slice(None), *(_span(settings, extent, generator) for extent in shape[1:]))] = True
    elif turn < settings.plane + settings.depth:
        span = _span(settings, shape[0], generator)
        extent = span.stop - span.start
        from_top = bool(integers(generator, 0, 1))
        box[slice(0, extent) if from_top else slice(shape[0] - extent, shape[0])] = True
    else:
        return None
    return Exchange(box.to(device))


def _span(settings: CutMix, extent: int, generator: Generator) -> slice:
    """A part of an axis: its share of the extent drawn, at least a voxel, not all of several, at a place drawn."""
    share = float(uniform(generator, *settings.size))
    length = min(max(1, round(share * extent)), max(1, extent - 1))
    start = int(integers(generator, 0, extent - length))
    return slice(start, start + length)
