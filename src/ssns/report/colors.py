"""Colours of ids: a function of the id alone, so that a neuron looks the same in every picture of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = np.array([0.6180339887498949, 0.7548776662466927, 0.5698402909980532])
"""Steps in hue (golden ratio: consecutive ids are far apart), saturation and value (plastic number)."""
_FIXED_POINT = np.array([int(step * 2**53) << 11 for step in _STEPS], dtype=np.uint64)
"""The steps as fractions of 2**64, where multiplication wraps around as the fractional part does."""
_LOWEST = np.array([0.0, 0.5, 0.65])
"""Least hue, saturation and value: no greys, which are raw, and nothing as dark as a membrane."""

SPLIT = (255, 176, 0)
"""Amber: voxels that a neuron lost."""
MERGE = (30, 110, 255)
"""Blue: voxels that joined another neuron."""
SPLIT_AND_MERGE = (220, 38, 127)
"""Magenta: voxels that a neuron lost to another one. The three are told apart by colour-blind readers too."""


def label_colors(ids: NDArray[Any], *, background: int = 0) -> NDArray[np.uint8]:
    """Colours of ids, distinct where it counts and the same in every call.

    Args:
        ids: Any integers, any shape, up to 64 bits. The ids 1 to 100,000 have as many colours; beyond, two ids may
            share one.
        background: The id that is transparent.

    Returns:
        RGBA, uint8, shape (*ids.shape, 4): alpha 255, and 0 in all four where ``ids`` is background.
    """
    turns = ids.astype(np.uint64)[..., np.newaxis] * _FIXED_POINT
    fractions = turns.astype(np.float64) / 2**64
    hue, saturation, value = np.moveaxis(_LOWEST + fractions * (1 - _LOWEST), -1, 0)
    rgba = np.empty((*ids.shape, 4), dtype=np.uint8)
    for channel, sextant in enumerate((5, 3, 1)):
        k = (sextant + 6 * hue) % 6
        rgba[..., channel] = np.rint(255 * value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1)))
    rgba[..., 3] = 255
    rgba[ids == background] = 0
    return rgba
