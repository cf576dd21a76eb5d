"""What every method starts from: checked affinities, their offsets, and where to segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssns.affinities import NEAREST
from ssns.errors import UserError
from ssns.segmentation.relabelling import relabel
from ssns.space import Triple, triple

ROUNDING = 1e-3
"""How far blended or stored floats may leave [0, 1]: they are clipped; anything further is a mistake."""

ONE = 65535
"""The level of affinity 1, in 16 bits."""


@dataclass(frozen=True, eq=False)
class AffinityVolume:
    """Affinities in memory.

    Attributes:
        values: Affinities (c, z, y, x): uint8, 255 standing for 1, or floats in [0, 1].
        offsets: Displacement of each channel.
        mask: Where to segment, bool (z, y, x). None: everywhere.
    """

    values: NDArray[Any]
    offsets: tuple[Triple, ...]
    mask: NDArray[np.bool_] | None

    @classmethod
    def checked(cls, values: ArrayLike, offsets: Sequence[Triple], mask: ArrayLike | None) -> AffinityVolume:
        """The affinities that a user passed.

        Raises:
            UserError: Wrong axes, channel count, type or range; NaN; no voxel; offsets of other than three axes or
                without nearest neighbours; a mask of another shape or type.
        """
        array = np.asarray(values)
        if any(len(offset) != 3 for offset in offsets):
            raise UserError(
                f"offsets: wanted steps along z, y and x for each channel, got {list(offsets)}: give all three"
            )
        channels = tuple(triple(offset) for offset in offsets)
        if array.ndim != 4:
            raise UserError(
                f"affinities: wanted four axes (c, z, y, x), got shape {array.shape}: one channel per offset"
            )
        if len(array) != len(channels):
            raise UserError(
                f"affinities: wanted {len(channels)} channels, one per offset, got {len(array)} (shape {array.shape}): "
                "give the offsets of the channels, or put channels first"
            )
        if array.size == 0:
            raise UserError(f"affinities: wanted at least one voxel, got shape {array.shape}")
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise UserError(
                f"affinities: wanted uint8 (0..255) or floats in [0, 1], got {array.dtype}: rescale and convert them"
            )
        check_nearest(channels)
        return cls(_checked_range(array), channels, _checked_mask(mask, array.shape[1:]))

    @property
    def shape(self) -> Triple:
        """Extent (z, y, x)."""
        return triple(self.values.shape[1:])

    def section(self, axis: int, z: int) -> NDArray[np.float32]:
        """Affinities of one section to the previous voxel along an axis, 0 to 1, (y, x).

        Args:
            axis: 0, 1, 2 for z, y, x.
            z: The section.
        """
        return _as_floats(self._stored(axis, z))

    def channel(self, index: int, z: int) -> NDArray[np.float32]:
        """Affinities of one section of a channel as it is stored, 0 to 1, (y, x)."""
        return _as_floats(self.values[index, z])

    def levels(self, axis: int, z: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """As `section`, in whole steps: uint8 as stored, 255 standing for 1, or uint16, 65535 standing for 1.

        A float ``a`` has the level ``min(floor(65536 a), 65535)``. Its upper byte is the bin of ``a`` in a histogram of
        256 bins, as a stored byte ``u`` is itself, and ``u / 255`` has the level ``257 u``.
        """
        return as_levels(self._stored(axis, z))

    @property
    def far(self) -> tuple[int, ...]:
        """Channels of the offsets beyond the nearest neighbours."""
        return _far_channels(self.offsets)

    def _stored(self, axis: int, z: int) -> NDArray[Any]:
        """As `section`, in the type of the volume.

        A channel of the opposite offset holds an edge at its other end. It knows nothing of the edges that enter the
        volume at its first plane; that plane repeats the next one, lest a boundary appear there.
        """
        offset = NEAREST[axis]
        if offset in self.offsets:
            return np.ascontiguousarray(self.values[self.offsets.index(offset), z])
        channel = self.values[self.offsets.index(_opposite(offset))]
        if axis == 0:
            return np.ascontiguousarray(channel[max(0, z - 1)])
        previous = np.maximum(np.arange(channel.shape[axis]) - 1, 0)
        moved: NDArray[Any] = channel[z].take(previous, axis=axis - 1)
        return moved


def _as_floats(stored: NDArray[Any]) -> NDArray[np.float32]:
    if stored.dtype == np.uint8:
        return np.asarray(np.divide(stored, 255, dtype=np.float32))
    return stored.astype(np.float32, copy=False)


def as_levels(stored: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Stored affinities in whole steps: see `AffinityVolume.levels`."""
    if stored.dtype == np.uint8:
        return stored
    scaled = stored.astype(np.float32) * np.float32(65536)
    whole: NDArray[np.uint16] = np.minimum(scaled, np.float32(ONE), out=scaled).astype(np.uint16)
    return whole


def check_nearest(offsets: Sequence[Triple]) -> None:
    """Refuse offsets that no method can segment with.

    Raises:
        UserError: A nearest neighbour along z, y or x, in either direction, is not among them.
    """
    for offset in NEAREST:
        if offset not in offsets and _opposite(offset) not in offsets:
            raise UserError(
                f"offsets: wanted the nearest neighbours along z, y and x, got {tuple(offsets)} without {offset}: "
                "predict with these offsets too"
            )


def check_far(offsets: Sequence[Triple], purpose: str) -> None:
    """Refuse offsets that are of nearest neighbours only.

    Raises:
        UserError: There is no other offset; the message names the purpose.
    """
    if not _far_channels(offsets):
        raise UserError(
            f"offsets: {purpose} wanted some beyond the nearest neighbours, got {tuple(offsets)}: predict with"
            " long-range offsets too, or do without it"
        )


def _far_channels(offsets: Sequence[Triple]) -> tuple[int, ...]:
    return tuple(i for i, offset in enumerate(offsets) if sum(map(abs, offset)) > 1)


def given_fragments(fragments: ArrayLike, volume: AffinityVolume) -> NDArray[np.uint32]:
    """The fragments that a user passed, with dense ids, 0 outside of the mask.

    Raises:
        UserError: Wrong shape or type, or a negative id.
    """
    array = np.asarray(fragments)
    if array.dtype.kind not in "iu" or array.shape != volume.shape:
        raise UserError(
            f"fragments: wanted integer ids of the shape of the affinities, {volume.shape}, got {array.dtype}"
            f" {array.shape}: crop both to the same box"
        )
    if array.dtype.kind == "i" and array.min() < 0:
        raise UserError(f"fragments: wanted ids from 0 on, got {array.min()}: give what is no fragment the id 0")
    if volume.mask is not None:
        array = np.where(volume.mask, array, 0)
    if array.max() > array.size:  # A table of all ids up to the largest would be larger than the volume.
        ids, places = np.unique(array, return_inverse=True)
        array = places.reshape(array.shape) + (ids[0] != 0)
    return relabel(array).astype(np.uint32)


def _opposite(offset: Triple) -> Triple:
    return triple(-step for step in offset)


def _checked_range(values: NDArray[Any]) -> NDArray[Any]:
    """Refuse NaN and what is not in [0, 1]; clip what rounding put there."""
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        raise UserError(
            f"affinities: wanted numbers in [0, 1], got NaN in {np.isnan(values).sum()} of {values.size}: predict "
            "again, or set them to 0 and mask them"
        )
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise UserError(
            f"affinities: wanted floats in [0, 1], got {low:.6g} to {high:.6g}: pass logits through a sigmoid; "
            "affinities of 0..255 are divided by 255, or given as uint8"
        )
    return values.clip(0, 1) if low < 0 or high > 1 else values


def _checked_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    array = np.asarray(mask)
    if array.shape != shape or array.dtype != np.bool_:
        raise UserError(
            f"mask: wanted bool of the shape of the affinities, {shape}, got {array.dtype} {array.shape}: True is "
            "where to segment"
        )
    return array
