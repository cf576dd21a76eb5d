"""Teachers at work: targets for clean patches, and how they follow the students.

What learns is a module from raw to logits (n, b, c, z, y, x), with a leading axis for its n networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

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
        with _running_statistics_kept(self):
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
        with _making_targets(self.students, self.statistics):
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
        with _making_targets(self.average, self.settings.statistics):
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
def _making_targets(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """No gradients, and batch normalisation as is asked; each layer returns to its mode afterwards."""
    layers = _batch_norms(network)
    modes = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = statistics == "batch"
        with torch.no_grad():
            yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


@contextmanager
def _running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch normalisation that is training takes the batch's statistics, and does not move the running ones."""
    layers = [layer for layer in _batch_norms(network) if layer.training and layer.track_running_stats]
    try:
        for layer in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
