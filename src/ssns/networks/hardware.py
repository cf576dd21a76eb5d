"""The device on which a network is fast, and the precision in which a device is."""

from __future__ import annotations

from typing import Literal

import torch

from ssns.errors import UserError

Precision = Literal["bf16", "fp16", "fp32"]


def device_named(name: str | None, setting: str) -> torch.device:
    """The device of that name, or the fast one of this machine: a CUDA GPU where there is one, else the CPU.

    Apple's ``mps`` is not tested, and taken only where it is named.

    Raises:
        UserError: There is no such device; the message blames ``setting``.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{setting}: wanted a device of this machine, got {name!r} ({reason}): take cpu") from error
    return device


def fast_precision(device: torch.device) -> Precision:
    """bf16 where ``device`` has instructions for it, else fp32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast = device.type == "cpu" and onednn and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"
