"""The picture of a training: what the network sees, is to predict, and predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssns.space import Triple, inner, triple

Picture = Callable[[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.uint8]]
"""``picture(raw, target, prediction, mask)`` as RGB."""


class Preview:
    """Keeps the first patch of the latest batch, and draws it when asked.

    Args:
        picture: Draws it; None: nothing is drawn.
        shrink: Voxels at each side that the network does not predict.
    """

    def __init__(self, picture: Picture | None, shrink: Triple) -> None:
        self.picture = picture
        self.shrink = shrink
        self._kept: tuple[Tensor, ...] | None = None

    def keep(self, raw: Tensor, target: Tensor, logits: Tensor, mask: Tensor) -> None:
        """Raw (b, 1, z, y, x); targets, logits and mask (b, c, z', y', x') of what the network predicts."""
        self._kept = (raw[0], target[0], logits[0].detach(), mask[0])

    def draw(self) -> NDArray[np.uint8] | None:
        """RGB (height, width, 3), or None where there is nothing to draw."""
        if self.picture is None or self._kept is None:
            return None
        raw, target, logits, mask = self._kept
        seen = raw[0].cpu().numpy()
        prediction = logits.sigmoid().cpu().numpy()
        return self.picture(
            seen[inner(triple(seen.shape), self.shrink)], target.cpu().numpy(), prediction, mask.cpu().numpy()
        )
