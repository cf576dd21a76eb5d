"""TIFF stacks, one page per section: plain, BigTIFF, ImageJ, OME; strips or tiles; any compression of imagecodecs.

Uncompressed stacks are mapped. Of others, only the strips or tiles that a read touches are decoded, and kept for the
next read. Files are opened for each read: an open handle shared by forked processes would share its position too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import VoxelSize
from ssns.volume.cache import DecodedCache
from ssns.volume.colour import one_value_per_voxel
from ssns.volume.geometry import nm_per_unit, voxel_size_or_none
from ssns.volume.volume import LazyArray, Volume

_UNIFORM_TAGS = {256: "width", 257: "height", 259: "compression", 277: "samples", 317: "predictor"}


@dataclass(frozen=True, eq=False)
class MappedStack:
    """Uncompressed sections, one after the other in the file.

    Attributes:
        file: The file.
        start: Byte at which the first section begins.
        shape: (z, y, x), or (z, y, x, samples).
        dtype: Type in the file, with its byte order.
    """

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        return np.array(np.memmap(self.file, self.dtype, "r", self.start, self.shape)[index])


class PagedStack:
    """Sections as pages of strips or tiles, of which those that a read touches are decoded.

    Args:
        file: The file.
        pages: Its pages as tifffile describes them, with the same layout each; one page may hold all as planes.
        shape: (z, y, x), or (z, y, x, samples).
    """

    def __init__(self, file: Path, pages: list[Any], shape: tuple[int, ...]) -> None:
        self._file = file
        self._pages = pages
        layout = pages[0].keyframe
        self._segment: tuple[int, int] = (
            (layout.tilelength, layout.tilewidth) if layout.is_tiled else (min(layout.rowsperstrip, shape[1]), shape[2])
        )
        self._decoder = layout.decode  # looks into the file when it is made, so while that is open
        self._cache = DecodedCache()
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(layout.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_stack, (self._file,)

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``."""
        z, y, x = index[:3]
        samples = self.shape[3:]
        out = np.zeros((z.stop - z.start, y.stop - y.start, x.stop - x.start, *samples), self.dtype)
        with self._file.open("rb") as opened:
            for section in range(z.start, z.stop):
                for top, left, segment in self._segments(opened, section, y, x):
                    rows = slice(max(top, y.start), min(top + segment.shape[0], y.stop))
                    columns = slice(max(left, x.start), min(left + segment.shape[1], x.stop))
                    part = segment[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
                    out[
                        section - z.start,
                        rows.start - y.start : rows.stop - y.start,
                        columns.start - x.start : columns.stop - x.start,
                    ] = part if samples else part[..., 0]
        return out[(..., index[3])] if samples else out

    def _segments(self, opened: BinaryIO, section: int, y: slice, x: slice) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Row and column of the first voxel, and voxels (y, x, samples), of the segments that ``y`` and ``x`` touch."""
        height, width = self._segment
        across = -(-self.shape[2] // width)
        if y.start >= y.stop or x.start >= x.stop:
            return
        for row in range(y.start // height, (y.stop - 1) // height + 1):
            for column in range(x.start // width, (x.stop - 1) // width + 1):
                number = row * across + column
                segment = self._cache.get((section, number), lambda n=number: self._decode(opened, section, n))  # type: ignore[misc]
                yield row * height, column * width, segment

    def _decode(self, opened: BinaryIO, section: int, number: int) -> NDArray[Any]:
        planes = self.shape[0] // len(self._pages)
        page = self._pages[section // planes]
        number += section % planes * (len(page.dataoffsets) // planes)
        opened.seek(page.dataoffsets[number])
        encoded = opened.read(page.databytecounts[number])
        if len(encoded) < page.databytecounts[number]:
            raise EOFError(f"page {section} ends {page.databytecounts[number] - len(encoded)} bytes early")
        segment, _, shape = self._decoder(encoded or None, number, jpegtables=page.jpegtables)
        if segment is None:  # a sparse file leaves empty segments out
            return np.zeros(shape[1:], self.dtype)
        return np.asarray(segment[0])


def open_tiff(file: Path, *, rgb_ids: bool) -> Volume:
    """Open a TIFF stack; reads the tags of its pages only.

    Args:
        file: An existing file.
        rgb_ids: Whether colours are ids as VAST exports them.

    Raises:
        UserError: The file is truncated or no TIFF, its pages differ, or it is no stack of sections.
    """
    stack = _open_stack(file)
    with tifffile.TiffFile(file) as tif:
        voxel_size_nm = _voxel_size(tif)
    return Volume(one_value_per_voxel(stack, str(file), rgb_ids=rgb_ids), str(file), voxel_size_nm)


def _open_stack(file: Path) -> LazyArray:
    """The pages of a file as (z, y, x), or (z, y, x, samples) where they are in colour."""
    _check_directories(file)
    try:
        with tifffile.TiffFile(file) as tif:
            return _stack_of(file, tif)
    except (tifffile.TiffFileError, struct.error, OSError) as error:
        raise UserError(f"{file} cannot be opened as TIFF ({error}); if it is truncated, copy it again") from error


def _stack_of(file: Path, tif: tifffile.TiffFile) -> LazyArray:
    if len(tif.series) != 1:
        shapes = ", ".join(str(series.shape) for series in tif.series[:4])
        raise UserError(f"{file} holds {len(tif.series)} images ({shapes}): save one stack of equal pages per file")
    series = tif.series[0]
    shape = _stack_shape(file, series)
    size = file.stat().st_size
    if series.dataoffset is not None:
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        end = series.dataoffset + int(np.prod(shape)) * dtype.itemsize
        if end > size:
            raise UserError(f"{file} is truncated: its voxels end at byte {end}, the file at {size}; copy it again")
        return MappedStack(file, series.dataoffset, shape, dtype)
    if (depth := series.keyframe.tiledepth) > 1:
        raise UserError(
            f"{file} has tiles of {depth} sections, which few programs read: save it with tiles or strips of single"
            " sections"
        )
    pages: list[Any] = list(series.pages)
    if len(pages) not in (1, shape[0]) or any(page is None or page.parent is not tif for page in pages):
        raise UserError(f"{file} keeps some of its {shape[0]} sections in other files: save one stack in one file")
    for number, page in enumerate(pages):
        end = max((a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if end > size:
            raise UserError(f"{file} is truncated: page {number} ends at byte {end}, the file at {size}; copy it again")
    return PagedStack(file, pages, shape)


def _stack_shape(file: Path, series: Any) -> tuple[int, ...]:
    """(z, y, x), or (z, y, x, samples); one axis of any meaning before y and x is the sections."""
    if hasattr(series, "get_axes"):  # until tifffile 2026.3, which drops axes of one section unless it is told not to
        axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    else:
        axes, shape = series.axes, series.shape
    if axes.endswith("SYX"):
        # tifffile writes three or four grey sections as the colour planes of one page, unless it is told not to
        axes = axes.replace("S", "Z")
    samples: tuple[int, ...] = ()
    if axes.endswith("S"):
        samples = shape[-1:] if shape[-1] > 1 else ()
        axes, shape = axes[:-1], shape[:-1]
    leading = [n for n in shape[:-2] if n > 1] or list(shape[:1] if len(shape) > 2 else ())
    if not axes.endswith("YX") or "S" in axes or len(leading) != 1:
        raise UserError(
            f"{file} has axes {series.axes} {series.shape}: wanted a stack of sections (z, y, x); "
            "a single section is a volume as a folder with one page"
        )
    return (leading[0], *shape[-2:], *samples)


def _check_directories(file: Path) -> None:
    """Follow the chain of page directories: what tifffile does not read of a cut file, it leaves out in silence.

    Raises:
        UserError: The chain leaves the file, or a page has another size or coding than the first.
    """
    first: dict[int, int] = {}
    size = file.stat().st_size
    with file.open("rb") as opened:
        try:
            for number, tags in enumerate(_directories(opened)):
                first = first or tags
                differing = [name for tag, name in _UNIFORM_TAGS.items() if tags.get(tag) != first.get(tag)]
                if differing:
                    raise UserError(
                        f"{file}: page {number} differs from page 0 in {' and '.join(differing)} "
                        f"({tags[257]} x {tags[256]}, page 0 is {first[257]} x {first[256]}); save equal pages"
                    )
        except (struct.error, KeyError) as error:
            raise UserError(
                f"{file} is truncated or no TIFF: the list of its pages leaves the {size} bytes of the file; "
                "copy it again"
            ) from error


def _directories(opened: BinaryIO) -> Iterator[dict[int, int]]:
    """The inline values of ``_UNIFORM_TAGS``, page by page; struct.error where the file ends too early."""
    order = {b"II": "<", b"MM": ">"}[opened.read(2)]
    big = struct.unpack(f"{order}H", opened.read(2))[0] == 43
    opened.seek(8 if big else 4)
    pointer, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    pointer_size, count_size = struct.calcsize(pointer), struct.calcsize(f"={count}")
    (offset,) = struct.unpack(order + pointer, opened.read(pointer_size))
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise struct.error("the pages form a circle")
        seen.add(offset)
        opened.seek(offset)
        (entries,) = struct.unpack(order + count, opened.read(count_size))
        table = opened.read(entries * entry)
        (offset,) = struct.unpack(order + pointer, opened.read(pointer_size))
        tags = {}
        for start in range(0, len(table), entry):
            tag, kind = struct.unpack_from(f"{order}HH", table, start)
            if tag in _UNIFORM_TAGS:
                value = {3: "H", 4: "I", 16: "Q"}[kind]
                (tags[tag],) = struct.unpack_from(order + value, table, start + (12 if big else 8))
        yield tags


def _voxel_size(tif: tifffile.TiffFile) -> VoxelSize | None:
    """Nanometres (z, y, x) of OME, ImageJ or tifffile metadata; None unless all three axes are there."""
    if tif.is_ome and tif.ome_metadata:
        return _ome_voxel_size(tif.ome_metadata)
    stated: dict[str, Any] = dict(tif.imagej_metadata or {})
    if not stated and tif.shaped_metadata:
        stated = dict(tif.shaped_metadata[0])
    factor = nm_per_unit(stated.get("unit"))
    tags = tif.pages.first.tags
    resolution: list[Any] = [tags.get(name) for name in ("YResolution", "XResolution")]
    if factor is None or "spacing" not in stated or None in resolution:
        return None
    per_pixel = []
    for tag in resolution:
        pixels, units = tag.value
        per_pixel.append(factor * units / pixels if pixels else 0.0)
    return voxel_size_or_none([factor * float(stated["spacing"]), *per_pixel])


def _ome_voxel_size(metadata: str) -> VoxelSize | None:
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    sizes = []
    for axis in "ZYX":
        factor = nm_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sizes.append(float(pixels.get(f"PhysicalSize{axis}", "nan")) * (factor or float("nan")))
    return voxel_size_or_none(sizes)
