"""The experiment file: TOML in, frozen settings out; unknown keys are refused with the nearest known one."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from ssns.affinities import NEAREST, BorderStyle
from ssns.errors import UserError
from ssns.losses import BinaryCrossEntropy, Loss
from ssns.metrics import ScoringSettings
from ssns.networks import Network, ResidualUNetSettings
from ssns.perturb import Engine, default_augmentation
from ssns.prediction import PredictionSettings
from ssns.segmentation import Method, Waterz
from ssns.settings import Component
from ssns.space import Box, Triple, triple
from ssns.training import TrainingSettings
from ssns.volume.normalization import Normalization, PercentileNormalization

Role = Literal["labelled", "unlabelled", "validation", "test", "target"]


class Region(Component):
    """Part of a volume, in voxels of its raw: a range per axis, or single sections; as text, sections ``"5:10"``."""

    z: tuple[int, int] | None = Field(None, description="First section and one past the last; none: all.")
    y: tuple[int, int] | None = Field(None, description="First row and one past the last; none: all.")
    x: tuple[int, int] | None = Field(None, description="First column and one past the last; none: all.")
    sections: tuple[int, ...] | None = Field(None, description="Scattered sections, as [3, 40, 77], in place of z.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        first, colon, end = value.partition(":")
        if not (colon and first.isdigit() and end.isdigit()):
            raise ValueError('wanted sections as "5:10" (5 to 9), or a table as { z = [5, 10], y = [0, 512] }')
        return {"z": (int(first), int(end))}

    @model_validator(mode="after")
    def _consistent(self) -> Region:
        if self.z is not None and self.sections is not None:
            raise ValueError("z and sections say the same thing twice: give one of them")
        for axis in ("z", "y", "x"):
            span = getattr(self, axis)
            if span is not None and not 0 <= span[0] < span[1]:
                raise ValueError(f"{axis}: wanted [first, one past the last] with 0 <= first < last, got {list(span)}")
        return self

    def boxes(self, bounds: Box) -> tuple[Box, ...]:
        """The boxes of this region in a volume of ``bounds``; neighbouring sections are one box.

        Raises:
            UserError: The region reaches outside the volume.
        """
        spans = [self.z] if self.sections is None else list(_runs(self.sections))
        found = []
        for span in spans:
            ranges = [
                given or (first, end)
                for given, first, end in zip((span, self.y, self.x), bounds.start, bounds.stop, strict=True)
            ]
            box = Box(triple(first for first, _ in ranges), triple(end for _, end in ranges))
            if not bounds.contains(box):
                raise UserError(f"region: {box} reaches outside the volume, which has {bounds}")
            found.append(box)
        return tuple(found)


def _runs(sections: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive numbers."""
    start = previous = None
    for section in sorted(set(sections)):
        if start is None or previous is None:
            start = section
        elif section != previous + 1:
            yield start, previous + 1
            start = section
        previous = section
    if start is not None and previous is not None:
        yield start, previous + 1


Regions = tuple[Region, ...]


class VolumeSettings(Component):
    """One volume: its files, and which part plays which role."""

    raw: str = Field(description="Path of the image; beside this file if relative. HDF5: file.h5:dataset.")
    labels: str | None = Field(None, description="Path of the neuron ids, if there are any.")
    voxel_size_nm: tuple[float, float, float] | None = Field(
        None, description="Voxel size z, y, x in nm; none: as the file says."
    )
    labels_start: tuple[int, int, int] | None = Field(
        None, description="Voxel of raw at which the labels begin; none: as the files say, else 0, 0, 0."
    )
    rgb_ids: bool = Field(False, description="Labels are RGB-coded ids, as VAST exports them.")
    background: int | None = Field(0, description="Id that is membrane or outside; none: every id is a neuron.")
    ignored: int | None = Field(None, description="Id of voxels whose label is unknown; none: there are none.")
    labelled: Regions = Field((), description='Where labels are learned from: "0:5" is sections 0 to 4.')
    unlabelled: Regions = Field((), description="Where raw is learned from without labels.")
    validation: Regions = Field((), description="Where checkpoints and thresholds are chosen.")
    test: Regions = Field((), description="Where the result is scored, and nothing is chosen.")
    target: Regions = Field((), description="What to segment; empty: the test regions, else the whole volume.")

    @field_validator("labelled", "unlabelled", "validation", "test", "target", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


class SegmentationSettings(Component):
    """How affinities become segments, and how the threshold is chosen."""

    method: Method = Field(Waterz(), description="The method.")
    thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        description="Swept on the validation regions, the best by VOI sum is taken; empty: the method's own.",
    )


class Experiment(Component):
    """One experiment: what is learned from, how, and what is made of it."""

    name: str = Field("experiment", pattern=r"^[\w.-]+$", description="Names the run folder.")
    seed: int = Field(0, ge=0, description="Of every draw.")
    runs: str = Field("runs", description="Folder of the run folders; beside this file if relative.")
    volumes: dict[str, VolumeSettings] = Field(min_length=1, description="The volumes, by name.")
    normalization: Normalization = Field(PercentileNormalization(), description="How raw becomes 0 to 1.")
    offsets: tuple[tuple[int, int, int], ...] = Field(
        NEAREST, min_length=1, description="Displacement z, y, x of each affinity channel, in voxels."
    )
    network: Network = Field(ResidualUNetSettings(), description="The network.")
    border: BorderStyle = Field(
        "symmetric", description="How labels are cleared at boundaries: none, symmetric, reference."
    )
    augmentation: Engine = Field(default_factory=default_augmentation, description="Perturbations of labelled patches.")
    loss: Loss = Field(BinaryCrossEntropy(), description="The loss of labelled patches.")
    training: TrainingSettings = Field(TrainingSettings(), description="The training loop.")
    prediction: PredictionSettings = Field(PredictionSettings(), description="From raw to affinities.")
    segmentation: SegmentationSettings = Field(SegmentationSettings(), description="From affinities to segments.")
    scoring: ScoringSettings = Field(ScoringSettings(), description="How segmentations are judged.")

    def targets(self) -> dict[str, tuple[Role, Regions]]:
        """What is segmented, by volume: its target, else its test regions; the whole of each if there is neither."""
        given = any(volume.target or volume.test for volume in self.volumes.values())
        found: dict[str, tuple[Role, Regions]] = {}
        for name, volume in self.volumes.items():
            if volume.target or not given:
                found[name] = "target", volume.target or (Region(),)
            elif volume.test:
                found[name] = "test", volume.test
        return found


def load_experiment(path: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file.

    Args:
        path: The TOML file. Relative paths in it are relative to its folder.
        changes: Settings that replace those of the file, by dotted name: ``{"training.steps": 100}``.

    Raises:
        UserError: The file is missing or no TOML, or a setting is unknown or wrong; every mistake is listed.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"experiment: no file at {path}: `ssns init RAW --labels LABELS` writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"experiment: {path} is not TOML: {error}") from None
    for name, value in (changes or {}).items():
        _set(table, name.split("."), value)
    _resolve_paths(table, path.parent)
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        listed = "\n".join(f"  {_explain(detail)}" for detail in error.errors())
        raise UserError(f"experiment: {path} has {error.error_count()} mistakes:\n{listed}") from None


def _set(table: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"--{'.'.join(names)}: {name} is a value, it has no settings of its own")
    table[names[-1]] = value


def _resolve_paths(table: dict[str, Any], folder: Path) -> None:
    """Make the paths of raw, labels and runs absolute, as seen from the file's folder; $NAME is of the environment."""
    table["runs"] = _resolved(str(table.get("runs", "runs")), folder)
    volumes = table.get("volumes")
    for volume in volumes.values() if isinstance(volumes, dict) else ():
        for key in ("raw", "labels"):
            if isinstance(volume, dict) and isinstance(volume.get(key), str) and volume[key] != "none":
                volume[key] = _resolved(volume[key], folder)


def _resolved(path: str, folder: Path) -> str:
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise UserError(f"{path}: the environment variable {unset[1]} is not set: set it to the folder that is meant")
    return os.path.normpath((folder / Path(expanded).expanduser()).absolute())


def _explain(detail: ErrorDetails) -> str:
    """One mistake as `where: what was wanted, what came`, with the nearest known key for an unknown one."""
    place = [str(part) for part in detail["loc"]]
    where = ".".join(place)
    if detail["type"] == "extra_forbidden":
        known = _known_settings(place[:-1])
        near = difflib.get_close_matches(place[-1], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: there is no such setting; {hint}"
    if detail["type"] == "missing":
        return f"{where}: is missing"
    return f"{where}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r})"


def _known_settings(place: Sequence[str]) -> list[str]:
    """The settings at a place of the experiment, as pydantic names it (with the tag of a union's member)."""
    models: list[type[BaseModel]] = [Experiment]
    for part in place:
        inner = [field for model in models for name, field in model.model_fields.items() if name == part]
        if inner:
            models = [model for field in inner for model in component_types(field.annotation)]
        else:
            tagged = [m for m in models if "type" in m.model_fields and m.model_fields["type"].default == part]
            models = tagged or models
    return sorted({name for model in models for name in model.model_fields})


def component_types(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that an annotation admits, through unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in component_types(part)]


def region_boxes(regions: Regions, bounds: Box) -> tuple[Box, ...]:
    """The boxes of several regions in a volume of ``bounds``."""
    return tuple(box for region in regions for box in region.boxes(bounds))


def check_roles(experiment: Experiment, bounds: Mapping[str, Box]) -> list[str]:
    """Refuse roles that must not overlap; return warnings for those that should not.

    Volumes that name the same raw file are looked at together.

    Args:
        experiment: The experiment.
        bounds: The box of each volume's raw, by name.

    Raises:
        UserError: Any two of labelled, validation and test overlap.
    """
    parts = [
        (name, role, volume.raw, region_boxes(getattr(volume, role), bounds[name]))
        for name, volume in experiment.volumes.items()
        for role in ("labelled", "unlabelled", "validation", "test")
    ]
    warnings = []
    for (name, role, raw, boxes), (_, other, other_raw, others) in combinations(parts, 2):
        common = _overlap(boxes, others) if raw == other_raw and role != other else None
        if common is None:
            continue
        if "unlabelled" not in (role, other):
            raise UserError(f"volumes.{name}: {other} overlaps {role} at {common}: such scores say nothing; move one")
        if "test" in (role, other):
            warnings.append(f"volumes.{name}: unlabelled overlaps test at {common}: the scores will be transductive")
    return warnings


def _overlap(first: Sequence[Box], second: Sequence[Box]) -> Box | None:
    """The first overlap of two lists of boxes, if any."""
    return next((a.intersection(b) for a in first for b in second if a.overlaps(b)), None)


def labels_start(volume: VolumeSettings, raw_origin: Triple, labels_origin: Triple) -> Triple:
    """The voxel of raw at which labels begin."""
    if volume.labels_start is not None:
        return volume.labels_start
    return triple(b - a for a, b in zip(raw_origin, labels_origin, strict=True))
