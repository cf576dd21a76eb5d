"""Losses of affinity logits, as settings.

Each is called with ``logits``, ``target`` and ``mask`` of shape (b, c, z, y, x): logits before the sigmoid, targets in
[0, 1], and a mask (bool, or weights of at least 0) of what counts. Each returns a ``Ratio``, so that processes which
hold parts of one batch can sum numerators and denominators before they divide (Dice then counts its ``smooth`` once
for each part).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ssns.settings import Component

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ratio:
    """A loss as numerator and denominator, both scalars."""

    numerator: Tensor
    denominator: Tensor

    @property
    def value(self) -> Tensor:
        """The loss; 0 where nothing counted."""
        return self.numerator / self.denominator.clamp_min(1e-12)


class BinaryCrossEntropy(Component):
    """Binary cross entropy with logits, averaged over what the mask admits (the paper's)."""

    type: Literal["bce"] = "bce"
    balance: Literal["none", "channel"] = Field(
        "none", description="channel: positive and negative edges of each channel weigh the same (1/2f and 1/2(1-f))."
    )

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor) -> Ratio:
        """Sum of weight * mask * BCE over sum of mask; f is clipped to [0.01, 0.99]."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        counted = mask.to(logits.dtype)
        each = binary_cross_entropy_with_logits(logits, target, reduction="none")
        weight = counted
        if self.balance == "channel":
            axes = (0, 2, 3, 4)
            share = (target * counted).sum(axes, keepdim=True) / counted.sum(axes, keepdim=True).clamp_min(1e-12)
            share = share.clamp(0.01, 0.99)
            weight = counted * (target / (2 * share) + (1 - target) / (2 * (1 - share)))
        return Ratio((each * weight).sum(), counted.sum())


class Dice(Component):
    """Soft Dice loss 1 - (2 sum(pt) + s) / (sum(p^2) + sum(t^2) + s) (Milletari et al. 2016, V-Net)."""

    type: Literal["dice"] = "dice"
    smooth: float = Field(100.0, gt=0, description="s: keeps the ratio defined where nothing is positive.")

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor) -> Ratio:
        """One ratio over all channels and voxels under the mask."""
        counted = mask.to(logits.dtype)
        probability = logits.sigmoid()
        overlap = (2 * probability * target * counted).sum() + self.smooth
        total = ((probability**2 + target**2) * counted).sum() + self.smooth
        return Ratio(total - overlap, total)


class SquaredError(Component):
    """Mean squared error of the probabilities."""

    type: Literal["squared_error"] = "squared_error"

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor) -> Ratio:
        """Sum of mask * (sigmoid(logits) - target)^2 over sum of mask."""
        counted = mask.to(logits.dtype)
        return Ratio(((logits.sigmoid() - target) ** 2 * counted).sum(), counted.sum())


Loss = Annotated[BinaryCrossEntropy | Dice | SquaredError, Field(discriminator="type")]
"""The losses that an experiment may name."""
