"""What `ssns teach` leaves in the run folder, for `train`: pseudo-labels of unlabelled regions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part, Source, parts
from ssns.commands.learning import learned_settings
from ssns.commands.predict import HARDWARE
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp, file_state
from ssns.errors import UserError
from ssns.experiment import Experiment, Region, SegmentationSettings
from ssns.sampling import LabelledVolume
from ssns.segmentation import DEFAULT_METHOD
from ssns.space import Box, Triple, cover, triple
from ssns.training import PseudoLabelObjective, SupervisedObjective, TransferSettings
from ssns.volume import open_volume
from ssns.volume.normalization import IntensityRange

BOX: Triple = (32, 512, 512)
"""Largest extent (z, y, x) of the boxes that are taken of regions too large to be segmented whole."""


def taught_objective(experiment: Experiment) -> PseudoLabelObjective:
    """The objective of an experiment that learns from pseudo-labels.

    Raises:
        UserError: It has another one.
    """
    if isinstance(experiment.objective, PseudoLabelObjective):
        return experiment.objective
    raise UserError(
        f"objective.type: wanted pseudo_labels, got {experiment.objective.type}, which needs no segmentation of"
        ' unlabelled regions: set objective = { type = "pseudo_labels" }, or leave `ssns teach` out'
    )


def teachers_experiment(experiment: Experiment, sources: Mapping[str, Source]) -> Experiment:
    """The experiment of the first network, in a folder of the run folder: its targets are the unlabelled regions.

    Raises:
        UserError: There are labels for all of them.
    """
    objective, folder = taught_objective(experiment), RunFolder.of(experiment)
    regions = {name: boxes for name, source in sources.items() if (boxes := source.boxes("unlabelled"))}
    total = sum(box.size for boxes in regions.values() for box in boxes)
    draws = np.random.default_rng(experiment.seed)
    volumes = {}
    for name, volume in experiment.volumes.items():
        boxes, known = regions.get(name, ()), _known(sources, name) if name in regions else []
        taken = [part for box in boxes for part in _some(box, objective.voxels / total, draws, known)]
        target = tuple(Region(z=_span(box, 0), y=_span(box, 1), x=_span(box, 2)) for box in taken)
        volumes[name] = volume.model_copy(update={"unlabelled": (), "test": (), "target": target, "affinities": None})
    if not any(volume.target for volume in volumes.values()):
        raise UserError(
            "volumes: wanted unlabelled regions that reach beyond the labelled ones, got none: name more of raw as"
            ' volumes.NAME.unlabelled, or set objective = { type = "supervised" }'
        )
    begins = experiment.pretraining is not None or experiment.transfer.checkpoint is not None
    return experiment.model_copy(
        update={
            "name": folder.teaching.name,
            "runs": str(folder.path),
            "volumes": volumes,
            "pretraining": None,
            "transfer": experiment.transfer if begins else TransferSettings(),
            "objective": SupervisedObjective(),
            "training": experiment.training.model_copy(
                update={"steps": objective.teacher_steps or experiment.training.steps}
            ),
            "segmentation": SegmentationSettings(method=DEFAULT_METHOD),
        }
    )


def teachers_parts(teacher: Experiment, sources: Mapping[str, Source]) -> list[Part]:
    """The parts that the first network predicts: those of validation, and its targets."""
    own = {name: replace(source, settings=teacher.volumes[name]) for name, source in sources.items()}
    return parts(teacher, own)


def taught_parts(teacher: Experiment, sources: Mapping[str, Source]) -> list[Part]:
    """Of these parts, the boxes that it segments."""
    return [part for part in teachers_parts(teacher, sources) if part.role == "target"]


def taught_files(experiment: Experiment, taught: Sequence[Part]) -> list[Path]:
    """All that `ssns teach` makes and `ssns train` needs, ``taught`` being the boxes that are segmented."""
    folder = RunFolder.of(experiment)
    return [folder.best_teacher, folder.certainty, *(folder.pseudo_labels(part.name) for part in taught)]


def taught_stamp(
    experiment: Experiment,
    teacher: Experiment,
    sources: Mapping[str, Source],
    start: Path | None,
    *,
    verify: bool = False,
) -> Stamp:
    """What pseudo-labels are made of, ``start`` being the checkpoint that the first network takes weights over from."""
    margin = taught_objective(experiment).margin

    def describe(hash_up_to: float) -> dict[str, Any]:
        settings = teacher.model_dump(
            mode="json",
            exclude={"name": True, "runs": True, "base": True, "preset": True, "volumes": True}
            | {"prediction": HARDWARE},
        )
        settings["training"] = learned_settings(settings["training"])
        steps = settings["training"].pop("steps")
        volumes = {
            name: teacher.volumes[name].model_dump(mode="json", include={"labelled", "validation", "target"})
            | source.fingerprint(hash_up_to)
            for name, source in sources.items()
        }
        return {
            "settings": settings,
            "objective": {"teacher_steps": steps, "margin": margin},
            "volumes": volumes,
            "start": None if start is None else file_state(start),
        }

    return Stamp(RunFolder.of(experiment).teaching / "taught.stamp.json", describe, verify)


def taught_volumes(
    experiment: Experiment, sources: Mapping[str, Source], ranges: Mapping[str, IntensityRange]
) -> tuple[list[LabelledVolume], NDArray[np.uint32], NDArray[np.uint32]]:
    """Raw with cautious pseudo-labels where there are no labels; the bold segment of each; and pairs that are apart.

    Args:
        experiment: The experiment.
        sources: All that have a role in training, as what is held out is no more taught than what is labelled.
        ranges: Intensity range of each volume.
    """
    folder = RunFolder.of(experiment)
    volumes = [
        LabelledVolume(
            raw=sources[part.source.name].raw,
            labels=open_volume(folder.pseudo_labels(part.name)),
            labels_start=part.box.start,
            boxes=_unknown(part.box, _known(sources, part.source.name)),
            intensity=ranges[part.source.name],
            unless=tuple(
                source.labelled("labelled", ranges[source.name])
                for source in _of_same_raw(sources, part.source.name)
                if source.settings.ignored is not None and source.settings.labelled
            ),
        )
        for part in taught_parts(teachers_experiment(experiment, sources), sources)
    ]
    with np.load(folder.certainty) as certainty:
        return volumes, certainty["bold"], certainty["apart"]


def _known(sources: Mapping[str, Source], name: str) -> list[Box]:
    """What of the raw of a volume is held out, or labelled throughout."""
    known: list[Box] = []
    for source in _of_same_raw(sources, name):
        known += source.boxes("validation")
        known += source.boxes("labelled") if source.settings.ignored is None else ()
    return known


def _unknown(box: Box, known: Sequence[Box]) -> tuple[Box, ...]:
    """What of a box is not known."""
    boxes = [box]
    for each in known:
        boxes = [rest for box in boxes for rest in box.without(each)]
    return tuple(boxes)


def _of_same_raw(sources: Mapping[str, Source], name: str) -> list[Source]:
    """A volume, and others that are of the same raw: one may have its labels, another what is held out."""
    return [source for source in sources.values() if source.raw_array == sources[name].raw_array]


def _some(box: Box, share: float, draws: np.random.Generator, known: Sequence[Box]) -> Iterator[Box]:
    """The box, or where a share of it is wanted boxes drawn from it; those of which something is unknown."""
    if share >= 1:
        yield from (box,) if _unknown(box, known) else ()
        return
    cells = cover(box, triple(math.ceil(n / math.ceil(n / most)) for n, most in zip(box.shape, BOX, strict=True)))
    count, cells = max(1, round(share * len(cells))), [cell for cell in cells if _unknown(cell, known)]
    chosen = draws.choice(len(cells), min(count, len(cells)), replace=False) if cells else ()
    yield from (cells[number] for number in sorted(chosen))


def _span(box: Box, axis: int) -> tuple[int, int]:
    return box.start[axis], box.stop[axis]
