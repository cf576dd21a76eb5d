"""Teachers at work: targets for clean patches, and how they follow the students.

What learns is a module from raw to logits (n, b, c, z, y, x), with a leading axis for its n networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssns.training.objectives import (
    CrossSupervision,
    MeanTeacher,
    Statistics,
    StudentBatch,
    TeacherSettings,
    WeightSharing,
)

Build = Callable[[], nn.Module]
"""Makes a network, its start drawn from torch's global generator."""


class Students(nn.Module):
    """Networks that learn side by side.

    Args:
        networks: All of one kind.
        batch: Whether views have batch normalisation's statistics of their own, or share those of labelled patches.
    """

    def __init__(self, networks: Iterable[nn.Module], batch: StudentBatch = "separate") -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.batch = batch

    def forward(self, raw: Tensor, views: Tensor | None = None) -> Tensor:
        """Logits (n, b, c, z, y, x) of raw (b, 1, z, y, x), and behind them those of views, if any.

        Views that are normalised by themselves do not move running statistics: these are to be those of patches as a
        network sees them when it predicts, which views, perturbed strongly, are not.
        """
        if views is None:
            return torch.stack([network(raw) for network in self.networks])
        if self.batch == "joint":
            return self.forward(torch.cat([raw, views]))
        labelled = self.forward(raw)
        with _batch_normalisation(self, "track_running_stats", value=False):
            return torch.cat([labelled, self.forward(views)], dim=1)


class Teacher(Protocol):
    """What unlabelled patches are compared with."""

    @property
    def judged(self) -> nn.Module:
        """The network that is validated, and that predicts in the end."""
        ...

    def logits(self, clean: Tensor) -> Tensor:
        """What each student is to predict of clean patches (b, 1, z, y, x): logits (n, b, c, z, y, x)."""
        ...

    def follow(self, step: int) -> None:
        """Move after the students' step ``step`` (from 0)."""
        ...


def make_teacher(settings: TeacherSettings, build: Build, batch: StudentBatch = "separate") -> tuple[Students, Teacher]:
    """The students and their teacher."""
    if isinstance(settings, CrossSupervision):
        students = Students([build(), build()], batch)
        return students, _Each(students, settings.statistics)
    students = Students([build()], batch)
    if isinstance(settings, WeightSharing):
        return students, _Each(students, settings.statistics)
    start = students.networks[0] if settings.start == "copy" else build()
    return students, _Average(students, copy.deepcopy(start), settings)


class _Each:
    """The students themselves: one is its own teacher, of several each is that of the one before it."""

    def __init__(self, students: Students, statistics: Statistics) -> None:
        self.students = students
        self.statistics: Statistics = statistics

    @property
    def judged(self) -> nn.Module:
        return self.students.networks[0]

    def logits(self, clean: Tensor) -> Tensor:
        with torch.no_grad(), _batch_normalisation(self.students, "training", value=self.statistics == "batch"):
            logits: Tensor = self.students(clean)
        return logits.roll(1, dims=0)

    def follow(self, step: int) -> None:
        pass


class _Average:
    """A moving average of the one student."""

    def __init__(self, students: Students, average: nn.Module, settings: MeanTeacher) -> None:
        self.student = students.networks[0]
        self.average = average.requires_grad_(False)
        self.settings = settings

    @property
    def judged(self) -> nn.Module:
        return self.average

    def logits(self, clean: Tensor) -> Tensor:
        batch = self.settings.statistics == "batch"
        with torch.no_grad(), _batch_normalisation(self.average, "training", value=batch):
            logits: Tensor = self.average(clean)[None]
        return logits

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Keep ``decay`` of the average, or less while the warm-up lasts (reference 5.4, with t = step + 1)."""
        settings = self.settings
        keep = min(1 - 1 / (step + 2), settings.decay) if settings.warmup else settings.decay
        for mine, theirs in zip(self.average.parameters(), self.student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)
        if settings.buffers == "own":
            return
        for own, buffer in zip(self.average.buffers(), self.student.buffers(), strict=True):
            if settings.buffers == "averaged" and own.is_floating_point():
                own.lerp_(buffer, 1 - keep)
            else:
                own.copy_(buffer)


@contextmanager
def _batch_normalisation(
    network: nn.Module, flag: Literal["training", "track_running_stats"], *, value: bool
) -> Iterator[None]:
    """A flag of all layers of batch normalisation set; each has its own again afterwards.

    ``training``: normalise by the batch, and move running statistics; ``track_running_stats`` off: do not move them.
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    before = [getattr(layer, flag) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, flag, value)
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            setattr(layer, flag, own)
