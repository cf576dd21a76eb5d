"""Supervised training: affinities of labelled patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssns.affinities import BorderStyle, labels_to_affinities, widen_borders
from ssns.losses import Loss
from ssns.perturb import Engine, Patch
from ssns.sampling import Batch
from ssns.space import Triple

Picture = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.uint8]]
"""``picture(raw, target, prediction, mask)`` as RGB."""


class Supervised:
    """The loss of labelled patches, augmented on the training device.

    Args:
        network: Raw (b, 1, z, y, x) to logits (b, c, z, y, x); may lose ``network.shrink`` voxels at each side.
        sampler: ``sampler(n)`` gives batch n.
        offsets: What each channel is an affinity to.
        loss: Of logits, targets and mask.
        augmentation: Applied to each patch with its labels.
        border: How labels are cleared at boundaries before affinities are made.
        seed: Of the draws of the augmentation, with the rank and the number of the batch.
        rank: Of this process.
        device: Where the network is.
        picture: Makes the preview.
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Callable[[int], Batch],
        *,
        offsets: Sequence[Triple],
        loss: Loss,
        augmentation: Engine,
        border: BorderStyle,
        seed: int,
        rank: int = 0,
        device: torch.device,
        picture: Picture | None = None,
    ) -> None:
        self.network = network
        self.sampler = sampler
        self.offsets = tuple(offsets)
        self.criterion = loss
        self.augmentation = augmentation
        self.border: BorderStyle = border
        self.seed = seed
        self.rank = rank
        self.device = device
        self.picture = picture
        self._shown: tuple[Tensor, ...] | None = None

    def draw(self, micro_step: int) -> tuple[Batch, int]:
        """The batch of one forward pass, and its number."""
        return self.sampler(micro_step), micro_step

    def loss(self, batch: tuple[Batch, int], step: int) -> Mapping[str, Tensor]:  # noqa: ARG002  the batch has its number
        """The one term ``labelled``."""
        raw, labels, valid = self.augmented(*batch)
        target, mask = self.targets(labels, valid)
        logits = self.network(raw.contiguous(memory_format=torch.channels_last_3d)).float()
        self._shown = (raw[0], target[0], logits[0].detach().sigmoid(), mask[0])
        return {"labelled": self.criterion(logits, target, mask)}

    def augmented(self, batch: Batch, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Raw (b, 1, z, y, x), labels and validity (b, z, y, x) on the device, each patch perturbed."""
        state = np.random.SeedSequence((self.seed, self.rank, number)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        patches = [
            self.augmentation.apply(Patch(*(torch.from_numpy(part).to(self.device) for part in parts)), generator)  # type: ignore[arg-type]  # three tensors
            for parts in zip(batch.raw[:, 0], batch.labels, batch.valid, strict=True)
        ]
        raw = torch.stack([patch.raw for patch in patches])[:, None]
        labels = torch.stack([_present(patch.labels) for patch in patches])
        return raw, labels, torch.stack([_present(patch.valid) for patch in patches])

    def targets(self, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Affinities and mask (b, c, z, y, x) of the part of a patch that the network predicts."""
        target, mask = labels_to_affinities(widen_borders(labels, self.border, valid=valid), self.offsets, valid=valid)
        shrink = _shrink(self.network)
        inside = tuple(slice(lost, extent - lost) for lost, extent in zip(shrink, labels.shape[1:], strict=True))
        return target[(..., *inside)], mask[(..., *inside)]

    def after_update(self, step: int) -> None:
        """Nothing follows the network here."""

    def describe(self, batch: tuple[Batch, int]) -> str:
        """The places of its patches."""
        return "; ".join(batch[0].places)

    def preview(self) -> NDArray[np.uint8] | None:
        """Raw, target and prediction of the first patch of the latest batch."""
        if self.picture is None or self._shown is None:
            return None
        raw, target, prediction, mask = (part.cpu().numpy() for part in self._shown)
        inside = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(raw.shape[1:], target.shape[1:], strict=True))
        return self.picture(raw[0][inside], target, prediction, mask)


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise TypeError("a labelled patch lost its labels in a perturbation")
    return tensor


def _shrink(network: nn.Module) -> Triple:
    shrink: Triple = network.shrink  # type: ignore[assignment]
    return shrink
