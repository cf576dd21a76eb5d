"""Pre-training: a network learns to restore what a perturbation did to raw (reference 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from ssns.networks import Extents
from ssns.sampling import RawBatch
from ssns.space import inner
from ssns.training.objectives import PretrainingSettings
from ssns.training.preview import Picture, Preview
from ssns.training.supervised import Process

VALIDATION_STREAM = 3
"""Of the draws of validation patches."""


class Pretraining:
    """Perturbed raw in, clean raw out.

    Args:
        network: Raw (b, 1, z, y, x) to logits (b, 1, z', y', x') of the restored raw it predicts.
        sampler: ``sampler(n)`` gives batch n.
        settings: Of the task and its loss.
        process: Device, seed and rank.
        picture: Makes the preview.
    """

    def __init__(
        self,
        network: nn.Module,
        sampler: Callable[[int], RawBatch],
        *,
        settings: PretrainingSettings,
        process: Process,
        picture: Picture | None = None,
    ) -> None:
        self.network = network
        self.sampler = sampler
        self.settings = settings
        self.process = process
        extents: Extents = network.extents  # type: ignore[assignment]
        self.shrink = extents.shrink
        self.shown = Preview(picture, self.shrink)

    @property
    def judged(self) -> nn.Module:
        """The network itself."""
        return self.network

    def draw(self, micro_step: int) -> tuple[RawBatch, int]:
        """The batch of one forward pass, and its number."""
        return self.sampler(micro_step), micro_step

    def loss(self, batch: tuple[RawBatch, int], step: int) -> Mapping[str, Tensor]:  # noqa: ARG002  the batch has its number
        """The one term ``restoration``."""
        drawn, number = batch
        perturbed, clean, counted = self.views(drawn, self.process.generator(number))
        logits = self.network(perturbed.contiguous(memory_format=torch.channels_last_3d)).float()
        self.shown.keep(perturbed, clean, logits, counted)
        return {"restoration": self.settings.loss(logits, clean, counted, self.process.total)}

    def views(self, batch: RawBatch, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Perturbed raw (b, 1, z, y, x), and of the part that the network predicts clean raw and what counts."""
        perturbed, clean, counted = [], [], []
        for patch in self.process.patches(batch):
            cleaned = self.settings.clean.apply(patch, generator)
            seen, mask = self.settings.task.perturb(cleaned, generator)
            perturbed.append(seen)
            clean.append(cleaned.raw)
            counted.append(mask)
        inside = inner(batch.raw.shape[2:], self.shrink)
        raw, target, mask = (torch.stack(found)[:, None] for found in (perturbed, clean, counted))
        return raw, target[:, :, *inside], mask[:, :, *inside]

    def validate(self, network: nn.Module, batches: int) -> dict[str, float]:
        """The mean loss of a fixed set of perturbed patches."""
        values = []
        for number in range(batches):
            generator = self.process.generator(number, VALIDATION_STREAM)
            raw, clean, counted = self.views(self.sampler(number), generator)
            with torch.no_grad():
                logits = network(raw.contiguous(memory_format=torch.channels_last_3d)).float()
            values.append(float(self.settings.loss(logits, clean, counted)))
        return {"restoration": float(np.mean(values))}

    def after_update(self, step: int) -> None:
        """Nothing follows the network here."""

    def describe(self, batch: tuple[RawBatch, int]) -> str:
        """The places of its patches."""
        return "; ".join(batch[0].places)

    def preview(self) -> NDArray[np.uint8] | None:
        """Perturbed, clean and restored raw of the first patch of the latest batch."""
        return self.shown.draw()
