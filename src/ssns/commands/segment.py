"""`ssns segment`: affinities to segments, the threshold chosen on the validation parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psutil

from ssns.commands.inputs import Part, fingerprints, open_sources, parts
from ssns.commands.run_folder import RunFolder, Stamp, keep_experiment, write_json
from ssns.commands.scoring import known_truth, swept_scores, weighted_means
from ssns.commands.terminal import console, say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.metrics import Scores
from ssns.segmentation import segment
from ssns.volume import fingerprint, open_volume, write_volume

BYTES_PER_VOXEL = 90
"""Peak memory of segmenting a voxel: float32 affinities, ids and what the libraries hold beside them."""


def segment_experiment(experiment: Experiment) -> None:
    """Choose the threshold where labels allow it, then segment each target."""
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    for part in found:
        if not folder.affinities(part.name).exists():
            raise UserError(f"affinities: none of {part.name} in {folder.path}: run `ssns predict` first")
        _check_memory(part)
    keep_experiment(experiment, folder)
    value = _choose(experiment, folder, [part for part in found if part.role == "validation"])
    for part in found:
        _segment_part(experiment, folder, part, value)


def chosen_value(folder: RunFolder) -> tuple[float, dict[str, dict[str, float]]]:
    """The threshold that `segment` took, and its row of validation scores by threshold (empty: none were there)."""
    content = json.loads(folder.choice.read_text())
    return content["value"], content["validation"]


def _check_memory(part: Part) -> None:
    """Refuse before work begins what cannot fit."""
    needed, free = part.box.size * BYTES_PER_VOXEL, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{part.name}: segmenting {part.box} needs about {needed / 1e9:.0f} GB of memory, and {free / 1e9:.0f} GB"
            f" are free: set volumes.{part.source.name}.{part.role} to smaller boxes"
        )


def _choose(experiment: Experiment, folder: RunFolder, watched: Sequence[Part]) -> float:
    """The value with the lowest VOI sum over the validation parts; the method's own where there are none."""
    method = experiment.segmentation.method
    if not watched:
        value = float(getattr(method, method.swept))
        say(f"segment: no validation regions, so {method.swept} stays at {value:g}")
        write_json(folder.choice, {"value": value, "swept": method.swept, "validation": {}})
        return value
    stamp = Stamp(folder.path / "choice.stamp.json", _sweep_inputs(experiment, folder, watched))
    if stamp.differences() == [] and folder.choice.exists():
        value, _ = chosen_value(folder)
        say(f"segment: skipped the sweep, {method.swept} = {value:g} is up to date")
        return value
    rows: list[tuple[int, dict[float, Scores]]] = []
    for part in watched:
        affinities = open_volume(folder.affinities(part.name)).read()
        with console.status(f"segment {part.name}: sweep of {method.swept}"):
            rows.append((part.box.size, swept_scores(affinities, experiment, *known_truth(part))))
    table = weighted_means(rows)
    value = min(table, key=lambda each: table[each]["voi_sum"])
    say(f"segment: {method.swept} = {value:g} is best on validation, VOI sum {table[value]['voi_sum']:.3f}")
    write_json(
        folder.choice,
        {"value": value, "swept": method.swept, "validation": {f"{key:g}": row for key, row in table.items()}},
    )
    stamp.write()
    return value


def _sweep_inputs(experiment: Experiment, folder: RunFolder, watched: Sequence[Part]) -> dict[str, Any]:
    return {
        "method": experiment.segmentation.model_dump(mode="json"),
        "scoring": experiment.scoring.model_dump(mode="json"),
        "parts": {
            part.name: {
                "affinities": fingerprint(folder.affinities(part.name)),
                "labels": fingerprints({"": part.source}, verify=False)[""].get("labels"),
                "background": part.source.settings.background,
                "ignored": part.source.settings.ignored,
            }
            for part in watched
        },
    }


def _segment_part(experiment: Experiment, folder: RunFolder, part: Part, value: float) -> None:
    """Write the segmentation of one part."""
    method = experiment.segmentation.method
    method = method.model_copy(update={method.swept: value})
    target = folder.segmentation(part.name)
    source = folder.affinities(part.name)
    content = {"method": method.model_dump(mode="json"), "affinities": fingerprint(source)}
    stamp = Stamp(folder.path / part.name / "segmentation.json", content)
    if stamp.differences() == [] and target.exists():
        say(f"segment: skipped {part.name}, {target} is up to date")
        return
    affinities = open_volume(source)
    with console.status(f"segment {part.name}"):
        segmentation = segment(affinities.read(), method, offsets=experiment.offsets)
        write_volume(
            target,
            segmentation,
            voxel_size_nm=affinities.voxel_size_nm,
            origin=affinities.origin,
            attributes={"method": content["method"]},
        )
    stamp.write()
    say(f"segment: {part.name} has {int(segmentation.max()):,} segments, {target}")
