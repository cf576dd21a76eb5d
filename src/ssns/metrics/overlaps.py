"""The sizes that scores compare, once a convention has said what the ids 0 mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssns.metrics.contingency import Contingency

Sizes = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """For groups of voxels: how many lie together with each of them.

    Sizes are float64, since sums of their products pass 2^63.

    Attributes:
        voxels: Voxels of each group, (k,).
        both: Voxels that share label and segment with a voxel of the group, itself included, (k,).
        label: Voxels that share its label, (k,).
        segment: Voxels that share its segment, (k,).
    """

    voxels: Sizes
    both: Sizes
    label: Sizes
    segment: Sizes

    @classmethod
    def of(cls, table: Contingency, *, singleton: int | None = None) -> Overlaps:
        """The overlaps of a table.

        Args:
            table: The voxels to be scored, and no others.
            singleton: The segment id whose voxels are segments of one voxel each. None: there is no such id.
        """
        counts = table.counts.astype(np.float64)
        alone = np.zeros(counts.shape, dtype=bool) if singleton is None else table.segments == singleton
        return cls(
            voxels=counts,
            both=np.where(alone, 1.0, counts),
            label=table.label_sizes.astype(np.float64),
            segment=np.where(alone, 1.0, table.segment_sizes),
        )
