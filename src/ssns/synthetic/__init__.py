"""Synthetic EM: dense neurites with membranes and organelles, defects of serial sections, exact labels.

``SyntheticSettings(...).build()`` grows the tissue, whose ``read(box)`` images any box; ``synthesize`` images all.
Neither needs torch, and importing this package compiles nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssns.space import Box, Triple, cover
from ssns.synthetic.settings import Defects, Imaging, Neurites, Organelles, SyntheticSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Defects", "Imaging", "Neurites", "Organelles", "SyntheticSettings", "synthesize"]


def synthesize(
    settings: SyntheticSettings, *, block: Triple = (8, 512, 512)
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Make a whole volume in memory, block by block.

    Args:
        settings: What it is made of.
        block: Voxels imaged at once (z, y, x): bounds the memory beside the result, and does not change it.

    Returns:
        ``raw`` uint8 and ``labels`` uint32, both of ``settings.shape``; label 0 is membrane and extracellular space.
    """
    import numpy as np

    volume = settings.build()
    raw = np.empty(settings.shape, np.uint8)
    labels = np.empty(settings.shape, np.uint32)
    for box in cover(Box.of_shape(settings.shape), block):
        raw[box.slices], labels[box.slices] = volume.read(box)
    return raw, labels
