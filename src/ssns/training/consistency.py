"""Consistency training: labelled patches, and agreement with a teacher on unlabelled ones.

One step (Huang et al. 2022, section III; reference 5.3 and 5.4):

1. Labelled patches are augmented, and their affinities made, as in supervised training.
2. Unlabelled patches go through ``clean`` perturbations, then the student's views through ``strong`` ones as well.
3. The teacher predicts the clean patches, in one or several orientations; its affinities are carried into the frame of
   each view (`perturb.carrying`).
4. The student sees labelled patches and views, in one batch or apart; boxes may change places before it (`mixing`).
5. The loss is the labelled one, plus the weighted loss of views against targets where these are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from ssns.affinities import GRID_SYMMETRIES, averaged_over, edge_ends
from ssns.perturb import Patch
from ssns.perturb.carrying import Carried
from ssns.sampling import Batch, RawBatch
from ssns.space import inner
from ssns.training.mixing import Exchange, draw_exchange
from ssns.training.objectives import ConsistencyObjective
from ssns.training.supervised import Supervised
from ssns.training.teachers import Students, Teacher

UNLABELLED, MIXED = 1, 2
"""Streams of draws of one step, beside 0 of labelled patches."""


@dataclass(frozen=True)
class Drawn:
    """Patches of one forward pass.

    Attributes:
        labelled: With their labels.
        unlabelled: Raw alone; None where the consistency has no weight.
        number: Of the pass.
    """

    labelled: Batch
    unlabelled: RawBatch | None
    number: int


class Consistency:
    """The labelled loss and the consistency with a teacher.

    Args:
        students: What learns.
        teacher: What it is compared with.
        labelled: How labelled patches are drawn, augmented and judged; its network is not used.
        sampler: ``sampler(n)`` gives the unlabelled batch n.
        settings: Of the consistency.
        accumulate: Forward passes of one step.
        autocast: The precision in which the teacher works.
    """

    def __init__(
        self,
        students: Students,
        teacher: Teacher,
        *,
        labelled: Supervised,
        sampler: Callable[[int], RawBatch],
        settings: ConsistencyObjective,
        accumulate: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.network: nn.Module = students
        self.teacher = teacher
        self.labelled = labelled
        self.sampler = sampler
        self.settings = settings
        self.accumulate = accumulate
        self.autocast = autocast

    @property
    def judged(self) -> nn.Module:
        """The network that predicts in the end."""
        return self.teacher.judged

    def draw(self, micro_step: int) -> Drawn:
        """The batches of one forward pass; nothing unlabelled is read for a step in which it has no weight."""
        weighs = self.settings.weight_at(micro_step // self.accumulate) > 0
        return Drawn(self.labelled.sampler(micro_step), self.sampler(micro_step) if weighs else None, micro_step)

    def loss(self, batch: Drawn, step: int) -> Mapping[str, Tensor]:
        """The terms ``labelled`` and, after the warm-up, ``consistency``."""
        raw, target, mask = self.labelled.views(batch.labelled, batch.number)
        if batch.unlabelled is None:
            return {"labelled": self._labelled_loss(self._logits(raw), raw, target, mask)}
        generator = self.labelled.process.generator(batch.number, UNLABELLED)
        clean = [self._cleaned(patch, generator) for patch in self.labelled.process.patches(batch.unlabelled)]
        taught = self._taught(_images(clean), generator)
        views = [[self._view(patch, generator) for patch in clean] for _ in range(self.settings.views)]
        carried = [self._carried(taught, patches) for patches in views]
        exchange = self._exchange(batch.number, raw)
        images = [raw, *map(_images, views)]
        if exchange is not None:
            images[:2] = exchange.swap(*images[:2])
        logits = list(torch.split(self._logits(images[0], torch.cat(images[1:])), len(raw), dim=1))
        if exchange is not None:
            mask, carried[0] = self._put_back(exchange, logits, mask, carried[0])
        terms = {"labelled": self._labelled_loss(logits[0], raw, target, mask)}
        each = [self._consistency(seen, *wanted) for seen, wanted in zip(logits[1:], carried, strict=True)]
        return terms | {"consistency": torch.stack(each).mean() * self.settings.weight_at(step)}

    def after_update(self, step: int) -> None:
        """Move the teacher."""
        self.teacher.follow(step)

    def describe(self, batch: Drawn) -> str:
        """The places of its patches."""
        unlabelled = () if batch.unlabelled is None else batch.unlabelled.places
        return "; ".join(batch.labelled.places + unlabelled)

    def preview(self) -> NDArray[np.uint8] | None:
        """The first labelled patch of the latest batch."""
        return self.labelled.preview()

    def _cleaned(self, patch: Patch, generator: Generator) -> Patch:
        """What teacher and student both get: its moves are nobody's concern any more, but what they hid is."""
        cleaned = self.settings.clean.apply(patch, generator)
        return Patch(cleaned.raw, valid=cleaned.valid, partner=cleaned.partner)

    def _view(self, clean: Patch, generator: Generator) -> Patch:
        return self.settings.strong.apply(clean, generator)

    def _taught(self, clean: Tensor, generator: Generator) -> Tensor:
        """The teacher's affinities (n, b, c, z, y, x) of clean patches, averaged over orientations."""

        def affinities(view: Tensor) -> Tensor:
            with self.autocast():
                return self.teacher.logits(view.contiguous(memory_format=torch.channels_last_3d)).float().sigmoid()

        if self.settings.orientations == 1:
            return affinities(clean)
        others = torch.randperm(len(GRID_SYMMETRIES) - 1, generator=generator)[: self.settings.orientations - 1]
        drawn = [GRID_SYMMETRIES[0], *(GRID_SYMMETRIES[1 + number] for number in others.tolist())]
        return cast("Tensor", averaged_over(drawn, affinities, clean, self.labelled.targets.offsets))

    def _carried(self, taught: Tensor, views: list[Patch]) -> tuple[Tensor, Tensor]:
        """Targets (n, b, c, z, y, x) in the frames of the views, and where they count."""
        pairs = [[self._carry(affinities, view) for affinities, view in zip(one, views, strict=True)] for one in taught]
        target, known = (torch.stack([torch.stack([p[i] for p in one]) for one in pairs]) for i in range(2))
        if self.settings.confidence is not None:
            known = known & ((target >= self.settings.confidence) | (target <= 1 - self.settings.confidence))
        return target, known

    def _carry(self, affinities: Tensor, view: Patch) -> tuple[Tensor, Tensor]:
        """The teacher's affinities (c, z, y, x) as the view's own, and where they are known."""
        targets = self.labelled.targets
        start = Carried(affinities, torch.ones_like(affinities, dtype=torch.bool), targets.offsets, targets.shrink)
        if self.settings.geometry == "reference":
            moved = start.moved_as_images(view.moves)
        else:
            moved = start.moved(view.moves, keep_uncertain=self.settings.boundaries == "kept")
        if view.valid is None:
            return moved.affinities, moved.known
        seen = view.valid.repeat(len(targets.offsets), 1, 1, 1)
        for channel, offset in enumerate(targets.offsets):
            here, there = edge_ends(view.shape, offset)
            seen[channel][here] &= view.valid[there]
        return moved.affinities, moved.known & seen[:, *inner(view.shape, targets.shrink)]

    def _exchange(self, number: int, raw: Tensor) -> Exchange | None:
        if self.settings.cut_mix is None:
            return None
        process = self.labelled.process
        shape = (raw.shape[2], raw.shape[3], raw.shape[4])
        return draw_exchange(self.settings.cut_mix, shape, process.generator(number, MIXED), process.device)

    def _put_back(
        self, exchange: Exchange, logits: list[Tensor], mask: Tensor, carried: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits of labelled patches and first views to where they belong; masks without the edges across the rim."""
        targets = self.labelled.targets
        inside = inner(exchange.box.shape, targets.shrink)
        logits[:2] = Exchange(exchange.box[inside]).swap(*logits[:2])
        whole = exchange.whole_edges(targets.offsets)[:, *inside]
        target, known = carried
        return mask & whole, (target, known & whole)

    def _logits(self, raw: Tensor, *views: Tensor) -> Tensor:
        """What the students say of raw (b, 1, z, y, x), and of views behind it: (n, b, c, z, y, x), float32."""
        images = [each.contiguous(memory_format=torch.channels_last_3d) for each in (raw, *views)]
        logits: Tensor = self.network(*images)
        return logits.float()

    def _labelled_loss(self, logits: Tensor, raw: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        self.labelled.shown.keep(raw, target, logits[0], mask)
        each = [self.labelled.criterion(one, target, mask, self.labelled.process.total) for one in logits]
        return torch.stack(each).sum()

    def _consistency(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        total = self.labelled.process.total
        each = [self.settings.loss(*one, total) for one in zip(logits, target, known, strict=True)]
        return torch.stack(each).sum()


def _images(patches: list[Patch]) -> Tensor:
    """Raw of patches as the network takes it, (b, 1, z, y, x)."""
    return torch.stack([patch.raw for patch in patches])[:, None].contiguous(memory_format=torch.channels_last_3d)
