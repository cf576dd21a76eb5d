"""The precision in which a device computes a network fast."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["bf16", "fp16", "fp32"]


def fast_precision(device: torch.device) -> Precision:
    """bf16 where ``device`` has instructions for it, else fp32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        fast = device.type == "cpu" and onednn and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if fast else "fp32"
