"""Convolutions of single small patches: equal to the library's own, and by its fast kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import profile

from ssns.networks.convolution import SLOW, Convolution
from ssns.space import Triple

SHAPES = [(1, 4, 6, 8, 10), (1, 4, 6, 7, 9), (1, 4, 1, 8, 8), (1, 4, 3, 2, 4), (2, 4, 6, 8, 10), (1, 4, 80, 66, 4)]
KERNELS = [((1, 3, 3), (0, 1, 1)), ((3, 3, 3), (1, 1, 1)), ((1, 5, 5), (0, 2, 2))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kernel", "around"), KERNELS)
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_library(shape: tuple[int, ...], kernel: Triple, around: Triple, mode: str, bias: bool) -> None:
    torch.manual_seed(0)
    ours = Convolution(4, 5, kernel, padding=around, padding_mode=mode, bias=bias)
    theirs = nn.Conv3d(4, 5, kernel, padding=around, padding_mode=mode, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    raw = torch.randn(shape)
    results = []
    for layer in (ours, theirs):
        x = raw.clone().requires_grad_()
        y = layer(x)
        y.sin().sum().backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        results.append([y, x.grad, *gradients])
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize(("kernel", "around"), KERNELS)
def test_takes_the_fast_kernels(kernel: Triple, around: Triple) -> None:
    raw = torch.randn(1, 4, 6, 8, 10, requires_grad=True)
    assert raw.shape[1] * raw.shape[2] * raw.shape[3] <= SLOW
    with profile() as seen:
        Convolution(4, 4, kernel, padding=around)(raw).sum().backward()
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv" in name for name in names)
