"""How long, how fast and with what optimiser a network is trained; torch-free."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from ssns.settings import Component

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.optim import Optimizer


Decay = Annotated[float, Field(ge=0, lt=1)]


class Adam(Component):
    """Adam; the paper used eps 0.01, weight_decay 1e-6 and amsgrad."""

    type: Literal["adam"] = "adam"
    lr: float = Field(1e-4, gt=0, description="Learning rate after the warm-up.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay of the running moments.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient.")
    amsgrad: bool = Field(False, description="Keep the largest second moment.")

    def build(self, parameters: Iterable[Any]) -> Optimizer:
        """The optimiser of ``parameters``, or of groups of them."""
        from torch.optim import Adam as TorchAdam

        return TorchAdam(parameters, **self.model_dump(exclude={"type"}))


class AdamW(Component):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    type: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay of the running moments.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.01, ge=0, description="Share of a weight that a step at learning rate 1 removes.")
    amsgrad: bool = Field(False, description="Keep the largest second moment.")

    def build(self, parameters: Iterable[Any]) -> Optimizer:
        """The optimiser of ``parameters``, or of groups of them."""
        from torch.optim import AdamW as TorchAdamW

        return TorchAdamW(parameters, **self.model_dump(exclude={"type"}))


class Muon(Component):
    """Orthogonal momentum of kernels (Jordan et al. 2024): learns in about half the steps of AdamW, at its rates."""

    type: Literal["muon"] = "muon"
    lr: float = Field(1e-3, gt=0, description="Learning rate after the warm-up.")
    momentum: Decay = Field(0.95, description="Decay of the running gradient of kernels.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay of the running moments of all else.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment of all else.")
    weight_decay: float = Field(0.01, ge=0, description="Share of a weight that a step at learning rate 1 removes.")

    def build(self, parameters: Iterable[Any]) -> Optimizer:
        """The optimiser of ``parameters``, or of groups of them."""
        from ssns.training.muon import Muon as TorchMuon

        return TorchMuon(parameters, **self.model_dump(exclude={"type"}))


OptimizerSettings = Annotated[Adam | AdamW | Muon, Field(discriminator="type")]


class Constant(Component):
    """One learning rate from the end of the warm-up on."""

    type: Literal["constant"] = "constant"
    warmup: int = Field(0, ge=0, description="Steps in which the learning rate rises linearly from 0.")

    def factor(self, step: int, steps: int) -> float:  # noqa: ARG002  every schedule is asked alike
        """Share of the learning rate at ``step`` (from 0) of ``steps``."""
        return _warmup(step, self.warmup)


class Polynomial(Component):
    """Falls from 1 to ``end`` as (1 - progress) ** power."""

    type: Literal["polynomial"] = "polynomial"
    warmup: int = Field(0, ge=0, description="Steps in which the learning rate rises linearly from 0.")
    power: float = Field(1.5, gt=0, description="Power of the fall (1: a straight line).")
    end: float = Field(0.0, ge=0, le=1, description="Share of the learning rate that remains at the end.")

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at ``step`` (from 0) of ``steps``."""
        left = 1 - _progress(step, self.warmup, steps)
        return _warmup(step, self.warmup) * (self.end + (1 - self.end) * math.pow(left, self.power))


class Cosine(Component):
    """Falls from 1 to ``end`` along half a cosine (Loshchilov and Hutter 2017)."""

    type: Literal["cosine"] = "cosine"
    warmup: int = Field(100, ge=0, description="Steps in which the learning rate rises linearly from 0.")
    end: float = Field(0.0, ge=0, le=1, description="Share of the learning rate that remains at the end.")

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at ``step`` (from 0) of ``steps``."""
        wave = (1 + math.cos(math.pi * _progress(step, self.warmup, steps))) / 2
        return _warmup(step, self.warmup) * (self.end + (1 - self.end) * wave)


Schedule = Annotated[Constant | Polynomial | Cosine, Field(discriminator="type")]


def _warmup(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / (warmup + 1))


def _progress(step: int, warmup: int, steps: int) -> float:
    return min(1.0, max(0, step - warmup) / max(1, steps - warmup))


class TrainingSettings(Component):
    """The training loop."""

    steps: int = Field(20_000, gt=0, description="Optimiser steps in all.")
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (18, 160, 160), description="Extent of a patch of raw in voxels (z, y, x)."
    )
    batch: int = Field(2, gt=0, description="Patches per forward pass.")
    accumulate: int = Field(1, gt=0, description="Forward passes per optimiser step.")
    optimizer: OptimizerSettings = Field(AdamW(), description="What moves the weights.")
    schedule: Schedule = Field(Cosine(), description="How the learning rate changes.")
    clip: float | None = Field(None, gt=0, description="Largest norm of the gradient; none: not clipped.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision; auto: bf16 where the hardware multiplies it, else fp32."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Where to train; auto: a CUDA GPU where there is one, else the CPU."
    )
    threads: int | None = Field(None, gt=0, description="CPU threads; none: one per core.")
    log_every: int = Field(20, gt=0, description="Steps between points of the loss curve.")
    save_every: int = Field(200, gt=0, description="Steps between saves of the last checkpoint.")
    preview_every: int = Field(500, gt=0, description="Steps between pictures of raw, target and prediction.")
    validate_every: int = Field(250, gt=0, description="Steps between validations, fewer where they cost too much.")
    validation_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Largest share of the time that validation may take; the first and the last are always made.",
    )
