"""Devices, precision and processes of a training, through lightning-fabric."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from ssns.errors import UserError
from ssns.losses import Total, alone
from ssns.networks.hardware import device_named, fast_precision
from ssns.training.settings import TrainingSettings

BROKEN_BF16_DEPTH = 2
"""Sections at which oneDNN's weight gradient of 3 x 3 x 3 convolutions in bf16 holds memory that nothing has written:
another result in each run, at times NaN (torch 2.13; depths of 1, 3 to 6, 12 and 18 were found right)."""


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Devices and precision of a run; launched by the caller or by ``torchrun``."""
    named = device_named(None if settings.device == "auto" else settings.device, "training.device")
    device = named.type
    broken = device == "cpu" and settings.patch[0] == BROKEN_BF16_DEPTH
    precision = settings.precision
    if precision == "auto":
        precision = "fp32" if broken else fast_precision(named)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells every precision on standard error
    names: dict[str, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
    if precision == "fp16" and device == "cpu":
        raise UserError("training.precision: fp16 needs a GPU; on a CPU take bf16 or fp32")
    if precision == "bf16" and broken:
        raise UserError(
            f"training.precision: in bf16 on a CPU, torch gives wrong gradients for patches of {BROKEN_BF16_DEPTH}"
            f" sections, and training.patch is {list(settings.patch)}: take fp32, or another depth"
        )
    # torchrun has started the processes, and says how many there are, here and in all.
    here, everywhere = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return Fabric(
        accelerator=device,
        devices=here,
        num_nodes=everywhere // here,
        # Others wait while the first one validates, which on a large part takes longer than the usual half hour.
        strategy=DDPStrategy(timeout=timedelta(days=1)) if everywhere > 1 else "auto",
        precision=names[precision],
    )


class _Sum(torch.autograd.Function):
    """The sum over all processes, forward and backward."""

    @staticmethod
    def forward(_context: Any, part: Tensor) -> Tensor:
        whole = part.clone()
        torch.distributed.all_reduce(whole)
        return whole

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        whole = gradient.clone()
        torch.distributed.all_reduce(whole)
        return whole


def as_the_first_process(answer: Any, settings: TrainingSettings) -> Any:
    """What the first process answers, to all of them."""
    fabric = make_fabric(settings)
    fabric.launch()
    return fabric.broadcast(answer)


def sum_over_processes(fabric: Fabric) -> Total:
    """The sum that a loss of the joint batch needs.

    Each process computes the same loss of the whole batch, so that its gradient, summed over processes on the way back
    and averaged by data-parallel training after it, is that of one process with all patches.
    """
    return _Sum.apply if fabric.world_size > 1 else alone
