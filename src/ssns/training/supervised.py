"""Supervised training: affinities of labelled patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from ssns.affinities import BorderStyle, labels_to_affinities, widen_borders
from ssns.losses import Loss, Total, alone
from ssns.perturb import Engine, Patch
from ssns.sampling import Batch, RawBatch
from ssns.space import Triple, inner
from ssns.training.preview import Picture, Preview


@dataclass(frozen=True)
class Process:
    """Where and as which part of a training an objective works.

    Attributes:
        device: Of its tensors.
        seed: Of the experiment.
        rank: Of this process; with the seed and the number of a batch, it decides all draws.
        total: Sums over processes.
    """

    device: torch.device
    seed: int = 0
    rank: int = 0
    total: Total = alone

    def generator(self, *numbers: int) -> Generator:
        """Draws, on the CPU, that depend on seed, rank and ``numbers`` alone."""
        state = np.random.SeedSequence((self.seed, self.rank, *numbers)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))

    def patches(self, batch: RawBatch) -> list[Patch]:
        """The patches of an unlabelled batch, on the device."""
        partners = [None] * len(batch.raw) if batch.partners is None else batch.partners[:, 0]
        return [
            Patch(
                torch.from_numpy(raw).to(self.device),
                partner=None if partner is None else torch.from_numpy(partner).to(self.device),
            )
            for raw, partner in zip(batch.raw[:, 0], partners, strict=True)
        ]


@dataclass(frozen=True)
class Targets:
    """What affinities of labels are made like.

    Attributes:
        offsets: What each channel is an affinity to.
        border: How labels are cleared at boundaries before.
        outside: Edges that leave a patch: not known, or as in the paper's code.
        shrink: Voxels at each side that the network does not predict.
    """

    offsets: tuple[Triple, ...]
    border: BorderStyle
    outside: Literal["masked", "replicate"] = "masked"
    shrink: Triple = (0, 0, 0)

    def of(self, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Affinities and mask (b, c, z, y, x) of the part of patches (b, z, y, x) that the network predicts."""
        widened = widen_borders(labels, self.border, valid=valid)
        target, mask = labels_to_affinities(widened, self.offsets, valid=valid, outside=self.outside)
        inside = inner(labels.shape[1:], self.shrink)
        return target[(..., *inside)], mask[(..., *inside)]


class Supervised:
    """The loss of labelled patches, augmented on the training device.

    Args:
        network: Raw (b, 1, z, y, x) to logits (b, c, z', y', x'), ``targets.shrink`` less at each side.
        sampler: ``sampler(n)`` gives batch n.
        targets: How labels become affinities.
        loss: Of logits, targets and mask.
        augmentation: Applied to each patch with its labels.
        process: Device, seed and rank.
        picture: Makes the preview.
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Callable[[int], Batch],
        *,
        targets: Targets,
        loss: Loss,
        augmentation: Engine,
        process: Process,
        picture: Picture | None = None,
    ) -> None:
        self.network = network
        self.sampler = sampler
        self.targets = targets
        self.criterion = loss
        self.augmentation = augmentation
        self.process = process
        self.shown = Preview(picture, targets.shrink)

    @property
    def judged(self) -> nn.Module:
        """The network itself."""
        return self.network

    def draw(self, micro_step: int) -> tuple[Batch, int]:
        """The batch of one forward pass, and its number."""
        return self.sampler(micro_step), micro_step

    def loss(self, batch: tuple[Batch, int], step: int) -> Mapping[str, Tensor]:  # noqa: ARG002  the batch has its number
        """The one term ``labelled``."""
        raw, target, mask = self.views(*batch)
        logits = self.network(raw.contiguous(memory_format=torch.channels_last_3d)).float()
        self.shown.keep(raw, target, logits, mask)
        return {"labelled": self.criterion(logits, target, mask, self.process.total)}

    def views(self, batch: Batch, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Perturbed raw (b, 1, z, y, x) on the device, with its affinities and their mask (b, c, z, y, x)."""
        raw, labels, valid = self.augmented(batch, number)
        return raw, *self.targets.of(labels, valid)

    def augmented(self, batch: Batch, *numbers: int) -> tuple[Tensor, Tensor, Tensor]:
        """Raw (b, 1, z, y, x), labels and validity (b, z, y, x) on the device, each patch perturbed.

        The numbers, of the batch and of a stream of draws beside that of labelled patches, decide how.
        """
        generator, device = self.process.generator(*numbers), self.process.device
        parts: list[list[Tensor]] = [[], [], []]
        for arrays in zip(batch.raw[:, 0], batch.labels, batch.valid, strict=True):
            raw, labels, valid = (torch.from_numpy(array).to(device) for array in arrays)
            patch = self.augmentation.apply(Patch(raw, labels, valid), generator)
            for found, part in zip(parts, (patch.raw, patch.labels, patch.valid), strict=True):
                found.append(_present(part))
        raw, labels, valid = (torch.stack(found) for found in parts)
        return raw[:, None], labels, valid

    def after_update(self, step: int) -> None:
        """Nothing follows the network here."""

    def describe(self, batch: tuple[Batch, int]) -> str:
        """The places of its patches."""
        return "; ".join(batch[0].places)

    def preview(self) -> NDArray[np.uint8] | None:
        """Raw, target and prediction of the first patch of the latest batch."""
        return self.shown.draw()


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TypeError("a labelled patch lost its labels in a perturbation")
    return tensor
