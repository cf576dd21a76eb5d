"""`ssns train`: labelled patches in, and unlabelled ones; the best checkpoint by VOI of a real segmentation out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Source, open_sources, parts, prepared, with_role
from ssns.commands.learning import learned_once, learned_settings
from ssns.commands.memory import check_memory
from ssns.commands.pretrain import pretraining_stamp
from ssns.commands.processes import is_first_process
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp, file_state, shown
from ssns.commands.taught import taught_files, taught_parts, taught_stamp, taught_volumes, teachers_experiment
from ssns.commands.terminal import progress_bar, say, warn
from ssns.commands.validation import Validation
from ssns.errors import UserError
from ssns.experiment import Experiment, Role
from ssns.files import write_json
from ssns.sampling import LabelledPatches, LabelledVolume, RawPatches
from ssns.space import Box, Triple
from ssns.training import ConsistencyObjective, PseudoLabelObjective, SupervisedObjective
from ssns.volume.normalization import IntensityRange, Normalization
from ssns.zoo import PREFIX, weights_path

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from ssns.training.loop import Objective
    from ssns.training.pseudo_labels import PseudoLabelled
    from ssns.training.supervised import Process, Supervised
    from ssns.training.transfer import Transfer

ROLES: tuple[Role, ...] = ("labelled", "validation", "unlabelled")
"""What training reads."""

UNSETTLED_STEPS = 100
"""Steps of consistency that may be taught from running statistics which have hardly moved: few in any training."""


def train_experiment(experiment: Experiment, *, start: Path | None = None, verify: bool = False) -> Path:
    """Train, or go on, or say that it is done; returns the path of the best checkpoint.

    Args:
        experiment: The experiment.
        start: The checkpoint that weights are taken over from; None: that of `start_of_training`. (What learns from
            pseudo-labels may take its own over from the network that made them.)
        verify: Compare the data of inputs, not only their size and time.
    """
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    inputs = _Inputs.of(experiment, sources)
    check_memory(experiment, [part for part in parts(experiment, inputs.watched) if part.role == "validation"])
    start = start or start_of_training(experiment, folder, sources)
    _check_taught(experiment, sources, start)
    begin = _begins_with(experiment, folder, start)

    def learn() -> None:
        if is_first_process():
            keep_experiment(experiment, folder, "train")
        _fit(experiment, folder, inputs, begin)

    stamp = _stamp(experiment, folder, inputs, begin, verify=verify)
    best = learned_once("train", stamp, experiment.training, learn)
    if not is_first_process():
        raise SystemExit(0)  # the first one goes on alone
    return best


def settings_of_start(start: Path) -> dict[str, Any]:
    """Settings of a training that goes on from all of trained weights, by dotted name; they bring their own network."""
    from ssns.checkpoint import load_checkpoint

    path = weights_path(start)
    trained = load_checkpoint(path)
    return {
        "transfer.checkpoint": str(start if str(start).startswith(PREFIX) else path.absolute()),
        "transfer.parts": "all",
        "network": trained.network.model_dump(mode="json"),
        "auxiliary_offsets": [list(offset) for offset in trained.auxiliary_offsets],
        "normalization": trained.normalization.model_dump(mode="json"),
    }


def check_training(experiment: Experiment, sources: dict[str, Source]) -> None:
    """Refuse, before hours of pre-training, what training could not begin with.

    Raises:
        UserError: A role that the objective needs has no region, the network cannot take the patch, or nothing would
            learn.
    """
    _Inputs.of(experiment, sources)
    objective, transfer = experiment.objective, experiment.transfer
    if isinstance(objective, PseudoLabelObjective):
        teachers_experiment(experiment, sources)
        if objective.start == "teacher" and transfer.parts == "all" and transfer.learning_rate == 0:
            raise UserError(
                'transfer: with parts = "all" and learning_rate = 0 nothing of the first network would learn from'
                " pseudo-labels: take over fewer parts, or set transfer.learning_rate above 0"
            )


@dataclass(frozen=True)
class _Inputs:
    """The volumes that training reads, by role.

    Attributes:
        learned: With labelled regions.
        watched: With validation regions.
        unlabelled: With raw to learn from; none in supervised training.
    """

    learned: dict[str, Source]
    watched: dict[str, Source]
    unlabelled: dict[str, Source]

    @classmethod
    def of(cls, experiment: Experiment, sources: dict[str, Source]) -> _Inputs:
        """Pick them from all volumes.

        Raises:
            UserError: A role that the objective needs has no region, or the network cannot take the patch.
        """
        experiment.network.extents.check("training.patch", experiment.training.patch)
        learned, watched, unlabelled = (with_role(sources, role) for role in ROLES)
        if not learned:
            raise UserError(
                "volumes: wanted a volume with labelled regions to train on, got none: set volumes.NAME.labels and"
                " labelled; or predict with weights that you have: --checkpoint FILE"
            )
        if isinstance(experiment.objective, SupervisedObjective):
            return cls(learned, watched, {})
        if not unlabelled:
            raise UserError(
                "volumes: wanted regions to learn from without labels, as objective.type is"
                f' {experiment.objective.type}, got none: set volumes.NAME.unlabelled, for example to "0:100"; or'
                ' objective = { type = "supervised" }'
            )
        return cls(learned, watched, unlabelled)

    def prepared(self, normalization: Normalization) -> _Inputs:
        """The same with raw as a normalisation has to see it."""
        roles = (self.learned, self.watched, self.unlabelled)
        return _Inputs(*(prepared(role, normalization) for role in roles))

    @property
    def all(self) -> dict[str, Source]:
        """Every volume, by name."""
        return self.learned | self.watched | self.unlabelled


def start_of_training(experiment: Experiment, folder: RunFolder, sources: dict[str, Source]) -> Path | None:
    """The checkpoint that weights are taken over from, if any.

    Raises:
        UserError: It is not there, or not what the experiment's pre-training would give.
    """
    if experiment.transfer.checkpoint is not None:
        path = weights_path(experiment.transfer.checkpoint)
        if not path.is_file():
            raise UserError(f"transfer.checkpoint: no file at {path}: name one that is there, or none")
        return path
    if experiment.pretraining is None:
        return None
    made = folder.pretraining / "done", folder.best_pretrained
    _check_made("pretraining", "its weights", pretraining_stamp(experiment, sources), made, "pretrain")
    return folder.best_pretrained


def _check_taught(experiment: Experiment, sources: dict[str, Source], start: Path | None) -> None:
    """Refuse pseudo-labels that are not there, or of other settings or inputs.

    Raises:
        UserError: `ssns teach` would make others.
    """
    if not isinstance(experiment.objective, PseudoLabelObjective):
        return
    teacher = teachers_experiment(experiment, sources)
    made = taught_files(experiment, taught_parts(teacher, sources))
    _check_made("objective", "pseudo-labels", taught_stamp(experiment, teacher, sources, start), made, "teach")


def _check_made(setting: str, what: str, stamp: Stamp, made: Sequence[Path], verb: str) -> None:
    """Refuse what an earlier verb has not made, or has made of other settings or inputs.

    Raises:
        UserError: That verb would make it, or make it anew.
    """
    changes, folder = stamp.differences(), stamp.path.parent
    if changes is None or not all(path.exists() for path in made):
        raise UserError(f"{setting}: wanted {what} in {folder}, which are not done: run `ssns {verb}` first")
    if changes:
        raise UserError(
            f"{setting}: {shown(changes)} changed since {what} in {folder}: run `ssns {verb}` first, with the same"
            " settings"
        )


def _stamp(experiment: Experiment, folder: RunFolder, inputs: _Inputs, start: Path | None, *, verify: bool) -> Stamp:
    """What the weights depend on."""
    settings = experiment.model_dump(
        mode="json",
        exclude={"name", "runs", "base", "preset", "pretraining", "prediction", "segmentation", "scoring", "volumes"},
    )
    settings["training"] = learned_settings(settings["training"])

    def describe(hash_up_to: float) -> dict[str, Any]:
        volumes = {
            name: source.settings.model_dump(mode="json", include={str(role) for role in ROLES})
            | source.fingerprint(hash_up_to)
            for name, source in inputs.all.items()
        }
        taught = isinstance(experiment.objective, PseudoLabelObjective)
        return {
            "settings": settings,
            "volumes": volumes,
            "start": None if start is None else file_state(start),
        } | ({"taught": file_state(folder.certainty)} if taught else {})

    return Stamp(folder.training / "stamp.json", describe, verify)


def _begins_with(experiment: Experiment, folder: RunFolder, first: Path | None) -> Path | None:
    """The checkpoint that a network takes weights over from: that of the first one, or what has taught it."""
    objective = experiment.objective
    if isinstance(objective, PseudoLabelObjective) and objective.start == "teacher":
        return folder.best_teacher
    return first


def _fit(experiment: Experiment, folder: RunFolder, inputs: _Inputs, start: Path | None) -> None:
    """Put the objective and its validation together, and train."""
    import torch

    from ssns.checkpoint import Checkpoint
    from ssns.training.fabric import make_fabric, sum_over_processes
    from ssns.training.loop import train
    from ssns.training.supervised import Process

    keep_freed_memory()
    inputs = inputs.prepared(experiment.normalization)
    ranges = {name: experiment.normalization.measure(source.raw) for name, source in inputs.all.items()}
    untrained = untrained_offsets(experiment, inputs.all)
    warn_of_untrained(experiment, inputs.all, untrained)
    fabric = make_fabric(experiment.training)
    fabric.launch()
    torch.manual_seed(experiment.seed)
    networks = _Networks(experiment, start)
    process = Process(fabric.device, experiment.seed, fabric.global_rank, sum_over_processes(fabric))
    objective = _objective(experiment, inputs, ranges, networks, process, fabric, untrained)
    _warn_of_initial_statistics(experiment, objective.network)
    _warn_of_warmup(experiment)
    if networks.taken is not None:
        say(f"train: from {start}: {networks.taken}; transfer.json lists them")
        if is_first_process():
            write_json(folder.training / "transfer.json", networks.taken.to_dict() | {"checkpoint": str(start)})
    checkpoint = Checkpoint(
        experiment.network,
        {},
        experiment.offsets,
        experiment.normalization,
        ranges,
        auxiliary_offsets=experiment.auxiliary_offsets,
        untrained=untrained,
    )
    validate = Validation.of(experiment, inputs.watched, ranges, untrained)
    with progress_bar("train") as bar:
        train(
            objective,
            checkpoint,
            experiment.training,
            folder.training,
            validate=validate,
            judged_by="" if validate is None else validate.rules,
            rates=networks.rates,
            fabric=fabric,
            on_start=say,
            on_step=bar,
        )


@dataclass
class _Networks:
    """Makes the networks of a training, with what they take over.

    Attributes:
        experiment: Its network and transfer.
        start: The checkpoint that weights are taken over from, if any.
        rates: Share of the learning rate of parameters that were taken over.
        taken: What became of the weights.
    """

    experiment: Experiment
    start: Path | None
    rates: dict[nn.Parameter, float] = field(default_factory=dict)
    taken: Transfer | None = None

    def build(self) -> nn.Module:
        """Another network, its start drawn from torch's global generator."""
        from ssns.checkpoint import load_checkpoint
        from ssns.training.transfer import transfer_weights

        settings = self.experiment.transfer
        network = self.experiment.network.build(len(self.experiment.learned_offsets))
        if self.start is not None:
            taken = transfer_weights(network, load_checkpoint(self.start).weights, settings)
            if not taken.loaded:
                raise UserError(f"transfer: nothing in {self.start} fits the network: {taken}: train without it")
            self.rates.update(dict.fromkeys(taken.parameters, settings.learning_rate))
            self.taken = taken
        return network


def _objective(
    experiment: Experiment,
    inputs: _Inputs,
    ranges: Mapping[str, IntensityRange],
    networks: _Networks,
    process: Process,
    fabric: Fabric,
    untrained: Sequence[Triple],
) -> Objective:
    """What is minimised, with the network or the students in it."""
    from ssns.training.consistency import Consistency
    from ssns.training.teachers import make_teacher

    settings, objective = experiment.training, experiment.objective
    if isinstance(objective, SupervisedObjective):
        return _supervised(experiment, inputs, ranges, networks.build(), process)
    if isinstance(objective, PseudoLabelObjective):
        return _pseudo_labelled(experiment, objective, inputs, ranges, networks.build(), process, untrained)
    students, teacher = make_teacher(objective.teacher, networks.build, objective.batch)
    sampler = RawPatches(
        [source.unlabelled("unlabelled", ranges[name]) for name, source in inputs.unlabelled.items()],
        settings.patch,
        settings.batch,
        seed=process.seed,
        rank=process.rank,
        partners=objective.needs_partner,
        shrink=experiment.network.extents.shrink,
    )
    return Consistency(
        students,
        teacher,
        labelled=_supervised(experiment, inputs, ranges, students.networks[0], process),
        sampler=sampler,
        settings=objective,
        accumulate=settings.accumulate,
        autocast=fabric.autocast,
    )


def _pseudo_labelled(
    experiment: Experiment,
    objective: PseudoLabelObjective,
    inputs: _Inputs,
    ranges: Mapping[str, IntensityRange],
    network: nn.Module,
    process: Process,
    untrained: Sequence[Triple],
) -> PseudoLabelled:
    """Labelled patches, and those that `ssns teach` has segmented."""
    from ssns.training.pseudo_labels import TAUGHT, PseudoLabelled

    volumes, bold, apart = taught_volumes(experiment, inputs.all, ranges)
    sampler = _labelled_patches(experiment, volumes, process, stream=TAUGHT)
    labelled = _supervised(experiment, inputs, ranges, network, process)
    channels = [experiment.learned_offsets.index(offset) for offset in untrained]
    return PseudoLabelled(labelled, sampler, bold, apart, objective, untrained=channels)


def _supervised(
    experiment: Experiment,
    inputs: _Inputs,
    ranges: Mapping[str, IntensityRange],
    network: nn.Module,
    process: Process,
) -> Supervised:
    """How labelled patches are drawn, augmented and judged."""
    from ssns.report import training_picture
    from ssns.training.supervised import Supervised, Targets

    shrink = experiment.network.extents.shrink
    volumes = [source.labelled("labelled", ranges[name]) for name, source in inputs.learned.items()]
    return Supervised(
        network,
        _labelled_patches(experiment, volumes, process),
        targets=Targets(experiment.learned_offsets, experiment.border, experiment.outside, shrink),
        loss=experiment.loss,
        augmentation=experiment.augmentation,
        process=process,
        picture=training_picture,
    )


def _labelled_patches(
    experiment: Experiment, volumes: Sequence[LabelledVolume], process: Process, *, stream: int | None = None
) -> LabelledPatches:
    """Draws patches with labels, or with pseudo-labels, in a stream of their own."""
    return LabelledPatches(
        volumes,
        experiment.training.patch,
        experiment.training.batch,
        seed=process.seed,
        rank=process.rank,
        beyond=experiment.beyond,
        shrink=experiment.network.extents.shrink,
        stream=stream,
    )


def warn_of_untrained(experiment: Experiment, sources: dict[str, Source], untrained: Sequence[Triple]) -> None:
    """Say which channels no labels train, why, and what becomes of them, ``untrained`` being those of random ones."""
    for offset, (reason, advice) in _unsupervised_offsets(experiment, sources).items():
        so = "is not trained, and its affinities are 0" if offset in untrained else "stays as it was trained before"
        warn(f"offset {list(offset)}: {reason}, so this channel {so}: {advice}")


def untrained_offsets(experiment: Experiment, sources: dict[str, Source]) -> tuple[Triple, ...]:
    """The offsets of channels that are random in the network, as neither labels nor those of its start train them."""
    from ssns.checkpoint import load_checkpoint

    start, before = experiment.transfer, set[Triple]()
    unsupervised = _unsupervised_offsets(experiment, sources)
    if unsupervised and start.checkpoint is not None and start.parts == "all":
        trained = load_checkpoint(weights_path(start.checkpoint))
        before = set(trained.offsets + trained.auxiliary_offsets).difference(trained.untrained)
    return tuple(offset for offset in experiment.learned_offsets if offset in unsupervised and offset not in before)


def _unsupervised_offsets(experiment: Experiment, sources: dict[str, Source]) -> dict[Triple, tuple[str, str]]:
    """The offsets that no labels, or no patch, are large enough to supervise, each with why, and what to do."""
    found = {}
    labelled = [source.boxes("labelled") for source in sources.values()]
    patch = experiment.training.patch
    inside = zip(patch, experiment.network.extents.shrink, strict=True)  # the one end is where the network predicts
    reach = [extent - lost for extent, lost in inside]
    for offset in experiment.learned_offsets:
        if not any(_supervise(boxes, offset) for boxes in labelled):
            found[offset] = (
                "no labels hold both ends of such an edge",
                "label neighbouring sections, as isolated ones cannot supervise affinities along z, nor tell which"
                " segments of two sections are one neuron",
            )
        elif experiment.outside == "masked" and not all(abs(o) < n for o, n in zip(offset, reach, strict=True)):
            found[offset] = (
                "no patch holds both ends of such an edge",
                f"make training.patch, which is {list(patch)}, larger, or leave the offset out",
            )
    return found


def _supervise(boxes: Sequence[Box], offset: Triple) -> bool:
    """Whether any of the boxes, moved by an offset, meets one of them."""
    starts, stops = np.array([box.start for box in boxes]), np.array([box.stop for box in boxes])
    meet = (starts[:, None] + offset < stops) & (starts < stops[:, None] + offset)
    return bool(meet.all(axis=2).any())


def _warn_of_warmup(experiment: Experiment) -> None:
    """Say where training ends before the consistency begins."""
    objective, steps = experiment.objective, experiment.training.steps
    if isinstance(objective, ConsistencyObjective) and objective.warmup >= steps:
        warn(
            f"objective.warmup: training.steps is {steps}, so that nothing is learned from unlabelled raw, which begins"
            f" after {objective.warmup} steps of labelled patches alone: lower it, or train longer"
        )


def _warn_of_initial_statistics(experiment: Experiment, network: nn.Module) -> None:
    """Say where targets would be made with running statistics that are still nearly those of an untouched network.

    Args:
        experiment: Its objective and momentum.
        network: What learns, with the statistics that it begins with.
    """
    from torch.nn import BatchNorm3d

    objective = experiment.objective
    seen = [int(buffer) for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked")]
    if not seen or not isinstance(objective, ConsistencyObjective) or objective.teacher.statistics == "batch":
        return
    momentum = next(module.momentum for module in network.modules() if isinstance(module, BatchNorm3d))
    assert momentum is not None, "networks are built with one"
    batches = min(seen) + (objective.warmup + UNSETTLED_STEPS) * experiment.training.accumulate
    left = (1 - momentum) ** batches
    if left > 0.5:
        warn(
            f"objective.teacher: {UNSETTLED_STEPS} steps into the consistency, its running statistics are still by"
            f" {left:.0%} those of an untouched network, as network.batch_momentum is {momentum:g}: set it to 0.05, or"
            f' objective.teacher.statistics to "batch", or objective.warmup to some {round(1 / momentum)} steps'
        )
