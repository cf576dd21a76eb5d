"""What every network promises to training and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ssns.space import Triple

if TYPE_CHECKING:
    from torch import Tensor


class AffinityNetwork(Protocol):
    """A ``torch.nn.Module`` from raw to logits.

    Attributes:
        stride: Extents of the input must be multiples of it (z, y, x); a tile whose start is not a multiple of it
            sees another pooling grid and predicts other values.
        shrink: Voxels lost at each side of each axis (z, y, x); 0 with padded convolutions.
        parts: Names of the sub-modules that are its ``encoder``, ``decoder`` and ``head`` (the last layer).
    """

    stride: Triple
    shrink: Triple
    parts: Mapping[str, tuple[str, ...]]

    def __call__(self, raw: Tensor) -> Tensor:
        """Logits (b, c, z', y', x') of raw (b, 1, z, y, x), float32 in [0, 1]."""
        ...
