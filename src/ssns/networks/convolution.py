"""3-D convolution that takes the library's fast kernels for a single small patch on a CPU as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssns.space import Triple, triple

SLOW = 20480
"""PyTorch gives a single float32 patch to oneDNN only where channels * z * y are more than this; smaller ones go to
kernels of its own, which took 3.6 times as long (docs/results.md)."""


class Convolution(nn.Conv3d):
    """`nn.Conv3d` of stride 1, without dilation and groups, by `convolve`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        around = triple(int(side) for side in self.padding)
        if self.padding_mode != "zeros":
            input = functional.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            around = (0, 0, 0)
        return convolve(input, weight, bias, around)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, around: Triple) -> Tensor:
    """`functional.conv3d` of stride 1, to rounding, for x (b, c, z, y, x) with ``around`` zeros at each side.

    A patch that PyTorch would not give to oneDNN becomes a batch: of its sections where the kernel has one only, or
    else of its halves along y, each with what the kernel sees of the other.
    """
    if not _slow(x):
        return functional.conv3d(x, weight, bias, padding=around)
    if weight.shape[2] == 1 and x.shape[2] > 1:
        return functional.conv3d(x.transpose(0, 2), weight, bias, padding=around).transpose(0, 2)
    rows = x.shape[3] + 2 * around[1] - weight.shape[3] + 1
    if rows % 2:
        return functional.conv3d(x, weight, bias, padding=around)
    seen = rows // 2 + weight.shape[3] - 1
    padded = functional.pad(x, (0, 0, around[1], around[1]))
    halves = torch.cat([padded[:, :, :, :seen], padded[:, :, :, -seen:]])
    both = functional.conv3d(halves, weight, bias, padding=(around[0], 0, around[2]))
    return torch.cat([both[:1], both[1:]], dim=3)


def _slow(x: Tensor) -> bool:
    """Whether PyTorch leaves oneDNN aside, to a loss; never while a network is exported, whose graph stays simple."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and len(x) == 1
        and x.shape[1] * x.shape[2] * x.shape[3] <= SLOW
    )
