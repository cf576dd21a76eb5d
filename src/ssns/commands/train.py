"""`ssns train`: labelled patches in, the best checkpoint by VOI of a real segmentation out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Part, Source, open_sources, parts
from ssns.commands.run_folder import RunFolder, Stamp, is_first_process, keep_experiment, shown
from ssns.commands.scoring import swept_scores, truths, weighted_means
from ssns.commands.segment import check_memory
from ssns.commands.terminal import progress_bar, say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.metrics import WORST
from ssns.volume.normalization import IntensityRange

if TYPE_CHECKING:
    from torch import nn

    from ssns.networks import AffinityNetwork

LOOP_ONLY = {
    "log_every", "save_every", "preview_every", "validate_every", "validation_share", "device", "threads",
}  # fmt: skip
"""Settings of training that a training under way may go on without, or with others."""


def train_experiment(experiment: Experiment, *, verify: bool = False) -> Path:
    """Train, or go on, or say that it is done; returns the path of the best checkpoint.

    The stamp is written before the first step: it says whether checkpoints of a killed training may be gone on from.
    """
    folder = RunFolder.of(experiment)
    learned, watched = _sources(experiment)
    check_memory([part for part in parts(experiment, watched) if part.role == "validation"])
    if not is_first_process():
        _fit(experiment, folder, learned, watched)
        raise SystemExit(0)  # the first one keeps the books, and goes on alone
    stamp = _stamp(experiment, folder, learned | watched, verify=verify)
    done = folder.training / "done"
    changes = stamp.differences()
    if changes == [] and verify:
        stamp.write()  # what was compared: the hashes, and the present times of files
    if changes == [] and done.exists():
        if folder.best.is_file():
            say(f"train: skipped, {folder.best} is up to date")
            return folder.best
        changes = [folder.best.name]
    if changes != []:
        if folder.training.exists():
            _set_aside(folder.training, changes)
        stamp.write()
    keep_experiment(experiment, folder, "train")
    _fit(experiment, folder, learned, watched)
    done.touch()
    return folder.best


def _sources(experiment: Experiment) -> tuple[dict[str, Source], dict[str, Source]]:
    """The volumes that are learned from, and those that are validated on."""
    sources = open_sources(experiment)
    learned = {name: source for name, source in sources.items() if source.settings.labelled}
    if not learned:
        raise UserError(
            "volumes: wanted a volume with labelled regions to train on, got none: set volumes.NAME.labels and"
            " labelled; or predict with weights that you have: --checkpoint FILE"
        )
    return learned, {name: source for name, source in sources.items() if source.settings.validation}


def _stamp(experiment: Experiment, folder: RunFolder, used: dict[str, Source], *, verify: bool) -> Stamp:
    """What the weights depend on."""
    settings = experiment.model_dump(
        mode="json", exclude={"name", "runs", "prediction", "segmentation", "scoring", "volumes"}
    )
    settings["training"] = {key: value for key, value in settings["training"].items() if key not in LOOP_ONLY}

    def describe(hash_up_to: float) -> dict[str, Any]:
        volumes = {
            name: source.settings.model_dump(mode="json", include={"labelled", "validation"})
            | source.fingerprint(hash_up_to)
            for name, source in used.items()
        }
        return {"settings": settings, "volumes": volumes}

    return Stamp(folder.training / "stamp.json", describe, verify)


def _set_aside(training: Path, changes: list[str] | None) -> None:
    """Keep a training of other settings, or of unknown ones, under another name."""
    number = 1
    while (aside := training.with_name(f"{training.name}-{number}")).exists():
        number += 1
    training.rename(aside)
    what = "there is no record of its settings" if changes is None else f"{shown(changes)} changed"
    say(f"train: {what} since the last training, which is kept in {aside}")


def _fit(experiment: Experiment, folder: RunFolder, learned: dict[str, Source], watched: dict[str, Source]) -> None:
    """Put the objective and its validation together, and train."""
    import torch

    from ssns.checkpoint import Checkpoint
    from ssns.report import training_picture
    from ssns.sampling import LabelledPatches
    from ssns.training.loop import make_fabric, train
    from ssns.training.supervised import Supervised

    keep_freed_memory()
    settings = experiment.training
    ranges = {name: experiment.normalization.measure(source.raw) for name, source in (learned | watched).items()}
    volumes = [source.labelled("labelled", ranges[name]) for name, source in learned.items()]
    _warn_of_unsupervised_channels(experiment, learned)
    fabric = make_fabric(settings)
    fabric.launch()
    torch.manual_seed(experiment.seed)
    network = experiment.network.build(len(experiment.offsets))
    if any(extent % step for extent, step in zip(settings.patch, network.stride, strict=True)):
        raise UserError(f"training.patch: wanted multiples of {network.stride} (z, y, x), got {settings.patch}")
    objective = Supervised(
        network,
        LabelledPatches(volumes, settings.patch, settings.batch, seed=experiment.seed, rank=fabric.global_rank),
        offsets=experiment.offsets,
        loss=experiment.loss,
        augmentation=experiment.augmentation,
        border=experiment.border,
        seed=experiment.seed,
        rank=fabric.global_rank,
        device=fabric.device,
        picture=training_picture,
    )
    checkpoint = Checkpoint(experiment.network, {}, experiment.offsets, experiment.normalization, ranges)
    validation = Validation.of(experiment, watched, ranges)
    with progress_bar("train") as bar:
        train(
            objective,
            checkpoint,
            settings,
            folder.training,
            validate=validation,
            fabric=fabric,
            on_start=say,
            on_step=bar,
        )


def _warn_of_unsupervised_channels(experiment: Experiment, learned: dict[str, Source]) -> None:
    """Say which affinities no labelled box is long enough to supervise."""
    boxes = [box for source in learned.values() for box in source.boxes("labelled")]
    for offset in experiment.offsets:
        if not any(all(abs(o) < n for o, n in zip(offset, box.shape, strict=True)) for box in boxes):
            warn(
                f"offset {list(offset)}: no labelled box holds both ends of such an edge, so this channel is not"
                " trained (isolated sections cannot supervise affinities along z): label neighbouring sections"
            )


class Validation:
    """Scores a network by segmenting the validation parts.

    Args:
        experiment: Settings of prediction, segmentation and scoring.
        watched: The validation parts, their truth and where it is known.
        ranges: Intensity range of each volume.
    """

    def __init__(
        self,
        experiment: Experiment,
        watched: Sequence[tuple[Part, NDArray[Any], NDArray[np.bool_]]],
        ranges: Mapping[str, IntensityRange],
    ) -> None:
        self.experiment = experiment
        self.watched = watched
        self.ranges = ranges

    @classmethod
    def of(
        cls, experiment: Experiment, sources: dict[str, Source], ranges: Mapping[str, IntensityRange]
    ) -> Validation | None:
        """Validation on the regions of that role, if anything is known there."""
        found = [part for part in parts(experiment, sources) if part.role == "validation"]
        watched = list(truths(found))
        if not watched:
            warn("no validation regions: the last checkpoint will count as the best; `ssns init` holds some labels out")
            return None
        return cls(experiment, watched, ranges)

    def __call__(self, network: nn.Module, step: int) -> dict[str, float]:  # noqa: ARG002  the loop tells the step
        """Scores at the best threshold of the sweep, averaged over the parts by their voxels.

        A network that segments nothing yet has the worst scores, infinite VOI, whatever the convention.
        """
        from ssns.prediction import predict_box

        rows = []
        for part, truth, known in self.watched:
            affinities = predict_box(
                cast("AffinityNetwork", network),
                part.source.raw,
                part.box,
                self.experiment.prediction,
                normalize=self.ranges[part.source.name].apply,
                offsets=self.experiment.offsets,
            )
            rows.append((int(known.sum()), swept_scores(affinities, self.experiment, truth, known, nothing=WORST)))
        table = weighted_means(rows)
        best = min(table, key=lambda value: table[value]["voi_sum"])
        return {self.experiment.segmentation.method.swept: best, **table[best]}
