"""`ssns predict`: affinities of the validation, test and target regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssns.blockwise import Markers
from ssns.commands.affinities import to_be_predicted
from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Part, Source, open_sources, parts
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp, file_state, made_now
from ssns.commands.terminal import progress_bar, say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.volume import create_volume, open_volume
from ssns.volume.normalization import IntensityRange
from ssns.zoo import weights_path

if TYPE_CHECKING:
    from ssns.checkpoint import Checkpoint

HARDWARE = {"device", "batch", "block"}
"""Settings of prediction that serve the machine: affinities are not made again for them."""


def predict_experiment(experiment: Experiment, *, checkpoint: Path | None = None, verify: bool = False) -> None:
    """Predict each part that is not predicted yet, with the best checkpoint of the experiment or another one."""
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    wanted = to_be_predicted(parts(experiment, sources))
    if not wanted:
        say("predict: skipped, the affinities of all parts are files of yours")
        return
    path = folder.best if checkpoint is None else weights_path(checkpoint)
    if not path.is_file():
        raise UserError(f"checkpoint: no file at {path}: run `ssns train` first, or name one with --checkpoint FILE")
    raw = cache(lambda name, hash_up_to: sources[name].raw_fingerprint(hash_up_to))
    common = {
        "checkpoint": file_state(path),
        "offsets": [list(offset) for offset in experiment.offsets],
        "settings": experiment.prediction.model_dump(mode="json", exclude=HARDWARE),
    }

    def describe(part: Part, hash_up_to: float) -> dict[str, Any]:
        return common | {"box": str(part.box)} | raw(part.source.name, hash_up_to)

    pending = []
    for part in wanted:
        stamp = folder.stamp(f"{part.name}/affinities", partial(describe, part), verify=verify)
        if not stamp.holds(folder.affinities(part.name), f"predict {part.name}"):
            pending.append((part, stamp))
    if not pending:
        return
    from ssns.prediction.inference import on_device

    trained = _load(path, experiment)
    keep_experiment(experiment, folder, "predict")
    network = on_device(trained.build(), experiment.prediction.device)

    @cache
    def prepared(name: str) -> tuple[Source, IntensityRange]:
        source = sources[name].prepared(trained.normalization)
        return source, trained.normalization.measure(source.raw)  # of the same raw, that of the training

    for part, stamp in pending:
        name = part.source.name
        source, span = prepared(name)
        part = replace(part, source=source)
        if checkpoint is not None or span != trained.ranges.get(name):
            say(f"predict {part.name}: intensities {span.low:g}..{span.high:g} become 0..1")
        with stamp.renewed():
            _predict_part(experiment, network, part, span, folder.affinities(part.name), stamp)


def check_device(experiment: Experiment) -> None:
    """Refuse, before hours of training, a device that this machine does not have.

    Raises:
        UserError: It has not.
    """
    if experiment.prediction.device is None:
        return
    from ssns.networks.hardware import device_named

    device_named(experiment.prediction.device, "prediction.device")


def _load(path: Path, experiment: Experiment) -> Checkpoint:
    """The checkpoint, to predict the offsets of the experiment."""
    from ssns.checkpoint import RESTORED, load_checkpoint

    keep_freed_memory()
    trained = load_checkpoint(path)
    if trained.offsets == RESTORED:
        raise UserError(
            f"checkpoint: {path} restores raw, as pre-training does, and predicts no affinities: train from it, with"
            f" --transfer.checkpoint {path.resolve()}"
        )
    chosen = trained.predicting(experiment.offsets)
    for offset in chosen.offsets:
        if offset in trained.untrained:
            warn(f"offset {list(offset)}: nothing has trained this channel of {path}, so its affinities are 0")
    return chosen


def _predict_part(
    experiment: Experiment, network: Any, part: Part, span: IntensityRange, target: Path, stamp: Stamp
) -> None:
    """Write the affinities of one part, going on where a killed run stopped."""
    from ssns.prediction import predict_volume

    settings = experiment.prediction
    # all settings here: one who makes blocks smaller after running out of memory must get smaller ones
    markers = Markers(target.parent / "blocks", {"made_from": stamp.key, "settings": settings.model_dump(mode="json")})
    left = _left_unfinished(target, part)
    resume = left.get("made_from") == stamp.key
    attributes = {"offsets": [list(offset) for offset in experiment.offsets], "made_from": stamp.key} | made_now()
    writer = create_volume(
        target,
        (len(experiment.offsets), *part.box.shape),
        settings.dtype,
        voxel_size_nm=part.source.raw.voxel_size_nm,
        origin=part.origin,
        attributes=left if resume else attributes,
        resume=resume,
    )
    if not writer.resumed:
        markers.clear()
    with writer, progress_bar(f"predict {part.name}") as bar:
        predict_volume(
            network,
            part.source.raw,
            writer,
            settings,
            normalize=span.apply,
            offsets=experiment.offsets,
            box=part.box,
            markers=markers,
            progress=bar,
        )


def _left_unfinished(target: Path, part: Part) -> Mapping[str, Any]:
    """The attributes of what a killed run has left of ``target``, the key of its stamp among them, if it left any."""
    place = target.resolve()  # a link to another disk stays, and what is unfinished is there
    try:
        left = open_volume(place.with_name(f"{place.name}.partial"))
    except UserError:  # there is none, or only its beginnings
        return {}
    stored, wanted = (volume.voxel_size_nm or (0, 0, 0) for volume in (left, part.source.raw))
    return left.attributes if np.allclose(stored, wanted) else {}
