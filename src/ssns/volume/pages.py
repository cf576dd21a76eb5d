"""Folders of pages, one PNG, TIFF or JPEG file per section, in natural order."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from ssns.errors import UserError
from ssns.volume.cache import DecodedCache
from ssns.volume.colour import one_value_per_voxel
from ssns.volume.volume import Volume

# The classes themselves and not PIL.Image.open, which refuses sections above 179 million pixels as an attack.
_PILLOW: dict[str, type[ImageFile]] = {".png": PngImageFile, ".jpg": JpegImageFile, ".jpeg": JpegImageFile}
_TIFF = (".tif", ".tiff")
PAGE_SUFFIXES = (*_PILLOW, *_TIFF)

_PILLOW_MODES: dict[str, tuple[str, int]] = {
    "1": ("bool", 1),
    "L": ("uint8", 1),
    "P": ("uint8", 1),  # with a palette: the numbers, which are ids, and not the colours
    "I": ("uint16", 1),  # how Pillow before 11 calls 16 bit
    "I;16": ("uint16", 1),
    "LA": ("uint8", 2),
    "RGB": ("uint8", 3),
    "RGBA": ("uint8", 4),
}
"""Type and samples of the kinds of pixels that PNG and JPEG have."""


class MissingPagesWarning(UserWarning):
    """The numbers in the names of pages leave sections out."""


@dataclass(frozen=True, eq=False)
class PageFolder:
    """Sections as files, decoded when they are read, the last ones kept.

    Attributes:
        files: One per section, in order.
        shape: (z, y, x), or (z, y, x, samples).
        dtype: Type of the voxels.
    """

    files: tuple[Path, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _cache: DecodedCache = field(default_factory=DecodedCache, repr=False)

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        sections, *inside = index
        out = np.empty(
            (sections.stop - sections.start, *(part.stop - part.start for part in inside)),
            self.dtype,
        )
        for place, section in enumerate(range(sections.start, sections.stop)):
            file = self.files[section]
            out[place] = self._cache.get(section, lambda file=file: _decode(file))[tuple(inside)]  # type: ignore[misc]
        return out


def page_files(folder: Path) -> tuple[Path, ...]:
    """The pages in a folder, in natural order: ``s2`` before ``s10``; hidden files are left out."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in PAGE_SUFFIXES and not p.name.startswith(".")]
    return tuple(sorted(files, key=lambda file: (_natural(file.stem), file.name)))


def open_pages(folder: Path, *, rgb_ids: bool) -> Volume:
    """Open a folder of pages; reads the head of each file only.

    Args:
        folder: An existing folder.
        rgb_ids: Whether colours are ids as VAST exports them.

    Raises:
        UserError: There are no pages, two for one section, or pages of different shape or type.

    Warns:
        MissingPagesWarning: The numbers in the names leave sections out.
    """
    files = page_files(folder)
    if not files:
        raise UserError(f"{folder} is neither a Zarr nor a folder of pages: it holds no {', '.join(PAGE_SUFFIXES)}")
    _check_numbering(folder, files)
    shape, dtype = _page_header(files[0])
    for file in files[1:]:
        other_shape, other_dtype = _page_header(file)
        if (other_shape, other_dtype) != (shape, dtype):
            raise UserError(
                f"{folder}: {file.name} is {_size(other_shape)} {other_dtype} but {files[0].name} is {_size(shape)} "
                f"{dtype}; sections have one shape and type: pad, crop or convert them, or move the file away"
            )
    pages = PageFolder(files, (len(files), *shape), dtype)
    return Volume(one_value_per_voxel(pages, str(folder), rgb_ids=rgb_ids), str(folder))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which runs of digits count as numbers."""
    parts = re.split(r"(\d+)", name)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def page_numbers(files: Sequence[Path]) -> list[int]:
    """The one number in the names of pages that counts them; empty where there is none, or more than one."""
    varying = [column for column in _columns(files) if len(set(column)) > 1]
    return [number for number in varying[0] if isinstance(number, int)] if len(varying) == 1 else []


def _columns(files: Sequence[Path]) -> list[list[int] | list[str]]:
    """What is at each place of the names, texts and numbers in turn; nothing where the names differ in kind."""
    fields = [re.split(r"(\d+)", file.stem) for file in files]
    if len({len(parts) for parts in fields}) > 1:
        return []
    return [[int(p) for p in column] if i % 2 else list(column) for i, column in enumerate(zip(*fields, strict=True))]


def _check_numbering(folder: Path, files: tuple[Path, ...]) -> None:
    """Tell of sections that are missing or double, where one number in the names counts them."""
    columns = _columns(files)
    if len(files) > 1 and columns and all(len(set(column)) == 1 for column in columns):
        raise UserError(f"{folder}: {files[0].name} and {files[1].name} are one section; move one away")
    numbers = page_numbers(files)
    if not numbers:
        return
    for (number, file), (following, other) in pairwise(zip(numbers, files, strict=True)):
        if number == following:
            raise UserError(f"{folder}: {file.name} and {other.name} are one section; move one away")
    gaps = [(a + 1, b - 1) for a, b in pairwise(numbers) if b > a + 1]
    if gaps:
        listed = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in gaps[:8])
        more = f" and {len(gaps) - 8} more gaps" if len(gaps) > 8 else ""
        warnings.warn(
            f"{folder}: sections {listed}{more} are missing between {numbers[0]} and {numbers[-1]}; the pages "
            f"are stacked as {len(files)} neighbouring sections: put blank pages in, or say which sections they are",
            MissingPagesWarning,
            stacklevel=2,
        )


def _page_header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape (y, x) or (y, x, samples) and type of one page, from the head of its file."""
    try:
        if file.suffix.lower() in _TIFF:
            return _tiff_header(file)
        with _PILLOW[file.suffix.lower()](str(file)) as page:
            if page.mode not in _PILLOW_MODES:
                raise UserError(f"{file} has pixels of kind {page.mode}: save it as grey of 8 or 16 bit, or as RGB")
            name, samples = _PILLOW_MODES[page.mode]
            return (page.height, page.width, *([samples] if samples > 1 else [])), np.dtype(name)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # Pillow says SyntaxError where a file is of another kind
        raise UserError(f"{file} cannot be opened as {file.suffix[1:]} ({error}); copy or save it again") from error


def _tiff_header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with tifffile.TiffFile(file) as tif:
        if len(tif.pages) != 1:
            raise UserError(f"{file} holds {len(tif.pages)} pages: a folder wants one per file; open the file itself")
        page = tif.pages[0]
        return tuple(page.shape), np.dtype(page.dtype)


def _decode(file: Path) -> NDArray[Any]:
    try:
        if file.suffix.lower() in _TIFF:
            with tifffile.TiffFile(file) as tif:
                return np.asarray(tif.pages[0].asarray())
        with _PILLOW[file.suffix.lower()](str(file)) as page:
            return np.asarray(page)
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} cannot be read ({error}); it may be truncated: copy it again") from error


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
