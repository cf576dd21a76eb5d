"""Pages in colour: ids as VAST exports them, or a mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.volume.volume import LazyArray


@dataclass(frozen=True, eq=False)
class RgbIds:
    """Ids coded as colours: ``id = 65536 r + 256 g + b``, what VAST exports.

    Attributes:
        colours: Shape (z, y, x, 3 or 4), uint8; a fourth sample (opacity) plays no part.
    """

    colours: LazyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent (z, y, x)."""
        return self.colours.shape[:3]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Ids need 24 bits."""
        return np.dtype(np.uint32)

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The ids of ``index``."""
        colours = self.colours[(*index, slice(0, 3))].astype(np.uint32)
        ids: NDArray[Any] = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
        return ids


def one_value_per_voxel(pages: LazyArray, path: str, *, rgb_ids: bool) -> LazyArray:
    """Pages as an array (z, y, x): grey ones as they are, coloured ones decoded to ids where the user says so.

    Args:
        pages: Shape (z, y, x), or (z, y, x, samples) for pages in colour.
        path: For errors.
        rgb_ids: Whether the user says that colours are ids.

    Raises:
        UserError: What the user says and what the pages hold do not agree.
    """
    coloured = len(pages.shape) == 4
    if coloured and not rgb_ids:
        raise UserError(
            f"{path} holds pages in colour ({pages.shape[3]} samples): set rgb_ids if the colours are ids exported "
            "by VAST, or save the pages as grey"
        )
    if rgb_ids and not (coloured and pages.shape[3] in (3, 4) and pages.dtype == np.uint8):
        samples = pages.shape[3] if coloured else 1
        raise UserError(
            f"rgb_ids wants pages of 3 samples of uint8, but {path} has {samples} of {pages.dtype}: leave rgb_ids out"
        )
    return RgbIds(pages) if rgb_ids else pages
