"""`ssns pretrain`: raw in, a network out that has learned to restore it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Source, open_sources, prepared, with_role
from ssns.commands.learning import learned_once, learned_settings
from ssns.commands.processes import is_first_process
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp
from ssns.commands.terminal import progress_bar, say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment, Role
from ssns.networks import Extents
from ssns.sampling import RawPatches
from ssns.training import PretrainingSettings
from ssns.volume.normalization import IntensityRange

if TYPE_CHECKING:
    from torch import nn

    from ssns.training.loop import Validate
    from ssns.training.pretrain import Pretraining
    from ssns.training.supervised import Process

VALIDATION_BATCHES = 8
"""Batches of raw of the validation regions by which the best checkpoint is chosen."""

SCORE = "restoration"


def pretrain_experiment(experiment: Experiment, *, verify: bool = False) -> Path:
    """Pre-train, or go on, or say that it is done; returns the path of the best checkpoint."""
    settings = _settings(experiment)
    experiment.network.extents.check("pretraining.training.patch", settings.training.patch)
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    learned, watched = _with_roles(sources)

    def learn() -> None:
        if is_first_process():
            keep_experiment(experiment, folder, "pretrain")
        _fit(experiment, settings, folder, learned, watched)

    stamp = pretraining_stamp(experiment, sources, verify=verify)
    return learned_once("pretrain", stamp, settings.training, learn)


def pretraining_stamp(experiment: Experiment, sources: dict[str, Source], *, verify: bool = False) -> Stamp:
    """What the pre-trained weights depend on."""
    settings = _settings(experiment)
    learned, watched = _with_roles(sources)

    def describe(hash_up_to: float) -> dict[str, Any]:
        loop = learned_settings(settings.training.model_dump(mode="json"))
        volumes = {
            name: source.settings.model_dump(mode="json", include={"unlabelled", "validation"})
            | source.raw_fingerprint(hash_up_to)
            for name, source in (learned | watched).items()
        }
        return {
            "settings": experiment.model_dump(mode="json", include={"seed", "normalization", "network"}),
            "pretraining": settings.model_dump(mode="json") | {"training": loop},
            "volumes": volumes,
        }

    return Stamp(RunFolder.of(experiment).pretraining / "stamp.json", describe, verify)


def _settings(experiment: Experiment) -> PretrainingSettings:
    if experiment.pretraining is None:
        raise UserError("pretraining: the experiment has none: add a table [pretraining], which may be empty")
    return experiment.pretraining


def _with_roles(sources: dict[str, Source]) -> tuple[dict[str, Source], dict[str, Source]]:
    """The volumes that are learned from, and those that are validated on."""
    learned, watched = with_role(sources, "unlabelled"), with_role(sources, "validation")
    if not learned:
        raise UserError(
            "volumes: wanted regions to pre-train on, got none: set volumes.NAME.unlabelled, for example to "
            '"0:100", or leave [pretraining] out'
        )
    return learned, watched


def _fit(
    experiment: Experiment,
    settings: PretrainingSettings,
    folder: RunFolder,
    learned: dict[str, Source],
    watched: dict[str, Source],
) -> None:
    """Put the objective and its validation together, and train."""
    import torch

    from ssns.checkpoint import RESTORED, Checkpoint
    from ssns.training.fabric import make_fabric, sum_over_processes
    from ssns.training.loop import train
    from ssns.training.supervised import Process

    keep_freed_memory()
    learned, watched = (prepared(role, experiment.normalization) for role in (learned, watched))
    ranges = {name: experiment.normalization.measure(source.raw) for name, source in (learned | watched).items()}
    fabric = make_fabric(settings.training)
    fabric.launch()
    torch.manual_seed(experiment.seed)
    plan = experiment.network if settings.skips == "as_network" else experiment.network.without_skips()
    network = plan.build(1)
    process = Process(fabric.device, experiment.seed, fabric.global_rank, sum_over_processes(fabric))
    with progress_bar("pretrain") as bar:
        train(
            _objective(settings, network, learned, "unlabelled", ranges, process),
            Checkpoint(plan, {}, RESTORED, experiment.normalization, ranges),
            settings.training,
            folder.pretraining,
            validate=_validation(settings, network, watched, ranges, process),
            score=SCORE,
            fabric=fabric,
            on_start=say,
            on_step=bar,
        )


def _objective(
    settings: PretrainingSettings,
    network: nn.Module,
    sources: dict[str, Source],
    role: Role,
    ranges: Mapping[str, IntensityRange],
    process: Process,
) -> Pretraining:
    """The task on raw of a role."""
    from ssns.report import training_picture
    from ssns.training.pretrain import Pretraining

    extents: Extents = network.extents  # type: ignore[assignment]  # torch takes attributes for modules
    sampler = RawPatches(
        [source.unlabelled(role, ranges[name]) for name, source in sources.items()],
        settings.training.patch,
        settings.training.batch,
        seed=process.seed,
        rank=process.rank,
        partners=settings.needs_partner,
        shrink=extents.shrink,
    )
    return Pretraining(network, sampler, settings=settings, process=process, picture=training_picture)


def _validation(
    settings: PretrainingSettings,
    network: nn.Module,
    watched: dict[str, Source],
    ranges: Mapping[str, IntensityRange],
    process: Process,
) -> Validate | None:
    """The loss on raw of the validation regions, if there are any."""
    if not watched:
        warn("no validation regions: the last checkpoint of the pre-training will count as the best")
        return None
    objective = _objective(settings, network, watched, "validation", ranges, process)
    return lambda judged, _step: objective.validate(judged, VALIDATION_BATCHES)
