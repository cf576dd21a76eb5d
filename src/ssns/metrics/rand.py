"""Adapted Rand error: how often two voxels are wrongly joined or parted."""

from __future__ import annotations

from dataclasses import dataclass

from ssns.metrics.contingency import Contingency
from ssns.metrics.overlaps import Overlaps


@dataclass(frozen=True, slots=True)
class RandPairs:
    """Pairs of voxels that lie together, counted or weighed.

    Attributes:
        both: In one neuron and in one segment.
        segment: In one segment.
        label: In one neuron.
    """

    both: float
    segment: float
    label: float

    @property
    def precision(self) -> float:
        """The share of pairs in one segment that belong to one neuron; 1 if the segmentation joins no pair."""
        return self.both / self.segment if self.segment else 1.0

    @property
    def recall(self) -> float:
        """The share of pairs in one neuron that the segmentation joins; 1 if the truth joins no pair."""
        return self.both / self.label if self.label else 1.0

    @property
    def error(self) -> float:
        """``1 - 2 P R / (P + R)`` of precision and recall: 0 for equal partitions, 1 at worst.

        Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142.
        """
        together = self.segment + self.label
        return 1.0 - 2.0 * self.both / together if together else 0.0


def distinct_pairs(overlaps: Overlaps) -> RandPairs:
    """Ordered pairs of two different voxels, as scikit-image counts them: n (n - 1) for n voxels together."""
    return RandPairs(
        both=float(overlaps.voxels @ (overlaps.both - 1)),
        segment=float(overlaps.voxels @ (overlaps.segment - 1)),
        label=float(overlaps.voxels @ (overlaps.label - 1)),
    )


def reference_pairs(scored: Contingency, all_voxels: int) -> RandPairs:
    """The weights of the paper's evaluation scripts, their slip included.

    Squared counts, a voxel being paired with itself too; segment 0 is meant as singletons, which adds its voxels z to
    the sum of squares; the scripts add ``z / all_voxels``, which belongs to sums of squared shares.

    Args:
        scored: The table without background.
        all_voxels: Voxels of the volume, background included.
    """
    segmented = Overlaps.of(scored.where(scored.segments != 0))
    everything = Overlaps.of(scored)
    singletons = (everything.voxels.sum() - segmented.voxels.sum()) / all_voxels
    return RandPairs(
        both=float(segmented.voxels @ segmented.both + singletons),
        segment=float(segmented.voxels @ segmented.segment + singletons),
        label=float(everything.voxels @ everything.label),
    )
