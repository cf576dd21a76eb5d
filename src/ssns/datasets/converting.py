"""From a published form to the file that experiments read, slab by slab, with checks of what is known.

1. ``plan_output`` opens a source and puts lazy steps on it: order of sections, crop, types of ids. It reads no voxels.
2. ``convert`` interpolates defective sections, streams the voxels to the file, and counts ids on the way. The file is
   there only if all checks have passed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.datasets.dataset import Layout, Output, Shape
from ssns.datasets.sections import Ids, Interpolated, Reversed, blank_sections
from ssns.errors import UserError
from ssns.space import Box, Triple, cover
from ssns.volume import Volume, open_volume
from ssns.volume.hdf5 import write_hdf5
from ssns.volume.opening import split_dataset
from ssns.volume.window import Cropped

SLAB: Triple = (16, 4096, 4096)
"""Voxels (z, y, x) read and written at a time: at most 256 MiB of raw; whole sections, as pages are decoded whole."""


@dataclass(frozen=True)
class Plan:
    """An output and what it will be made of.

    Attributes:
        output: What is made.
        layout: The form of the source.
        volume: The voxels, before defective sections are interpolated.
        defects: Sections to interpolate; None: those that are known, and blank ones.
    """

    output: Output
    layout: Layout
    volume: Volume
    defects: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Converted:
    """What was found on the way.

    Attributes:
        ids: How many ids the labels have, 0 left out; 0 for raw.
        interpolated: Sections that were interpolated.
        blake2b: Of the voxels, section by section.
    """

    ids: int
    interpolated: tuple[int, ...]
    blake2b: str


def plan_output(
    output: Output, layout: Layout, path: Path, *, shape: Shape, crop: Box | None, defects: tuple[int, ...] | None
) -> Plan:
    """Open a source, and see that it holds what is wanted; reads no voxels.

    Args:
        output: What is made.
        layout: The form of the source.
        path: The source, found.
        shape: What the output must be.
        crop: What the user wants of the source, in the frame of its origin; None: what the layout says.
        defects: Sections of the output that the user wants interpolated; None: those known, and blank ones.

    Raises:
        UserError: The source is damaged, of another shape or type, or too small.
    """
    volume = open_volume(path, role=output.role, rgb_ids=layout.rgb_ids)
    _check_type(volume, output)
    array = Reversed(volume.array) if layout.reversed else volume.array
    if crop is None and not isinstance(layout.start, str):
        extent = (length if known is None else known for known, length in zip(shape, volume.shape, strict=True))
        crop = Box.of_shape(extent, layout.start)
    if crop is not None:
        there = volume.box.shifted(volume.origin)
        if not there.contains(crop):
            raise UserError(f"{volume.path}: wanted {crop} of it, but it holds {there}: fetch more, or set --crop")
        array = Cropped(array, crop.relative_to(volume.origin))
    check_shape(volume.path, array.shape, shape)
    if output.role == "labels":
        array = Ids(array, volume.path)
    depth = array.shape[0]
    if defects and output.role == "labels":
        raise UserError(f"--defects: wanted sections of raw, got {output.name}, whose ids cannot be interpolated")
    if any(section >= depth for section in defects or ()):
        raise UserError(f"--defects: {output.name} has sections 0 to {depth - 1}, got {defects}: name those")
    placed = replace(volume, array=array, voxel_size_nm=output.voxel_size_nm, origin=_origin(output, volume, crop))
    return Plan(output, layout, placed, defects)


def reversed_fits_better(raw: Volume, labels: Volume) -> bool:
    """Whether background is darker in raw where the sections of the labels are taken in reverse order.

    Membranes are dark: labels in the wrong order tell themselves. Looks at eight sections.

    Args:
        raw: Shape (z, y, x).
        labels: Of the same shape, background 0.
    """
    depth = raw.shape[0]
    brightness: tuple[list[float], list[float]] = ([], [])
    for z in range(0, depth, -(-depth // 8)):
        section = raw[z]
        for found, ids in zip(brightness, (labels[z], labels[depth - 1 - z]), strict=True):
            found.extend([float(section[ids == 0].mean())] if (ids == 0).any() else [])
    straight, turned = (sum(found) / len(found) if found else 0.0 for found in brightness)
    return turned < straight


def check_shape(path: str, shape: tuple[int, ...], wanted: Shape) -> None:
    """Refuse another shape.

    Raises:
        UserError: An extent is not what is wanted.
    """
    if any(known not in (None, length) for known, length in zip(wanted, shape, strict=True)):
        texts = [" x ".join("any" if n is None else str(n) for n in each) for each in (wanted, shape)]
        raise UserError(f"{path}: wanted {texts[0]} voxels (z, y, x), got {texts[1]}: fetch the file again, or another")


def convert(
    plan: Plan, target: Path, *, unverified: bool = False, progress: Callable[[int, int], None] = lambda *_: None
) -> Converted:
    """Write the voxels of a plan to an HDF5 file, dataset ``main``, that replaces ``target`` when it is complete.

    Args:
        plan: What to write.
        target: The file.
        unverified: Whether to take a file of another checksum, and labels with another number of ids.
        progress: Told of sections done, and of all sections.

    Raises:
        UserError: The checksum or the number of ids is not the known one, or the file cannot be written.
    """
    if plan.layout.sha256 is not None and not unverified:
        _check_sha256(split_dataset(plan.volume.path)[0], plan.layout.sha256)
    defects = _defects(plan)
    volume = plan.volume
    if defects:
        volume = replace(volume, array=Interpolated(volume.array, frozenset(defects)))
    seen = _Seen(volume, progress)

    def slabs() -> Iterator[tuple[Box, NDArray[Any]]]:
        yield from seen.slabs()
        wanted = plan.layout.ids
        if wanted is not None and len(seen.ids) != wanted and not unverified:
            raise UserError(
                f"{volume.path}: wanted {wanted} ids, got {len(seen.ids)}: fetch the file again, or take it as it is"
                " with --unverified"
            )

    made = {"source": split_dataset(volume.path)[0].name, "interpolated": list(defects)}
    write_hdf5(target, volume, slabs(), attributes=made)
    return Converted(len(seen.ids), defects, seen.digest.hexdigest())


class _Seen:
    """The slabs of a volume, and what is known of its voxels once all have passed."""

    def __init__(self, volume: Volume, progress: Callable[[int, int], None]) -> None:
        self._volume = volume
        self._progress = progress
        self.ids: set[int] = set()
        self.digest = hashlib.blake2b(digest_size=32)

    def slabs(self) -> Iterator[tuple[Box, NDArray[Any]]]:
        depth = self._volume.shape[0]
        counted = self._volume.dtype.itemsize > 1 or isinstance(self._volume.array, Ids)
        for slab in cover(self._volume.box, SLAB):
            data = self._volume.read(slab)
            if counted:
                self.ids.update(np.unique(data).tolist())
            self.digest.update(data.tobytes())
            yield slab, data
            self._progress(slab.stop[0], depth)
        self.ids.discard(0)


def _check_type(volume: Volume, output: Output) -> None:
    """Raw is uint8, labels are integers."""
    labels = output.role == "labels"
    right = volume.dtype.kind in "ui" if labels else volume.dtype == np.uint8
    if volume.channels is not None or not right:
        wanted = "ids (whole numbers)" if labels else "raw of uint8"
        raise UserError(
            f"{volume.path}: wanted {wanted} on 3 axes, got {volume.dtype} {volume.array.shape}: convert it"
        )


def _origin(output: Output, volume: Volume, crop: Box | None) -> Triple:
    """Labels that are smaller than raw keep their place in it; whatever is cropped begins at 0."""
    return volume.origin if crop is None and output.role == "labels" else (0, 0, 0)


def _defects(plan: Plan) -> tuple[int, ...]:
    if plan.defects is None and (plan.output.defects is None or plan.layout.repaired):
        return ()
    known = plan.defects
    if known is None:
        known = (*(plan.output.defects or ()), *blank_sections(plan.volume.array))
    if len(set(known)) >= plan.volume.shape[0]:
        raise UserError(
            f"{plan.volume.path}: every section is defective: nothing is left to interpolate; see --defects"
        )
    return tuple(sorted(set(known)))


def _check_sha256(file: Path, wanted: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != wanted:
        raise UserError(
            f"{file}: wanted the SHA-256 {wanted}, got {found}: fetch the file again, or take it as it is"
            " with --unverified"
        )
