"""The settings of an experiment: frozen models, with what can be checked before a file is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ssns.affinities import NEAREST, BorderStyle
from ssns.errors import UserError
from ssns.losses import BinaryCrossEntropy, Loss, Malis
from ssns.metrics import Convention
from ssns.networks import Network, ResidualUNetSettings
from ssns.perturb import Engine, default_augmentation
from ssns.prediction import PredictionSettings
from ssns.presets import Preset
from ssns.sampling import Beyond
from ssns.segmentation import (
    CANDIDATES,
    DEFAULT_METHOD,
    PRESETS,
    Method,
    check_nearest,
    check_offsets,
    checked_value,
    is_unlearned,
    value_of,
    with_value,
)
from ssns.settings import Component
from ssns.space import Box, Triple, triple
from ssns.training import Objective, PretrainingSettings, SupervisedObjective, TrainingSettings, TransferSettings
from ssns.volume.normalization import Normalization, PercentileNormalization
from ssns.volume.sections import runs

LEEWAY = 0.1
"""How far the value of a swept setting that is best may lie from that of another volume (docs/results.md)."""

Role = Literal["labelled", "unlabelled", "validation", "test", "target"]


class Region(Component):
    """Part of a volume, in voxels of its raw: a range per axis, or single sections; as text, sections ``"5:10"``."""

    z: tuple[int, int] | None = Field(None, description="First section and one past the last; none: all.")
    y: tuple[int, int] | None = Field(None, description="First row and one past the last; none: all.")
    x: tuple[int, int] | None = Field(None, description="First column and one past the last; none: all.")
    sections: tuple[int, ...] | None = Field(
        None, min_length=1, description="Scattered sections, as [3, 40, 77], in place of z."
    )

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


VOLUME_FILES = ("raw", "labels", "skeletons", "affinities")
"""Settings of a volume that are paths."""


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
    skeletons: str | None = Field(
        None,
        description="SWC file of traced neurons, in nm, or folder of them, to score run lengths by; none: the labels'.",
    )
    affinities: str | None = Field(
        None, description="Affinities (c, z, y, x) of yours, of another tool say, in place of predicted ones."
    )
    affinities_start: tuple[int, int, int] | None = Field(
        None, description="Voxel of raw at which these affinities begin; none: as the files say, else 0, 0, 0."
    )
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

    @field_validator("background")
    @classmethod
    def _an_id(cls, background: int | None) -> int | None:
        if background is not None and background < 0:
            raise UserError(
                f'background: wanted an id of at least 0, got {background}: "none" if there is no background'
            )
        return background

    @field_validator("labelled", "unlabelled", "validation", "test", "target", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Mapping) else value


class SegmentationSettings(Component):
    """How affinities become segments, and what of it is chosen on the validation regions."""

    method: Method = Field(
        DEFAULT_METHOD,
        description=f"The method: its name ({', '.join(PRESETS)}) or its settings; those without a type change the"
        " default method, those with one have the defaults that are listed here.",
    )
    sweep: bool = Field(
        False,
        description="Compare candidates too on the validation regions, and take the best by VOI sum; --sweep says so.",
    )
    candidates: tuple[Method, ...] = Field(
        (),
        description="Methods, by name or settings, that a sweep compares beside it; empty: those that ssns knows.",
    )
    thresholds: tuple[float, ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        description="Swept on the validation regions: that of the lowest VOI sum, averaged over those within"
        f" {LEEWAY:g}, is taken; empty: the method's own.",
    )

    @field_validator("method")
    @classmethod
    def _segments(cls, method: Method) -> Method:
        if is_unlearned(method):
            raise UserError(
                "affinity: wanted weights, which ssns.segmentation.learn_affinity gives, got none: give them, or list"
                " the method in segmentation.candidates, where a sweep learns them on the validation sections"
            )
        return method

    @field_validator("thresholds")
    @classmethod
    def _allowed_once(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        _check_once("thresholds", values)
        if {"method", "sweep", "candidates"} <= info.data.keys():
            for method in _compared(**info.data):
                for value in values:
                    checked_value(method, value, "thresholds")
        return values

    @property
    def compared(self) -> tuple[Method, ...]:
        """What is compared on the validation regions, each with its own threshold."""
        return _compared(self.method, self.sweep, self.candidates)

    def swept(self, *methods: Method) -> tuple[Method, ...]:
        """Methods with each threshold, or with their own where none is listed; each once."""
        every = (with_value(each, value) for each in methods for value in self.thresholds or (value_of(each),))
        return tuple(dict.fromkeys(every))


def _compared(method: Method, sweep: bool, candidates: tuple[Method, ...]) -> tuple[Method, ...]:
    return (method, *(candidates or CANDIDATES)) if sweep else (method,)


def _check_once(name: str, values: Sequence[Any]) -> None:
    """Refuse a list that says something twice."""
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise UserError(f"{name}: wanted each once, got {twice} again: leave it out")


def _check_displacements(name: str, offsets: Sequence[Triple]) -> None:
    _check_once(name, offsets)
    if (0, 0, 0) in offsets:
        raise UserError(f"{name}: wanted displacements, got (0, 0, 0), from a voxel to itself: leave it out")


VolumeName = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Letters, digits, - and _: it is part of names of folders and of settings."""


class Experiment(Component):
    """One experiment: what is learned from, how, and what is made of it."""

    name: str = Field("experiment", pattern=r"^\w[\w.-]*$", description="Names the run folder.")
    base: str | None = Field(
        None,
        description="Another experiment file, whose settings hold where this one has none;"
        ' volumes.NAME = "none" leaves out a volume of it.',
    )
    preset: Preset | None = Field(
        None, description="The paper's settings, on top of those of base; the file's own come on top."
    )
    seed: int = Field(0, ge=0, description="Of every draw.")
    runs: str = Field("runs", description="Folder of the run folders; beside this file if relative.")
    volumes: dict[VolumeName, VolumeSettings] = Field(min_length=1, description="The volumes, by name.")
    normalization: Normalization = Field(PercentileNormalization(), description="How raw becomes 0 to 1.")
    offsets: tuple[tuple[int, int, int], ...] = Field(
        NEAREST, min_length=1, description="Displacement z, y, x of each affinity channel, in voxels."
    )
    auxiliary_offsets: tuple[tuple[int, int, int], ...] = Field(
        (),
        description="Affinities that the network learns beside, as they teach it shape; they are not predicted.",
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

    @field_validator("augmentation")
    @classmethod
    def _without_partner(cls, engine: Engine) -> Engine:
        if engine.needs_partner:
            raise UserError(
                "augmentation: wanted perturbations of one patch, got mix_up: labelled patches have no partner;"
                " leave it out, or use it in objective.strong"
            )
        return engine

    @property
    def learned_offsets(self) -> tuple[Triple, ...]:
        """Displacement of each output channel of the network in training."""
        return self.offsets + self.auxiliary_offsets

    @field_validator("offsets")
    @classmethod
    def _edges(cls, offsets: tuple[Triple, ...]) -> tuple[Triple, ...]:
        _check_displacements("offsets", offsets)
        check_nearest(offsets)
        return offsets

    @field_validator("auxiliary_offsets")
    @classmethod
    def _further(cls, offsets: tuple[Triple, ...], info: ValidationInfo) -> tuple[Triple, ...]:
        _check_displacements("auxiliary_offsets", info.data.get("offsets", ()) + offsets)
        return offsets

    @field_validator("loss")
    @classmethod
    def _of_nearest_voxels(cls, loss: Loss, info: ValidationInfo) -> Loss:
        learned = info.data.get("offsets", NEAREST) + info.data.get("auxiliary_offsets", ())
        if isinstance(loss, Malis) and learned != NEAREST:
            raise UserError(
                f"loss: malis wanted offsets = {list(map(list, NEAREST))}, all edges of neighbours and no others, got"
                f" {list(map(list, learned))}: take these, or another loss"
            )
        return loss

    @field_validator("segmentation")
    @classmethod
    def _of_these_offsets(cls, segmentation: SegmentationSettings, info: ValidationInfo) -> SegmentationSettings:
        if "offsets" in info.data:
            for method in segmentation.compared:
                check_offsets(method, info.data["offsets"])
        return segmentation
