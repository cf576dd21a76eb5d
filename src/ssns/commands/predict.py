"""`ssns predict`: affinities of the validation, test and target regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssns.blockwise import Markers
from ssns.commands.allocator import keep_freed_memory
from ssns.commands.inputs import Part, Source, fingerprints, open_sources, parts
from ssns.commands.run_folder import RunFolder, Stamp, keep_experiment
from ssns.commands.terminal import progress_bar, say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.volume import create_volume
from ssns.volume.normalization import IntensityRange


def predict_experiment(experiment: Experiment, *, checkpoint: Path | None = None, verify: bool = False) -> None:
    """Predict each part that is not predicted yet."""
    from ssns.checkpoint import load_checkpoint

    keep_freed_memory()
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    path = checkpoint or folder.best
    trained = load_checkpoint(path)
    if trained.offsets != experiment.offsets:
        raise UserError(
            f"offsets: the experiment has {list(experiment.offsets)}, but {path} was trained for"
            f" {list(trained.offsets)}: set offsets to those, or train again"
        )
    keep_experiment(experiment, folder)
    state = path.stat()
    made_from = {
        "checkpoint": {"path": str(path.absolute()), "bytes": state.st_size, "modified_ns": state.st_mtime_ns},
        "settings": experiment.prediction.model_dump(mode="json"),
    }
    network = None
    for part in parts(experiment, sources):
        stamp = Stamp(
            folder.path / part.name / "affinities.json",
            {**made_from, "box": str(part.box), "raw": fingerprints({"": part.source}, verify=verify)[""]["raw"]},
        )
        target = folder.affinities(part.name)
        if stamp.differences() == [] and target.exists():
            say(f"predict: skipped {part.name}, {target} is up to date")
            continue
        network = network or trained.build()
        span = _intensity(trained.ranges, trained.normalization, part.source)
        _predict_part(experiment, network, part, span, target, stamp)
        stamp.write()


def _intensity(ranges: Any, normalization: Any, source: Source) -> IntensityRange:
    """The range that training used for this volume, else one measured in the same way."""
    if source.name in ranges:
        span: IntensityRange = ranges[source.name]
        return span
    span = normalization.measure(source.raw)
    warn(f"volumes.{source.name}: not among the volumes of the training, scaled from {span.low:g}..{span.high:g}")
    return span


def _predict_part(
    experiment: Experiment, network: Any, part: Part, span: IntensityRange, target: Path, stamp: Stamp
) -> None:
    """Write the affinities of one part, going on where a killed run stopped."""
    from ssns.prediction import predict_volume

    raw = part.source.raw
    markers = Markers(target.parent / "blocks", dict(stamp.content))
    writer = create_volume(
        target,
        (len(experiment.offsets), *part.box.shape),
        experiment.prediction.dtype,
        voxel_size_nm=raw.voxel_size_nm,
        origin=tuple(a + b for a, b in zip(raw.origin, part.box.start, strict=True)),
        attributes={"offsets": [list(offset) for offset in experiment.offsets], "made_from": stamp.key},
        resume=True,
    )
    if not writer.resumed:
        markers.clear()
    with writer, progress_bar(f"predict {part.name}") as bar:
        predict_volume(
            network,
            raw,
            writer,
            experiment.prediction,
            normalize=span.apply,
            offsets=experiment.offsets,
            box=part.box,
            markers=markers,
            progress=bar,
        )
