"""The residual symmetric U-Net of the paper ("superhuman", Lee et al. 2017, arXiv:1706.00120), as an ``nn.Module``.

Four steps down and up in the plane, none along z. Names of the sub-modules follow the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssns.errors import UserError
from ssns.networks.convolution import Convolution
from ssns.networks.extents import padded_extents
from ssns.space import Triple, triple

Merge = Literal["cat", "add", "none"]
Upsampling = Literal["transpose", "bilinear", "nearest"]
Padding = Literal["zeros", "replicate"]
Normalization = Literal["batch", "group"]
Initializer = Literal["kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform"]


class ResidualUNet(nn.Module):
    """Residual symmetric U-Net; the defaults are the paper's (1,555,471 parameters), but for ``batch_momentum``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, one per affinity offset.
        filters: Channels of each level, from the full resolution down.
        merge: How the decoder takes the encoder's features: concatenated, added, or not at all (the paper's
            pre-training network).
        upsampling: ``transpose`` (depth-wise transposed convolution, then 1 x 1 x 1), ``bilinear`` or ``nearest``.
        padding: What convolutions see outside: zeros or the replicated face.
        normalization: ``batch`` (the paper's), or ``group`` (8 channels a group, or the next
            number above that divides them alike; independent of the batch).
        batch_momentum: Momentum of the running statistics of batch normalisation (the paper's is 0.001).
        activation: ``elu``, ``relu``, or ``leaky`` with its slope, as in ``leaky0.1``.
        initializer: How convolution weights start; transposed ones keep PyTorch's default.
        unshuffle: In-plane factor of a pixel-unshuffle before and a pixel-shuffle after the network: 2 runs it at
            half the resolution on four times the channels, at about a quarter of the cost. 1 is the paper's.

    Attributes:
        extents: Multiples of (1, 16, 16) voxels with the default filters; all of them are predicted.
        parts: Names of the sub-modules of ``encoder``, ``decoder`` and ``head``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 3,
        filters: Sequence[int] = (28, 36, 48, 64, 80),
        *,
        merge: Merge = "cat",
        upsampling: Upsampling = "transpose",
        padding: Padding = "zeros",
        normalization: Normalization = "batch",
        batch_momentum: float = 0.05,
        activation: str = "elu",
        initializer: Initializer = "kaiming_normal",
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        if len(filters) < 2:
            raise UserError(f"filters: wanted at least two levels, got {list(filters)}")
        for name, value, known in (
            ("merge", merge, Merge),
            ("upsampling", upsampling, Upsampling),
            ("padding", padding, Padding),
            ("normalization", normalization, Normalization),
            ("initializer", initializer, Initializer),
        ):
            if value not in get_args(known):
                raise UserError(f"{name}: wanted one of {', '.join(get_args(known))}, got {value!r}")
        self.unshuffle = unshuffle
        self.merge = merge
        depth = len(filters) - 1
        self.depth = depth
        self.extents = padded_extents(depth, unshuffle)
        layers = _Layers(padding, normalization, batch_momentum, activation)
        self.embed_in = nn.Sequential(
            layers.conv(in_channels * unshuffle**2, filters[0], (1, 5, 5), bias=True), layers.activation()
        )
        for level in range(depth):
            inputs = filters[max(0, level - 1)]
            self.add_module(f"conv{level}", _ResidualBlock(layers, inputs, filters[level]))
            self.add_module(f"pool{level}", nn.MaxPool3d((1, 2, 2)))
        self.center = _ResidualBlock(layers, filters[-2], filters[-1])
        for step, (lower, upper) in enumerate(zip(filters[:0:-1], filters[-2::-1], strict=True)):
            merged = 2 * upper if merge == "cat" else upper
            self.add_module(f"up{step}", _upsampling(upsampling, lower, upper))
            self.add_module(f"cat{step}", nn.Sequential(layers.norm(merged), layers.activation()))
            self.add_module(f"conv{depth + step}", _ResidualBlock(layers, merged, upper))
        self.embed_out = nn.Sequential(layers.conv(filters[0], filters[0], (1, 5, 5), bias=True), layers.activation())
        self.out_put = nn.Sequential(nn.Conv3d(filters[0], out_channels * unshuffle**2, 1))
        self.parts: Mapping[str, tuple[str, ...]] = {
            "encoder": ("embed_in", *(f"conv{level}" for level in range(depth)), "center"),
            "decoder": (
                *(f"{kind}{step}" for step in range(depth) for kind in ("up", "cat")),
                *(f"conv{depth + step}" for step in range(depth)),
                "embed_out",
            ),
            "head": ("out_put",),
        }
        _initialize(self, initializer)

    def forward(self, raw: Tensor) -> Tensor:
        """Logits (b, c, z, y, x) of raw (b, 1, z, y, x)."""
        self.extents.check("raw", raw.shape[2:])
        x = self.embed_in(_pixel_unshuffle(raw, self.unshuffle))
        skips = []
        for level in range(self.depth):
            x = self.get_submodule(f"conv{level}")(x)
            skips.append(x)
            x = self.get_submodule(f"pool{level}")(x)
        x = self.center(x)
        for step, skip in enumerate(reversed(skips)):
            x = self.get_submodule(f"up{step}")(x)
            if self.merge == "cat":
                x = torch.cat([x, skip], dim=1)
            elif self.merge == "add":
                x = x + skip
            x = self.get_submodule(f"conv{self.depth + step}")(self.get_submodule(f"cat{step}")(x))
        return _pixel_shuffle(self.out_put(self.embed_out(x)), self.unshuffle)


class _Layers:
    """The kinds of layer that one network is made of."""

    def __init__(self, padding: Padding, normalization: Normalization, momentum: float, activation: str) -> None:
        self.padding = padding
        self.normalization = normalization
        self.momentum = momentum
        self.slope = _leaky_slope(activation)
        self.activation_name = activation

    def conv(self, inputs: int, outputs: int, kernel: Triple, *, bias: bool = False) -> nn.Conv3d:
        around = triple(size // 2 for size in kernel)
        return Convolution(inputs, outputs, kernel, padding=around, padding_mode=self.padding, bias=bias)

    def norm(self, channels: int) -> nn.Module:
        if self.normalization == "batch":
            return nn.BatchNorm3d(channels, momentum=self.momentum)
        groups = next(n for n in range(max(1, channels // 8), 0, -1) if channels % n == 0)
        return nn.GroupNorm(groups, channels)

    def activation(self) -> nn.Module:
        if self.activation_name == "elu":
            return nn.ELU(inplace=True)
        if self.activation_name == "relu":
            return nn.ReLU(inplace=True)
        return nn.LeakyReLU(self.slope, inplace=True)


class _ResidualBlock(nn.Module):
    """In-plane convolution, then two 3-D ones around which its result is added."""

    def __init__(self, layers: _Layers, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(layers.conv(inputs, outputs, (1, 3, 3)), layers.norm(outputs), layers.activation())
        self.block2 = nn.Sequential(
            layers.conv(outputs, outputs, (3, 3, 3)),
            layers.norm(outputs),
            layers.activation(),
            layers.conv(outputs, outputs, (3, 3, 3)),
        )
        self.block3 = layers.norm(outputs)
        self.last = layers.activation()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(x)
        return cast(Tensor, self.last(self.block3(x + self.block2(x))))


class _TransposedUpsampling(nn.Sequential):
    """Depth-wise transposed convolution of kernel and stride (1, 2, 2), then a 1 x 1 x 1 convolution.

    Both at once: the windows do not overlap, so the two are one 1 x 1 x 1 convolution at the lower resolution into the
    four places of each window. The library's own backward pass of the first takes a fifth of a training step on a CPU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose3d(inputs, inputs, (1, 2, 2), (1, 2, 2), groups=inputs), nn.Conv3d(inputs, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        spread, point = cast(nn.ConvTranspose3d, self[0]), cast(nn.Conv3d, self[1])
        mixing = point.weight[:, :, 0, 0, 0]  # (outputs, inputs)
        places = spread.weight[:, 0, 0].permute(1, 2, 0)  # (2, 2, inputs)
        weight = (places[:, :, None] * mixing).flatten(0, 2)[:, :, None, None, None]
        bias = ((mixing * cast(Tensor, spread.bias)).sum(1) + cast(Tensor, point.bias)).repeat(4)
        return _pixel_shuffle_last(functional.conv3d(x, weight, bias))


def _pixel_shuffle_last(x: Tensor) -> Tensor:
    """(b, 4 * c, z, y, x) with the places (y, x) before the channels -> (b, c, z, 2 * y, 2 * x), channels last.

    Not `_pixel_shuffle`, in whose order checkpoints have the last layer, with the places behind the channels: here the
    channels of a voxel are copied at once, which is two to seventeen times as fast, with the backward pass.
    """
    b, channels, z, height, width = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(b, z, height, width, 2, 2, channels // 4)
    x = x.permute(0, 1, 2, 4, 3, 5, 6).reshape(b, z, 2 * height, 2 * width, channels // 4)
    return x.permute(0, 4, 1, 2, 3)


class _Resize(nn.Module):
    """In-plane resizing by two; bilinear keeps the corners, as the paper's code does."""

    def __init__(self, mode: Upsampling) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "bilinear":
            return functional.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)
        return functional.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")


def _upsampling(mode: Upsampling, inputs: int, outputs: int) -> nn.Sequential:
    if mode == "transpose":
        return _TransposedUpsampling(inputs, outputs)
    return nn.Sequential(_Resize(mode), nn.Conv3d(inputs, outputs, 1))


def _leaky_slope(activation: str) -> float:
    if activation in ("elu", "relu"):
        return 0.0
    try:
        return float(activation.removeprefix("leaky"))
    except ValueError:
        raise UserError(
            f"activation: wanted 'elu', 'relu' or 'leaky' with its slope, as in 'leaky0.1', got {activation!r}"
        ) from None


def _initialize(network: nn.Module, initializer: Initializer) -> None:
    """Weights of convolutions by ``initializer``, their biases 0."""
    start = getattr(nn.init, f"{initializer}_")
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            start(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """Move ``factor`` x ``factor`` in-plane neighbours into channels: (b, c, z, y, x) -> (b, c*f*f, z, y/f, x/f)."""
    if factor == 1:
        return x
    b, c, z, height, width = x.shape
    x = x.reshape(b, c, z, height // factor, factor, width // factor, factor)
    return x.permute(0, 1, 4, 6, 2, 3, 5).reshape(b, c * factor**2, z, height // factor, width // factor)


def _pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """The inverse of ``_pixel_unshuffle``."""
    if factor == 1:
        return x
    b, c, z, height, width = x.shape
    x = x.reshape(b, c // factor**2, factor, factor, z, height, width)
    return x.permute(0, 1, 4, 5, 2, 6, 3).reshape(b, c // factor**2, z, height * factor, width * factor)
