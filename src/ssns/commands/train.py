"""`ssns train`: labelled patches in, the best checkpoint by VOI of a real segmentation out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Part, Source, fingerprints, open_sources, parts
from ssns.commands.run_folder import RunFolder, Stamp, keep_experiment
from ssns.commands.scoring import known_truth, swept_scores, weighted_means
from ssns.commands.terminal import say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.volume.normalization import IntensityRange

if TYPE_CHECKING:
    from torch import nn

    from ssns.networks import AffinityNetwork


def train_experiment(experiment: Experiment, *, verify: bool = False) -> Path:
    """Train, or go on, or say that it is done; returns the path of the best checkpoint."""
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    learned = {name: source for name, source in sources.items() if source.settings.labelled}
    if not learned:
        raise UserError("volumes: wanted a volume with labelled regions to train on: set volumes.NAME.labelled")
    stamp = _stamp(experiment, folder, sources, verify=verify)
    changes = stamp.differences()
    if changes == [] and folder.best.is_file() and (folder.training / "done").exists():
        say(f"train: skipped, {folder.best} is up to date")
        return folder.best
    if changes:
        _set_aside(folder.training, changes)
    keep_experiment(experiment, folder)
    stamp.write()
    _fit(experiment, folder, sources, learned)
    (folder.training / "done").touch()
    return folder.best


def _stamp(experiment: Experiment, folder: RunFolder, sources: dict[str, Source], *, verify: bool) -> Stamp:
    """What the weights depend on."""
    settings = experiment.model_dump(
        mode="json", exclude={"name", "runs", "prediction", "segmentation", "scoring", "volumes"}
    )
    roles = {
        name: source.settings.model_dump(mode="json", exclude={"raw", "labels", "test", "target"})
        for name, source in sources.items()
    }
    for loop in ("log_every", "save_every", "preview_every", "validate_every", "validation_share", "device", "threads"):
        del settings["training"][loop]
    content = {"settings": settings, "volumes": roles, "inputs": fingerprints(sources, verify=verify)}
    return Stamp(folder.training / "stamp.json", content)


def _set_aside(training: Path, changes: list[str]) -> None:
    """Keep a training of other settings under another name."""
    number = 1
    while (aside := training.with_name(f"{training.name}-{number}")).exists():
        number += 1
    training.rename(aside)
    shown = ", ".join(changes[:4]) + (" and more" if len(changes) > 4 else "")
    say(f"train: {shown} changed since the last training, which is kept in {aside}")


def _fit(experiment: Experiment, folder: RunFolder, sources: dict[str, Source], learned: dict[str, Source]) -> None:
    """Put the objective and its validation together, and train."""
    import torch

    from ssns.checkpoint import Checkpoint
    from ssns.report import training_picture
    from ssns.sampling import LabelledPatches
    from ssns.training.loop import make_fabric, train
    from ssns.training.supervised import Supervised

    keep_freed_memory()
    ranges = {name: experiment.normalization.measure(source.raw) for name, source in sources.items()}
    volumes = [source.labelled("labelled", ranges[name]) for name, source in learned.items()]
    _warn_of_unsupervised_channels(experiment, learned)
    fabric = make_fabric(experiment.training)
    fabric.launch()
    torch.manual_seed(experiment.seed)
    network = experiment.network.build(len(experiment.offsets))
    objective = Supervised(
        network,
        LabelledPatches(
            volumes,
            experiment.training.patch,
            experiment.training.batch,
            seed=experiment.seed,
            rank=fabric.global_rank,
        ),
        offsets=experiment.offsets,
        loss=experiment.loss,
        augmentation=experiment.augmentation,
        border=experiment.border,
        seed=experiment.seed,
        device=fabric.device,
        picture=training_picture,
    )
    checkpoint = Checkpoint(experiment.network, {}, experiment.offsets, experiment.normalization, ranges)
    watched = [part for part in parts(experiment, sources) if part.role == "validation"]
    if not watched:
        warn("no validation regions: the last checkpoint will be taken for the best; `ssns init` holds some labels out")
    validation = Validation(experiment, watched, ranges) if watched else None
    train(objective, checkpoint, experiment.training, folder.training, validate=validation, fabric=fabric, on_start=say)


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
        watched: The validation parts.
        ranges: Intensity range of each volume.
    """

    def __init__(self, experiment: Experiment, watched: list[Part], ranges: Mapping[str, IntensityRange]) -> None:
        self.experiment = experiment
        self.watched = watched
        self.ranges = ranges
        self.truth = {part.name: known_truth(part) for part in watched}

    def __call__(self, network: nn.Module, step: int) -> dict[str, float]:  # noqa: ARG002  the loop tells the step
        """Scores at the best threshold of the sweep, averaged over the parts by their voxels."""
        from ssns.prediction import predict_box

        rows = []
        for part in self.watched:
            affinities = predict_box(
                cast("AffinityNetwork", network),
                part.source.raw,
                part.box,
                self.experiment.prediction,
                normalize=self.ranges[part.source.name].apply,
                offsets=self.experiment.offsets,
            )
            labels, known = self.truth[part.name]
            rows.append((part.box.size, swept_scores(affinities, self.experiment, labels, known)))
        table = weighted_means(rows)
        best = min(table, key=lambda value: table[value]["voi_sum"])
        return {self.experiment.segmentation.method.swept: best, **table[best]}
