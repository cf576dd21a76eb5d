"""What every network promises to training and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ssns.networks.extents import Extents

if TYPE_CHECKING:
    from torch import Tensor


class AffinityNetwork(Protocol):
    """A ``torch.nn.Module`` from raw to logits.

    Attributes:
        extents: Which inputs it takes, and which part of them it predicts.
        parts: Names of the sub-modules that are its ``encoder``, ``decoder`` and ``head`` (the last layer).
    """

    extents: Extents
    parts: Mapping[str, tuple[str, ...]]

    def __call__(self, raw: Tensor) -> Tensor:
        """Logits (b, c, z', y', x') of raw (b, 1, z, y, x), float32 in [0, 1]."""
        ...
