"""Losses of affinity logits, as settings.

Each is called with ``logits``, ``target`` and ``mask`` of shape (b, c, z, y, x): logits before the sigmoid, targets in
[0, 1], and a mask (bool, or weights of at least 0) of what counts. Each returns one number, 0 where nothing counts.
Where several processes hold parts of one batch, ``total`` sums over them whatever has to be summed before it is
divided, so that each of them gets the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ssns.settings import Component

if TYPE_CHECKING:
    from torch import Tensor

Total = Callable[["Tensor"], "Tensor"]
"""The sum of a tensor over all processes, through which gradients flow."""


def alone(part: Tensor) -> Tensor:
    """The `Total` of a single process."""
    return part


class BinaryCrossEntropy(Component):
    """Binary cross entropy with logits, averaged over what the mask admits (the paper's)."""

    type: Literal["bce"] = "bce"
    balance: Literal["none", "channel"] = Field(
        "none", description="channel: positive and negative edges of each channel weigh the same (1/2f and 1/2(1-f))."
    )

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
        """Sum of weight * mask * BCE over sum of mask; f is clipped to [0.01, 0.99]."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        counted = mask.to(logits.dtype)
        each = binary_cross_entropy_with_logits(logits, target, reduction="none")
        weight = counted
        if self.balance == "channel":
            axes = (0, 2, 3, 4)
            share = _share((target * counted).sum(axes, keepdim=True), counted.sum(axes, keepdim=True), total)
            share = share.clamp(0.01, 0.99)
            weight = counted * (target / (2 * share) + (1 - target) / (2 * (1 - share)))
        return _share((each * weight).sum(), counted.sum(), total)


class Dice(Component):
    """Soft Dice loss 1 - (2 sum(pt) + s) / (sum(p^2) + sum(t^2) + s) (Milletari et al. 2016, V-Net)."""

    type: Literal["dice"] = "dice"
    smooth: float = Field(100.0, gt=0, description="s: keeps the ratio defined where nothing is positive.")

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
        """One ratio over all channels and voxels under the mask."""
        counted = mask.to(logits.dtype)
        probability = logits.sigmoid()
        overlap = total((2 * probability * target * counted).sum()) + self.smooth
        size = total(((probability**2 + target**2) * counted).sum()) + self.smooth
        return 1 - overlap / size


class SquaredError(Component):
    """Mean squared error of the probabilities."""

    type: Literal["squared_error"] = "squared_error"

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
        """Sum of mask * (sigmoid(logits) - target)^2 over sum of mask."""
        counted = mask.to(logits.dtype)
        return _share(((logits.sigmoid() - target) ** 2 * counted).sum(), counted.sum(), total)


class AbsoluteError(Component):
    """Mean absolute error of the probabilities."""

    type: Literal["absolute_error"] = "absolute_error"

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
        """Sum of mask * |sigmoid(logits) - target| over sum of mask."""
        counted = mask.to(logits.dtype)
        return _share(((logits.sigmoid() - target).abs() * counted).sum(), counted.sum(), total)


class Malis(Component):
    """Squared error of the edges that decide which voxels are joined (Turaga et al. 2009; Funke et al. 2018).

    An edge weighs as many pairs of voxels as it decides (`malis.malis_weights`): few count, those at which segments
    merge or split. It is slower than the others, as a spanning tree is found on the CPU, and best begun from weights
    that another loss has trained.
    """

    type: Literal["malis"] = "malis"
    mergers: float = Field(
        0.5, ge=0, le=1, description="Share of the weight of edges between neurons; the rest is for those within."
    )

    def __call__(self, logits: Tensor, target: Tensor, mask: Tensor, total: Total = alone) -> Tensor:
        """Mean over patches of sum of weight * (sigmoid(logits) - target)^2; the weights of a patch sum to 1.

        Channels are affinities to the voxel before along z, y and x.
        """
        import torch

        from ssns.malis import malis_weights

        affinities = logits.sigmoid()
        patches = zip(affinities.detach().float(), target > 0.5, mask > 0, strict=True)
        shares = [malis_weights(*(tensor.cpu().numpy() for tensor in patch)) for patch in patches]
        weights = [(1 - self.mergers) * within + self.mergers * between for within, between in shares]
        weight = torch.stack([torch.from_numpy(each) for each in weights]).to(logits)
        return _share((weight * (affinities - target) ** 2).sum(), logits.new_tensor(len(logits)), total)


Loss = Annotated[BinaryCrossEntropy | Dice | SquaredError | AbsoluteError | Malis, Field(discriminator="type")]
"""The losses that an experiment may name."""


def _share(numerator: Tensor, denominator: Tensor, total: Total) -> Tensor:
    """One sum over another, each over all processes; 0 where nothing counted."""
    return total(numerator) / total(denominator).clamp_min(1e-12)
