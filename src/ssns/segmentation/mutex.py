"""Mutex watershed of voxels: long-range affinities tell where regions that grow must not meet."""

from __future__ import annotations

from typing import Literal

import bioimage_cpp
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ssns.affinities import NEAREST
from ssns.segmentation.inputs import AffinityVolume, check_far
from ssns.segmentation.relabelling import relabel
from ssns.settings import Component


class MutexWatershed(Component):
    """Mutex watershed of all channels (Wolf et al. 2020, doi 10.1109/TPAMI.2020.2980827): needs long-range offsets.

    Affinities of nearest neighbours merge, the highest first; 1 minus those at all other offsets forbid merges. What
    comes out are segments already: agglomeration with threshold 0 leaves them as they are.
    """

    type: Literal["mutex_watershed"] = "mutex_watershed"
    strides: tuple[int, int, int] = Field(
        default=(1, 1, 1), description="Every how many voxels along z, y and x long-range affinities are looked at"
    )
    bias: float = Field(
        default=0.0, ge=-1, le=1, description="Added to the affinities that merge: the higher, the fewer segments"
    )

    def flood(self, volume: AffinityVolume, threads: int | None = None) -> NDArray[np.uint32]:  # noqa: ARG002  one only
        """Regions of the volume.

        Args:
            volume: Affinities and mask.
            threads: The library has one.

        Returns:
            Ids 1 .. n (z, y, x); 0 outside of the volume's mask.

        Raises:
            UserError: There is no long-range channel.
        """
        check_far(volume.offsets, "the mutex watershed")
        weights = np.empty((3 + len(volume.far), *volume.shape), np.float32)
        for z in range(volume.shape[0]):
            for axis in range(3):
                weights[axis, z] = volume.section(axis, z) + np.float32(self.bias)
            for place, channel in enumerate(volume.far, 3):
                weights[place, z] = 1 - volume.channel(channel, z)
        regions = bioimage_cpp.segmentation.mutex_watershed(
            weights,
            [*NEAREST, *(volume.offsets[channel] for channel in volume.far)],
            number_of_attractive_channels=3,
            strides=self.strides,
            mask=volume.mask,
        )
        return relabel(np.asarray(regions)).astype(np.uint32)  # masked voxels have used up ids
