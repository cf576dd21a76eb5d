"""The experiment file: TOML in, frozen settings out; unknown keys are refused with the nearest known one."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails

from ssns.affinities import NEAREST, BorderStyle
from ssns.errors import UserError
from ssns.losses import BinaryCrossEntropy, Loss
from ssns.metrics import Convention
from ssns.networks import Network, ResidualUNetSettings
from ssns.perturb import Engine, default_augmentation
from ssns.prediction import PredictionSettings
from ssns.presets import Preset, merged, preset_table
from ssns.sampling import Beyond
from ssns.segmentation import DEFAULT_METHOD, Method, check_nearest, checked_value
from ssns.settings import Component
from ssns.space import Box, Triple, triple
from ssns.training import Objective, PretrainingSettings, SupervisedObjective, TrainingSettings, TransferSettings
from ssns.volume.normalization import Normalization, PercentileNormalization
from ssns.volume.sections import runs

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

    def boxes(self, bounds: Box, name: str = "region") -> tuple[Box, ...]:
        """The boxes of this region in a volume of ``bounds``; neighbouring sections are one box.

        Raises:
            UserError: The region, ``name``, reaches outside the volume.
        """
        spans = [self.z] if self.sections is None else list(runs(self.sections))
        found = []
        for span in spans:
            ranges = [
                given or (first, end)
                for given, first, end in zip((span, self.y, self.x), bounds.start, bounds.stop, strict=True)
            ]
            box = Box(triple(first for first, _ in ranges), triple(end for _, end in ranges))
            if not bounds.contains(box):
                raise UserError(f"{name}: {box} reaches outside raw, which has {bounds}: make the region smaller")
            found.append(box)
        return tuple(found)


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
    labels_sections: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="Section of raw that each page of the labels is of, as [3, 40, 77]; none: they follow each other.",
    )
    rgb_ids: bool = Field(False, description="Labels are RGB-coded ids, as VAST exports them.")
    background: int | None = Field(0, description="Id that is membrane or outside; none: every id is a neuron.")
    ignored: int | None = Field(None, description="Id of voxels whose label is unknown; none: there are none.")
    labelled: Regions = Field((), description='Where labels are learned from: "0:5" is sections 0 to 4.')
    unlabelled: Regions = Field((), description="Where raw is learned from without labels.")
    validation: Regions = Field((), description="Where checkpoints and thresholds are chosen.")
    test: Regions = Field((), description="Where the result is scored, and nothing is chosen.")
    target: Regions = Field(
        (), description="What else to segment; where no volume has a test or target region: the whole of each."
    )

    @field_validator("labels_sections")
    @classmethod
    def _ascending(cls, sections: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if sections is None:
            return None
        if sections[0] < 0 or any(b <= a for a, b in pairwise(sections)):
            raise UserError(
                f"labels_sections: wanted sections of raw, ascending, each once, got {list(sections)}: list them in the"
                " order of the pages"
            )
        start = info.data.get("labels_start")
        if start is not None and start[0] != 0:
            raise UserError(
                f"labels_sections: wanted labels_start = [0, {start[1]}, {start[2]}] beside it, since it tells where"
                f" labels begin along z, got {list(start)}: leave one of the two out"
            )
        return sections

    @field_validator("labelled", "unlabelled", "validation", "test", "target", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


class SegmentationSettings(Component):
    """How affinities become segments, and how the threshold is chosen."""

    method: Method = Field(DEFAULT_METHOD, description="The method.")
    thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        description="Swept on the validation regions, the best by VOI sum is taken; empty: the method's own.",
    )

    @field_validator("thresholds")
    @classmethod
    def _allowed_once(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        _check_once("thresholds", values)
        for value in values if "method" in info.data else ():
            checked_value(info.data["method"], value, "thresholds")
        return values


def _check_once(name: str, values: Sequence[Any]) -> None:
    """Refuse a list that says something twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise UserError(f"{name}: wanted each once, got {twice} again: leave it out")


VolumeName = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Letters, digits, - and _: it is part of names of folders and of settings."""


class Experiment(Component):
    """One experiment: what is learned from, how, and what is made of it."""

    name: str = Field("experiment", pattern=r"^\w[\w.-]*$", description="Names the run folder.")
    preset: Preset | None = Field(
        None, description="Settings to start from, those of the paper; the file's come on top."
    )
    seed: int = Field(0, ge=0, description="Of every draw.")
    runs: str = Field("runs", description="Folder of the run folders; beside this file if relative.")
    volumes: dict[VolumeName, VolumeSettings] = Field(min_length=1, description="The volumes, by name.")
    normalization: Normalization = Field(PercentileNormalization(), description="How raw becomes 0 to 1.")
    offsets: tuple[tuple[int, int, int], ...] = Field(
        NEAREST, min_length=1, description="Displacement z, y, x of each affinity channel, in voxels."
    )
    network: Network = Field(ResidualUNetSettings(), description="The network.")
    border: BorderStyle = Field(
        "symmetric", description="How labels are cleared at boundaries: none, symmetric, reference."
    )
    outside: Literal["masked", "replicate"] = Field(
        "masked", description="Edges that leave a patch: masked, or 1 where there is a label, as in the paper's code."
    )
    beyond: Beyond = Field(
        "raw", description="What patches see beyond labelled sections: raw, or these reflected, as in the paper's code."
    )
    augmentation: Engine = Field(default_factory=default_augmentation, description="Perturbations of labelled patches.")
    loss: Loss = Field(BinaryCrossEntropy(), description="The loss of labelled patches.")
    pretraining: PretrainingSettings | None = Field(
        None, description="What is learned from raw alone first, if anything."
    )
    transfer: TransferSettings = Field(TransferSettings(), description="What training takes over from pre-training.")
    objective: Objective = Field(SupervisedObjective(), description="What training minimises.")
    training: TrainingSettings = Field(TrainingSettings(), description="The training loop.")
    prediction: PredictionSettings = Field(PredictionSettings(), description="From raw to affinities.")
    segmentation: SegmentationSettings = Field(SegmentationSettings(), description="From affinities to segments.")
    scoring: Convention = Field(
        "skimage", description="What segment 0 counts as in scores: skimage, singletons, excluded or reference."
    )

    @field_validator("offsets")
    @classmethod
    def _edges(cls, offsets: tuple[Triple, ...]) -> tuple[Triple, ...]:
        _check_once("offsets", offsets)
        if (0, 0, 0) in offsets:
            raise UserError("offsets: wanted displacements, got (0, 0, 0), from a voxel to itself: leave it out")
        check_nearest(offsets)
        return offsets


def load_experiment(path: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file.

    Args:
        path: The TOML file. Relative paths in it, and in ``changes``, are relative to its folder.
        changes: Settings that replace those of the file, by dotted name: ``{"training.steps": 100}``.

    Raises:
        UserError: The file is missing or no TOML, or a setting is unknown or wrong; every mistake is listed.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"experiment: no file at {path}: `ssns init RAW --labels LABELS` writes one") from None
    except OSError as error:
        raise UserError(f"experiment: {path} cannot be read ({error.strerror}): name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"experiment: {path} is not TOML: {error}") from None
    for name, value in (changes or {}).items():
        _set(table, name.split("."), value)
    table = _with_preset(table, path)
    _resolve_paths(table, path.parent)
    _complete_types(table, Experiment)
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        listed = "\n".join(f"  {_explain(detail)}" for detail in error.errors())
        count = f"{error.error_count()} mistakes" if error.error_count() > 1 else "a mistake"
        raise UserError(f"experiment: {path} has {count}:\n{listed}") from None


def _with_preset(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's settings on top of those of the preset that it names."""
    name = table.get("preset", "none")
    if name == "none":
        return table
    if name not in get_args(Preset):
        near = difflib.get_close_matches(str(name), get_args(Preset), 1)
        hint = f"did you mean {near[0]!r}?" if near else _listed(get_args(Preset))
        raise UserError(f"experiment: {path} has a mistake:\n  preset: there is no {name!r}; {hint}")
    return merged(preset_table(name), table)


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
        _resolve(volume, ("raw", "labels"), folder)
    _resolve(table.get("transfer"), ("checkpoint",), folder)


def _resolve(table: Any, keys: Sequence[str], folder: Path) -> None:
    for key in keys:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key] != "none":
            table[key] = _resolved(table[key], folder)


def _resolved(path: str, folder: Path) -> str:
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise UserError(f"{path}: the environment variable {unset[1]} is not set: set it to the folder that is meant")
    return os.path.normpath((folder / Path(expanded).expanduser()).absolute())


def _complete_types(table: dict[str, Any], model: type[BaseModel]) -> None:
    """Give components without a ``type`` that of the default, so that changing one setting needs no other."""
    for name, value in table.items():
        field = model.model_fields.get(name)
        default = field.get_default(call_default_factory=True) if field else None
        if field is None or not isinstance(default, BaseModel) or not isinstance(value, dict):
            continue
        tag = type_tag(type(default))
        if tag is not None:
            value.setdefault("type", tag)
        members = component_types(field.annotation)
        _complete_types(value, next((each for each in members if type_tag(each) == value.get("type")), type(default)))


def _explain(detail: ErrorDetails) -> str:
    """One mistake as `where: what was wanted, what came`, with the nearest known word for an unknown one."""
    where, models = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        name = where.rpartition(".")[-1]
        known = sorted({field for model in models for field in model.model_fields})
        near = difflib.get_close_matches(name, known, 1)
        return f"{where}: there is no such setting; " + (f"did you mean {near[0]}?" if near else _listed(known))
    if detail["type"] == "missing":
        return f"{where}: is missing"
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        known = sorted(filter(None, map(type_tag, models)))
        got = detail["input"].get("type", "none") if isinstance(detail["input"], dict) else detail["input"]
        near = difflib.get_close_matches(str(got), known, 1)
        return f"{where}.type: there is no {got!r}; " + (f"did you mean {near[0]!r}?" if near else _listed(known))
    message = detail["msg"].removeprefix("Value error, ").removeprefix(f"{where.rpartition('.')[-1]}: ")
    return f"{where}: {message}" + ("" if " got " in message else f" (got {detail['input']!r})")


def _listed(known: Sequence[str]) -> str:
    return f"known here: {', '.join(known)}"


def _place(location: Sequence[str | int]) -> tuple[str, list[type[BaseModel]]]:
    """The dotted name of a place as a user writes it, and the models that may stand there.

    Of the place of an unknown setting, the models are those that do not know it.
    """
    names: list[str] = []
    found: list[Any] = [Experiment]
    for part in location:
        models = [model for annotation in found for model in component_types(annotation)]
        tagged = [model for model in models if type_tag(model) == part]
        if tagged:
            found = tagged
            continue
        names.append(str(part))
        inner = [each for annotation in found for each in _inner_annotations(annotation, part)]
        found = inner or models
    return ".".join(names), [model for annotation in found for model in component_types(annotation)]


def _inner_annotations(annotation: Any, key: str | int) -> list[Any]:
    """What an annotation admits under a key: a field of a model, an entry of a mapping or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        return [field.annotation] if field else []
    inner = get_args(annotation)
    if get_origin(annotation) is dict:
        return [inner[1]]
    if get_origin(annotation) is tuple:
        return [inner[0]]
    return [found for part in inner for found in _inner_annotations(part, key)]


def component_types(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that an annotation admits, through unions, tuples and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in component_types(part)]


def type_tag(model: type[BaseModel]) -> str | None:
    """The word that chooses a model in a union, if it is made for one."""
    return model.model_fields["type"].default if "type" in model.model_fields else None


def region_boxes(regions: Regions, bounds: Box, name: str = "region") -> tuple[Box, ...]:
    """The boxes of several regions, called ``name`` in errors, in a volume of ``bounds``."""
    return tuple(box for region in regions for box in region.boxes(bounds, name))


def check_roles(experiment: Experiment, bounds: Mapping[str, Box], files: Mapping[str, str]) -> list[str]:
    """Refuse roles that must not overlap; return warnings for those that should not.

    Volumes of one raw are looked at together.

    Args:
        experiment: The experiment.
        bounds: The box of each volume's raw, by name.
        files: The raw of each volume, by name: one spelling for one array.

    Raises:
        UserError: Any two of labelled, validation and test overlap.
    """
    parts = [
        (f"volumes.{name}.{role}", role, files[name], boxes)
        for name, volume in experiment.volumes.items()
        for role in ("labelled", "unlabelled", "validation", "test")
        if (boxes := region_boxes(getattr(volume, role), bounds[name], f"volumes.{name}.{role}"))
    ]
    warnings = []
    for (name, role, raw, boxes), (other_name, other, other_raw, others) in combinations(parts, 2):
        common = _overlap(boxes, others) if raw == other_raw and role != other else None
        if common is None:
            continue
        if "unlabelled" not in (role, other):
            raise UserError(f"{other_name} overlaps {name} at {common}: such scores say nothing; move one of them")
        if "test" in (role, other):
            warnings.append(f"{other_name} overlaps {name} at {common}: the scores will be transductive")
    return warnings


def _overlap(first: Sequence[Box], second: Sequence[Box]) -> Box | None:
    """The first overlap of two lists of boxes, if any."""
    return next((a.intersection(b) for a in first for b in second if a.overlaps(b)), None)
