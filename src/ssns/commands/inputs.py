"""The volumes of an experiment, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ssns.commands.terminal import warn
from ssns.errors import UserError
from ssns.experiment import Experiment, Regions, Role, VolumeSettings, check_roles, region_boxes
from ssns.sampling import LabelledVolume
from ssns.space import Box, Triple, triple
from ssns.volume import Volume, check_labels, check_raw, fingerprint, open_volume
from ssns.volume.normalization import IntensityRange


@dataclass(frozen=True)
class Source:
    """One volume of an experiment, opened.

    Attributes:
        name: In the experiment.
        settings: As the experiment says.
        raw: The image.
        labels: The ids, if any.
        labels_start: The voxel of raw at which the labels begin.
    """

    name: str
    settings: VolumeSettings
    raw: Volume
    labels: Volume | None
    labels_start: Triple

    @property
    def labels_box(self) -> Box | None:
        """Where raw has labels, in voxels of raw."""
        return None if self.labels is None else Box.of_shape(self.labels.shape, self.labels_start)

    def boxes(self, role: Role) -> tuple[Box, ...]:
        """The boxes of a role, in voxels of raw."""
        return region_boxes(getattr(self.settings, role), self.raw.box)

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


@dataclass(frozen=True)
class Part:
    """One box to predict and segment.

    Attributes:
        name: Of its folder: volume, role, and a number where a role has several boxes.
        role: validation, test or target.
        source: Its volume.
        box: In voxels of raw.
    """

    name: str
    role: Role
    source: Source
    box: Box


def open_sources(experiment: Experiment) -> dict[str, Source]:
    """Open every volume, and refuse what cannot work before any work begins.

    Raises:
        UserError: A file cannot be read, labels do not fit raw, or roles overlap.
    """
    sources = {name: open_source(name, settings) for name, settings in experiment.volumes.items()}
    for warning in check_roles(experiment, {name: source.raw.box for name, source in sources.items()}):
        warn(warning)
    for source in sources.values():
        for role in ("labelled", "validation", "test"):
            _check_covered(source, role)
    return sources


def open_source(name: str, settings: VolumeSettings) -> Source:
    """Open one volume, with its labels placed in raw."""
    raw = open_volume(settings.raw, voxel_size_nm=settings.voxel_size_nm)
    check_raw(raw)
    if settings.labels is None:
        return Source(name, settings, raw, None, (0, 0, 0))
    labels = open_volume(settings.labels, role="labels", voxel_size_nm=settings.voxel_size_nm, rgb_ids=settings.rgb_ids)
    if settings.labels_start is not None:
        origin = triple(a + b for a, b in zip(raw.origin, settings.labels_start, strict=True))
        labels = replace(labels, origin=origin)
    labels = check_labels(labels, raw)
    start = triple(b - a for a, b in zip(raw.origin, labels.origin, strict=True))
    return Source(name, settings, raw, labels, start)


def _check_covered(source: Source, role: Role) -> None:
    """Refuse a role that needs labels where there are none."""
    boxes = source.boxes(role)
    if boxes and source.labels_box is None and role != "test":
        raise UserError(f"volumes.{source.name}.{role}: wanted labels there, but labels names no file")
    for box in boxes:
        if source.labels_box is not None and not source.labels_box.contains(box):
            raise UserError(
                f"volumes.{source.name}.{role}: {box} is not labelled throughout: labels cover {source.labels_box}."
                " Make the region smaller, or set labels_start"
            )


def parts(experiment: Experiment, sources: dict[str, Source]) -> list[Part]:
    """What is predicted and segmented: the validation regions, then the targets."""
    found = []
    for source in sources.values():
        found += _numbered(source, "validation", source.settings.validation)
    for name, (role, regions) in experiment.targets().items():
        found += _numbered(sources[name], role, regions)
    return found


def _numbered(source: Source, role: Role, regions: Regions) -> list[Part]:
    boxes = region_boxes(regions, source.raw.box)
    names = [f"{source.name}-{role}"] if len(boxes) == 1 else [f"{source.name}-{role}-{i}" for i in range(len(boxes))]
    return [Part(name, role, source, box) for name, box in zip(names, boxes, strict=True)]


def fingerprints(sources: dict[str, Source], *, verify: bool) -> dict[str, Any]:
    """What `run` compares to know whether a file has changed."""
    found: dict[str, Any] = {}
    for name, source in sources.items():
        found[name] = {"raw": fingerprint(source.raw.path, verify=verify)}
        if source.labels is not None:
            found[name]["labels"] = fingerprint(source.labels.path, verify=verify)
    return found
