"""From arrays to a PNG: grey values, panels of a common size, captions, mosaics."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""RGB pixels (y, x, 3)."""

PANEL = 512
"""Pixels along the longer side of a panel, about."""
CAPTION = 26
"""Pixels of a line of text."""
GAP = 4
_WHITE = 255


def to_gray(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values to show: uint8 as they are, everything else stretched between its 0.5 and 99.5 percentiles."""
    if raw.dtype == np.uint8:
        return raw
    low, high = np.percentile(raw, (0.5, 99.5)) if raw.size else (0.0, 1.0)
    scaled = (raw.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def to_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey values (...) as three equal channels (..., 3)."""
    return np.repeat(gray[..., np.newaxis], 3, axis=-1)


def fit_panel(picture: Picture, size: int = PANEL) -> Picture:
    """Bring the longer side near ``size`` by a whole factor, so that no pixel is favoured.

    A large picture is averaged over squares of pixels, a small one repeats its pixels. Rows and columns that do not
    fill a square are left out.
    """
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= size:
        factor = max(1, size // longer)
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    factor = -(-longer // size)
    rows, columns = max(1, height // factor), max(1, width // factor)
    squares = picture[: rows * factor, : columns * factor].reshape(rows, -1, columns, factor, 3)
    averages: NDArray[np.float64] = squares.mean(axis=(1, 3))
    return np.rint(averages).astype(np.uint8)


def caption(text: str, width: int, *, color: tuple[int, int, int] = (0, 0, 0)) -> Picture:
    """A line of text, centred on white, ``CAPTION`` pixels high."""
    from matplotlib.figure import Figure

    dpi = 64  # a power of two: widths in inches are exact, so the canvas has the pixels asked for
    figure = Figure(figsize=(width / dpi, CAPTION / dpi), dpi=dpi)
    points = 0.6 * CAPTION * 72 / dpi
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=points, color=[c / 255 for c in color])
    pixels = BytesIO()
    figure.savefig(pixels, format="rgba")
    return np.frombuffer(pixels.getvalue(), dtype=np.uint8).reshape(CAPTION, width, 4)[..., :3]


def side_caption(text: str, height: int) -> Picture:
    """A line of text that reads upwards, ``CAPTION`` pixels wide."""
    return np.rot90(caption(text, height))


def mosaic(rows: Sequence[Sequence[Picture]], *, gap: int = GAP) -> Picture:
    """Panels in rows with white between them; heights agree along a row, widths along a column."""
    strips = [_joined(row, axis=1, gap=gap) for row in rows]
    return _joined(strips, axis=0, gap=gap)


def _joined(panels: Sequence[Picture], *, axis: int, gap: int) -> Picture:
    shape = list(panels[0].shape)
    shape[axis] = gap
    between = np.full(shape, _WHITE, dtype=np.uint8)
    parts = [part for panel in panels for part in (panel, between)]
    return np.concatenate(parts[:-1], axis=axis)


def blank(height: int, width: int) -> Picture:
    """White pixels."""
    return np.full((height, width, 3), _WHITE, dtype=np.uint8)


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write RGB pixels as the image format that the suffix names (PNG for everything that ``ssns`` writes)."""
    from PIL import Image

    Image.fromarray(picture).save(path)
