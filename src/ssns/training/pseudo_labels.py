"""Learning from pseudo-labels: labelled patches, and patches of unlabelled raw that another network has segmented.

Pseudo-labels (Lee 2013) of which the uncertain ones are left out, for a student that sees every patch perturbed (Xie et
al. 2020, arXiv:1911.04252). What is certain is told by two segmentations of one tree of merges
(`ssns.segmentation.pseudo_labels`): an edge within a cautious segment is inside a neuron; one between two bold
segments, between cautious ones whose own contact the bold segmentation would not join, or at background, is not; of
the rest nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssns.affinities import edge_ends
from ssns.sampling import Batch
from ssns.space import inner
from ssns.training.objectives import PseudoLabelObjective
from ssns.training.supervised import Supervised

TAUGHT = 2
"""The stream of draws of pseudo-labelled patches."""


@dataclass(frozen=True)
class Drawn:
    """Patches of one forward pass.

    Attributes:
        labelled: With their labels.
        taught: With cautious pseudo-labels.
        number: Of the pass.
    """

    labelled: Batch
    taught: Batch
    number: int


class PseudoLabelled:
    """The loss of labelled patches and that of pseudo-labelled ones.

    Args:
        labelled: How patches of both kinds are augmented and judged, labelled ones are drawn, and the network.
        sampler: ``sampler(n)`` gives the pseudo-labelled batch n, with cautious ids.
        bold: The bold segment of each cautious one (n + 1,).
        apart: Pairs of cautious segments (m, 2), the smaller first, that are two neurons though one bold segment has
            both.
        settings: Of the objective.
        untrained: Channels of which pseudo-labels know nothing.
    """

    def __init__(
        self,
        labelled: Supervised,
        sampler: Callable[[int], Batch],
        bold: NDArray[np.integer],
        apart: NDArray[np.integer],
        settings: PseudoLabelObjective,
        *,
        untrained: Sequence[int] = (),
    ) -> None:
        self.network: nn.Module = labelled.network
        self.labelled = labelled
        self.sampler = sampler
        self.bold = torch.from_numpy(bold.astype(np.int32)).to(labelled.process.device)
        keys = apart[:, 0].astype(np.int64) * len(bold) + apart[:, 1]
        self.apart = torch.from_numpy(np.sort(keys)).to(labelled.process.device)
        self.settings = settings
        self.untrained = list(untrained)
        self.targets = replace(labelled.targets, border="none")  # background is where the teacher saw membranes

    @property
    def judged(self) -> nn.Module:
        """The network itself."""
        return self.labelled.network

    def draw(self, micro_step: int) -> Drawn:
        """The batches of one forward pass."""
        return Drawn(self.labelled.sampler(micro_step), self.sampler(micro_step), micro_step)

    def loss(self, batch: Drawn, step: int) -> Mapping[str, Tensor]:  # noqa: ARG002  the batch has its number
        """The terms ``labelled`` and ``taught``."""
        raw, target, mask = self.labelled.views(batch.labelled, batch.number)
        image, taught, known = self.views(batch.taught, batch.number)
        both = torch.cat([raw, image]).contiguous(memory_format=torch.channels_last_3d)
        logits, others = torch.split(self.network(both).float(), [len(raw), len(image)])
        self.labelled.shown.keep(raw, target, logits, mask)
        criterion, total = self.labelled.criterion, self.labelled.process.total
        return {
            "labelled": criterion(logits, target, mask, total),
            "taught": criterion(others, taught, known, total) * self.settings.weight,
        }

    def views(self, batch: Batch, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Perturbed raw (b, 1, z, y, x) on the device, its affinities and where they are certain (b, c, z, y, x)."""
        raw, ids, valid = self.labelled.augmented(batch, number, TAUGHT)
        cautious, known = self.targets.of(ids, valid)
        bold, _ = self.targets.of(self.bold[ids], valid)
        known = known & ((cautious == bold) | self._apart(ids))
        known[:, self.untrained] = False
        return raw, cautious, known

    def _apart(self, ids: Tensor) -> Tensor:
        """Edges (b, c, z, y, x) between segments that the bold segmentation joins through others alone."""
        shape = (ids.shape[1], ids.shape[2], ids.shape[3])
        found = torch.zeros((len(ids), len(self.targets.offsets), *shape), dtype=torch.bool, device=ids.device)
        if len(self.apart):
            ids = ids.long()
            for channel, offset in enumerate(self.targets.offsets):
                here, there = edge_ends(shape, offset)
                first, second = ids[(slice(None), *here)], ids[(slice(None), *there)]
                keys = torch.minimum(first, second) * len(self.bold) + torch.maximum(first, second)
                place = torch.searchsorted(self.apart, keys).clamp(max=len(self.apart) - 1)
                found[:, channel][(slice(None), *here)] = self.apart[place] == keys
        return found[(..., *inner(shape, self.targets.shrink))]

    def after_update(self, step: int) -> None:
        """Nothing follows the network here."""

    def describe(self, batch: Drawn) -> str:
        """The places of its patches."""
        return "; ".join(batch.labelled.places + batch.taught.places)

    def preview(self) -> NDArray[np.uint8] | None:
        """The first labelled patch of the latest batch."""
        return self.labelled.preview()
