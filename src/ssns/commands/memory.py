"""What segmenting takes of memory, to refuse before work begins what would not fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil

from ssns.commands.inputs import Part
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.segmentation import MutexWatershed
from ssns.volume import open_volume

BYTES_PER_VOXEL = 40
"""Peak memory of segmenting a voxel of three uint8 affinities, ground truth for the sweep beside it.

Measured on AC4, uint8 affinities of 16 x 512 x 512 and 48 x 1024 x 1024: 12 to 20, and 12 to 29 with ground truth,
which takes 20 itself while it is read. It grows with the number of fragments: on noise, seeded watershed and
agglomeration take 117.
"""

BESIDE_AFFINITIES = 30
"""Of that, what is not the affinities themselves: twelve channels of floats take 67 in all."""

MUTEX_WATERSHED = 27
"""What the mutex watershed of voxels takes beside, for each channel: with twelve of uint8, 334 bytes in all."""


def bytes_per_voxel(experiment: Experiment, part: Part) -> int:
    """Peak memory of segmenting a voxel of a part with any method that the experiment compares."""
    channels, theirs = len(experiment.offsets), part.source.settings.affinities
    dtype = np.dtype(experiment.prediction.dtype) if theirs is None else open_volume(theirs).dtype
    needed = BESIDE_AFFINITIES + channels * dtype.itemsize
    if any(isinstance(method.fragments, MutexWatershed) for method in experiment.segmentation.compared):
        needed += MUTEX_WATERSHED * channels
    return max(BYTES_PER_VOXEL, needed)


def check_memory(experiment: Experiment, found: Sequence[Part], remedy: str | None = None) -> None:
    """Refuse before work begins what cannot be segmented.

    Args:
        experiment: How it is segmented.
        found: The parts.
        remedy: What helps. None: smaller boxes of their role.

    Raises:
        UserError: A part needs more memory than is free.
    """
    for part in found:
        needed, free = part.box.size * bytes_per_voxel(experiment, part), psutil.virtual_memory().available
        if needed > free:
            smaller = f"set volumes.{part.source.name}.{part.role} to smaller boxes"
            raise UserError(
                f"{part.name}: segmenting {part.box} needs about {needed / 1e9:.1f} GB of memory, and"
                f" {free / 1e9:.1f} GB are free: {remedy or smaller}"
            )
