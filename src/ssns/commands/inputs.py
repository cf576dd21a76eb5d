"""The volumes of an experiment, opened and checked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssns.commands.terminal import warn
from ssns.errors import UserError
from ssns.experiment import Experiment, Role, VolumeSettings, check_roles, region_boxes
from ssns.metrics import swc_files
from ssns.sampling import LabelledVolume, RawVolume
from ssns.space import Box, Triple, triple
from ssns.volume import Volume, check_labels, check_raw, fingerprint, open_volume
from ssns.volume.normalization import IntensityRange, Normalization
from ssns.volume.opening import split_dataset
from ssns.volume.pages import MissingPagesWarning
from ssns.volume.sections import runs, spread_sections


@dataclass(frozen=True)
class Source:
    """One volume of an experiment, opened.

    Attributes:
        name: In the experiment.
        settings: As the experiment says.
        raw: The image.
        labels: The ids, if any.
        labels_start: The voxel of raw at which the labels begin.
        pages: The ids as they are stored: of single sections, without what is between them.
    """

    name: str
    settings: VolumeSettings
    raw: Volume
    labels: Volume | None
    labels_start: Triple
    pages: Volume | None = None

    @property
    def labels_boxes(self) -> tuple[Box, ...]:
        """Where raw has labels, in voxels of raw: one box, or one for each run of sections that have a page."""
        if self.labels is None:
            return ()
        whole = Box.of_shape(self.labels.shape, self.labels_start)
        if self.settings.labels_sections is None:
            return (whole,)
        (_, y, x), (_, y_end, x_end) = whole.start, whole.stop
        return tuple(Box((z, y, x), (z_end, y_end, x_end)) for z, z_end in runs(self.settings.labels_sections))

    @property
    def raw_array(self) -> str:
        """One spelling for one array, through links; the path of an open volume names the dataset that was found."""
        file, dataset = split_dataset(self.raw.path)
        return f"{os.path.realpath(file)}:{dataset or ''}"

    def prepared(self, normalization: Normalization) -> Source:
        """The same with raw as a normalisation has to see it."""
        return replace(self, raw=normalization.prepared(self.raw))

    def boxes(self, role: Role) -> tuple[Box, ...]:
        """The boxes of a role, in voxels of raw."""
        return region_boxes(getattr(self.settings, role), self.raw.box, f"volumes.{self.name}.{role}")

    def fingerprint(self, hash_up_to: float) -> dict[str, Any]:
        """What tells whether raw or labels have changed; the data of each are hashed up to so many bytes."""
        found = self.raw_fingerprint(hash_up_to)
        return found if self.labels is None else found | {"labels": self.labels_fingerprint(hash_up_to)}

    def labels_fingerprint(self, hash_up_to: float) -> dict[str, Any] | None:
        """What tells whether labels, or the meaning of their ids and place, have changed; None without labels."""
        if self.pages is None:
            return None
        meaning = self.settings.model_dump(mode="json", include={"background", "ignored", "rgb_ids", "labels_sections"})
        return fingerprint(self.pages, hash_up_to=hash_up_to) | meaning | {"start": list(self.labels_start)}

    def raw_fingerprint(self, hash_up_to: float) -> dict[str, Any]:
        """What tells whether raw has changed."""
        return {"raw": fingerprint(self.raw, hash_up_to=hash_up_to)}

    def unlabelled(self, role: Role, intensity: IntensityRange) -> RawVolume:
        """Raw of the boxes of a role."""
        return RawVolume(self.raw, self.boxes(role), intensity)

    def labelled(self, role: Role, intensity: IntensityRange) -> LabelledVolume:
        """Raw and labels of the boxes of a role."""
        assert self.labels is not None, "open_sources has checked that roles with labels have them"
        return LabelledVolume(
            raw=self.raw,
            labels=self.labels,
            labels_start=self.labels_start,
            boxes=self.boxes(role),
            intensity=intensity,
            background=self.settings.background,
            ignored=self.settings.ignored,
        )


PARTS: tuple[Role, ...] = ("validation", "test", "target")
"""The roles of what is predicted and segmented."""


@dataclass(frozen=True)
class Part:
    """One box to predict and segment.

    Attributes:
        name: Of its folder: volume, role, and a number where a role has several boxes.
        role: One of ``PARTS``.
        source: Its volume.
        box: In voxels of raw.
    """

    name: str
    role: Role
    source: Source
    box: Box

    @property
    def origin(self) -> Triple:
        """Position of its first voxel in the frame of the volume's origin."""
        return triple(a + b for a, b in zip(self.source.raw.origin, self.box.start, strict=True))


def open_sources(experiment: Experiment) -> dict[str, Source]:
    """Open every volume, and refuse what cannot work before any work begins.

    Raises:
        UserError: A file cannot be read, labels do not fit raw, or roles overlap.
    """
    sources = {name: open_source(name, settings) for name, settings in experiment.volumes.items()}
    files = {name: source.raw_array for name, source in sources.items()}
    for warning in check_roles(experiment, {name: source.raw.box for name, source in sources.items()}, files):
        warn(warning)
    for source in sources.values():
        for role in ("labelled", "validation", "test"):
            _check_covered(source, role)
        _check_skeletons(source)
    return sources


def prepared(sources: Mapping[str, Source], normalization: Normalization) -> dict[str, Source]:
    """The volumes with raw as a normalisation has to see it."""
    return {name: source.prepared(normalization) for name, source in sources.items()}


def with_role(sources: dict[str, Source], role: Role) -> dict[str, Source]:
    """Those of the volumes, by name, that have a region of a role."""
    return {name: source for name, source in sources.items() if getattr(source.settings, role)}


def open_source(name: str, settings: VolumeSettings) -> Source:
    """Open one volume, with its labels placed in raw."""
    raw = open_volume(settings.raw, voxel_size_nm=settings.voxel_size_nm)
    check_raw(raw)
    if settings.labels is None:
        return Source(name, settings, raw, None, (0, 0, 0))
    pages = _open_pages(settings)
    if settings.labels_start is not None:
        origin = triple(a + b for a, b in zip(raw.origin, settings.labels_start, strict=True))
        pages = replace(pages, origin=origin)
    labels = check_labels(_placed(name, settings, pages, raw), raw)
    _check_same_size(raw, labels)
    start = triple(b - a for a, b in zip(raw.origin, labels.origin, strict=True))
    return Source(name, settings, raw, labels, start, pages)


def _open_pages(settings: VolumeSettings) -> Volume:
    """The labels as they are stored; that sections are missing is no news where the settings say which."""
    assert settings.labels is not None, "the caller has checked"
    with warnings.catch_warnings():
        if settings.labels_sections is not None:
            warnings.simplefilter("ignore", MissingPagesWarning)
        return open_volume(
            settings.labels, role="labels", voxel_size_nm=settings.voxel_size_nm, rgb_ids=settings.rgb_ids
        )


def _placed(name: str, settings: VolumeSettings, pages: Volume, raw: Volume) -> Volume:
    """Labels with each page at its section of raw, where the settings say which."""
    sections = settings.labels_sections
    if sections is None:
        return pages
    if pages.channels is None and pages.shape[0] != len(sections):
        raise UserError(
            f"volumes.{name}.labels_sections: wanted {pages.shape[0]}, one for each section of {pages.path}, got"
            f" {len(sections)}: list the section of raw that each is of"
        )
    if sections[-1] >= raw.shape[0]:
        raise UserError(
            f"volumes.{name}.labels_sections: wanted sections of raw, which has z 0..{raw.shape[0]}, got"
            f" {sections[-1]}: count them from 0"
        )
    _, y, x = pages.origin
    return replace(spread_sections(pages, sections), origin=(raw.origin[0] + sections[0], y, x))


def _check_same_size(raw: Volume, labels: Volume) -> None:
    """Refuse labels of another resolution than raw, where both files tell."""
    sizes = raw.voxel_size_nm, labels.voxel_size_nm
    if None not in sizes and not np.allclose(*sizes, rtol=0.02):  # type: ignore[arg-type]  # neither is None
        raise UserError(
            f"{labels.path}: labels have voxels of {sizes[1]} nm, but raw has {sizes[0]}: resample the labels, or set"
            " voxel_size_nm if a file is wrong"
        )


def _check_covered(source: Source, role: Role) -> None:
    """Refuse a role that needs labels where there are none."""
    boxes, covered = source.boxes(role), source.labels_boxes
    if boxes and not covered and role != "test":
        raise UserError(f"volumes.{source.name}.{role}: wanted labels there, but volumes.{source.name}.labels is none")
    for box in boxes:
        if covered and not any(each.contains(box) for each in covered):
            shown = "; ".join(map(str, covered[:4])) + (f" and {len(covered) - 4} more" if len(covered) > 4 else "")
            raise UserError(
                f"volumes.{source.name}.{role}: {box} is not labelled throughout: labels cover {shown}."
                " Make the region smaller, or set labels_start or labels_sections"
            )


def _check_skeletons(source: Source) -> None:
    """Refuse skeletons that are not there, or that cannot be placed in raw."""
    if source.settings.skeletons is None:
        return
    swc_files(source.settings.skeletons)
    if source.raw.voxel_size_nm is None:
        raise UserError(
            f"volumes.{source.name}.skeletons: wanted the size of voxels beside them, got none: set voxel_size_nm"
        )


def parts(experiment: Experiment, sources: dict[str, Source]) -> list[Part]:
    """What is predicted and segmented: validation, test and target regions, or the whole where there is nothing else.

    The whole of every volume is a target where none has a test or target region.
    """
    whole = not any(volume.test or volume.target for volume in experiment.volumes.values())
    return [
        part
        for role in PARTS
        for source in sources.values()
        for part in _numbered(source, role, (source.raw.box,) if whole and role == "target" else source.boxes(role))
    ]


def labels_fingerprints(found: Iterable[Part], hash_up_to: float) -> dict[str, dict[str, Any] | None]:
    """The `Source.labels_fingerprint` of each volume that has a part, by its name."""
    sources = {part.source.name: part.source for part in found}
    return {name: source.labels_fingerprint(hash_up_to) for name, source in sources.items()}


def _numbered(source: Source, role: Role, boxes: Sequence[Box]) -> list[Part]:
    names = [f"{source.name}-{role}"] if len(boxes) == 1 else [f"{source.name}-{role}-{i}" for i in range(len(boxes))]
    return [Part(name, role, source, box) for name, box in zip(names, boxes, strict=True)]
