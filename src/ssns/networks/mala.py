"""The U-Net of valid convolutions of MALA (Funke et al. 2018, arXiv:1709.02974), as an ``nn.Module``.

Three poolings by 3 in the plane, none along z. Nothing is padded, so the output is smaller than the input: 25 x 56 x 56
of 53 x 268 x 268 voxels with the default depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from ssns.errors import UserError
from ssns.networks.extents import valid_extents

Merge = Literal["cat", "none"]
Initializer = Literal["kaiming", "xavier", "orthogonal"]

SLOPE = 0.005
"""Of the leaky rectifiers, for negative numbers."""


class MalaUNet(nn.Module):
    """U-Net of valid convolutions; the defaults are the paper's (84,020,475 parameters).

    Each level has two 3 x 3 x 3 convolutions, each followed by a leaky rectifier; levels are joined by a maximum of
    1 x 3 x 3 voxels, and by a depth-wise transposed convolution of kernel and stride (1, 3, 3) with a 1 x 1 x 1 one.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, one per affinity offset.
        features: Channels of the full resolution.
        growth: How many times as many channels each lower level has.
        depth: How often the resolution is lowered.
        merge: How the decoder takes the encoder's features: the middle of them concatenated, or not at all (for
            pre-training).
        initializer: How the weights of all convolutions start: ``kaiming`` (normal), ``xavier`` (normal) or
            ``orthogonal``; biases keep PyTorch's default.

    Attributes:
        extents: 29 x 214 x 214 voxels with the default depth, or more by multiples of (1, 27, 27); (14, 106, 106) of
            them are lost at each side.
        parts: Names of the sub-modules of ``encoder``, ``decoder`` and ``head``.

    Raises:
        UserError: An argument is none of those that can be.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        *,
        features: int = 12,
        growth: int = 5,
        depth: int = 3,
        merge: Merge = "cat",
        initializer: Initializer = "kaiming",
    ) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f"depth: wanted at least 1, got {depth}")
        for name, value, known in (("merge", merge, Merge), ("initializer", initializer, Initializer)):
            if value not in get_args(known):
                raise UserError(f"{name}: wanted one of {', '.join(get_args(known))}, got {value!r}")
        self.depth = depth
        self.merge = merge
        self.extents = valid_extents(depth)
        widths = [features * growth**level for level in range(depth + 1)]
        for level, width in enumerate(widths):
            self.add_module(f"down{level}", _pair(in_channels if level == 0 else widths[level - 1], width))
        self.pool = nn.MaxPool3d((1, 3, 3))
        for level in reversed(range(depth)):
            lower, width = widths[level + 1], widths[level]
            self.add_module(f"enlarge{level}", _enlarging(lower, width))
            self.add_module(f"up{level}", _pair(2 * width if merge == "cat" else width, width))
        self.head = nn.Conv3d(features, out_channels, 1)
        self.parts: Mapping[str, tuple[str, ...]] = {
            "encoder": tuple(f"down{level}" for level in range(depth + 1)),
            "decoder": tuple(f"{kind}{level}" for level in reversed(range(depth)) for kind in ("enlarge", "up")),
            "head": ("head",),
        }
        _initialize(self, initializer)

    def forward(self, raw: Tensor) -> Tensor:
        """Logits (b, c, z', y', x') of the inner part of raw (b, 1, z, y, x)."""
        self.extents.check("raw", raw.shape[2:])
        x = raw
        skips = []
        for level in range(self.depth):
            x = self.get_submodule(f"down{level}")(x)
            skips.append(x)
            x = self.pool(x)
        x = self.get_submodule(f"down{self.depth}")(x)
        for level in reversed(range(self.depth)):
            x = self.get_submodule(f"enlarge{level}")(x)
            if self.merge == "cat":
                x = torch.cat([x, _middle(skips[level], x)], dim=1)
            x = self.get_submodule(f"up{level}")(x)
        return cast(Tensor, self.head(x))


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two valid convolutions with their rectifiers."""
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3),
        nn.LeakyReLU(SLOPE, inplace=True),
        nn.Conv3d(outputs, outputs, 3),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


def _enlarging(inputs: int, outputs: int) -> nn.Sequential:
    """Three times the extent in the plane, each channel alone, then another number of channels."""
    return nn.Sequential(
        nn.ConvTranspose3d(inputs, inputs, (1, 3, 3), (1, 3, 3), groups=inputs, bias=False),
        nn.Conv3d(inputs, outputs, 1),
    )


def _middle(features: Tensor, like: Tensor) -> Tensor:
    """The middle of ``features``, of the extent of ``like``: always as many voxels less, whatever the input."""
    lost = [(int(n) - int(m)) // 2 for n, m in zip(features.shape[2:], like.shape[2:], strict=True)]
    return features[:, :, *(slice(n, -n) for n in lost)]


def _initialize(network: nn.Module, initializer: Initializer) -> None:
    """Weights of convolutions, transposed ones included, by ``initializer``; their biases stay."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            if initializer == "kaiming":
                nn.init.kaiming_normal_(layer.weight, SLOPE, nonlinearity="leaky_relu")
            elif initializer == "xavier":
                nn.init.xavier_normal_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight)
