"""`ssns segment`: affinities to segments, the threshold chosen on the validation parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import psutil

from ssns.commands.inputs import Part, labels_fingerprints, open_sources, parts
from ssns.commands.run_folder import RunFolder, Stamp, artefact_state, keep_experiment, made_now, write_json
from ssns.commands.scoring import swept_scores, weighted_means
from ssns.commands.terminal import console, say
from ssns.commands.truth import truths
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.segmentation import segment
from ssns.volume import Volume, open_volume, write_volume

BYTES_PER_VOXEL = 40
"""Peak memory of segmenting a voxel, ground truth for the sweep beside it.

Measured on AC4, uint8 affinities of 16 x 512 x 512 and 48 x 1024 x 1024: 12 to 20, and 12 to 29 with ground truth,
which takes 20 itself while it is read. Float affinities add up to 9. It grows with the number of fragments: on noise,
seeded watershed and agglomeration take 117.
"""


def segment_experiment(experiment: Experiment, *, verify: bool = False) -> None:
    """Choose the threshold where labels allow it, then segment each part."""
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    opened = {part.name: open_affinities(experiment, folder, part) for part in found}
    check_memory(found)
    value = _choose(experiment, folder, [part for part in found if part.role == "validation"], verify=verify)
    for part in found:
        _segment_part(experiment, folder, part, opened[part.name], value)


def open_affinities(experiment: Experiment, folder: RunFolder, part: Part) -> Volume:
    """The affinities of a part.

    Raises:
        UserError: There are none, or they are of another box or other offsets than the experiment says.
    """
    path = folder.affinities(part.name)
    if not path.exists():
        raise UserError(f"affinities: none of {part.name} in {folder.path}: run `ssns predict` first")
    affinities = open_volume(path)
    if (affinities.shape, affinities.origin) != (part.box.shape, part.origin):
        raise UserError(f"affinities: {path} is not of {part.box}, as {part.name} is now: run `ssns predict` first")
    offsets = [list(offset) for offset in experiment.offsets]
    if affinities.attributes.get("offsets", offsets) != offsets:
        raise UserError(
            f"affinities: {path} has the offsets {affinities.attributes['offsets']}, the experiment {offsets}: run"
            " `ssns predict` first"
        )
    return affinities


def check_memory(found: Sequence[Part]) -> None:
    """Refuse before work begins what cannot be segmented.

    Raises:
        UserError: A part needs more memory than is free.
    """
    for part in found:
        needed, free = part.box.size * BYTES_PER_VOXEL, psutil.virtual_memory().available
        if needed > free:
            raise UserError(
                f"{part.name}: segmenting {part.box} needs about {needed / 1e9:.0f} GB of memory, and"
                f" {free / 1e9:.0f} GB are free: set volumes.{part.source.name}.{part.role} to smaller boxes"
            )


def chosen_value(experiment: Experiment, folder: RunFolder) -> float:
    """The threshold that `segment` took.

    Raises:
        UserError: `segment` has not been run with this method.
    """
    content = json.loads(folder.choice.read_text()) if folder.choice.exists() else {}
    swept = experiment.segmentation.method.swept
    if content.get("swept") != swept:
        raise UserError(f"segmentation: no {swept} has been chosen in {folder.path}: run `ssns segment` first")
    return float(content["value"])


def _choose(experiment: Experiment, folder: RunFolder, watched: Sequence[Part], *, verify: bool) -> float:
    """The value with the lowest VOI sum over the validation parts; the method's own where nothing is known there."""
    stamp = folder.stamp("choice", partial(_sweep_inputs, experiment, folder, watched), verify=verify)
    if stamp.holds(folder.choice, "segment: the sweep"):
        return chosen_value(experiment, folder)
    keep_experiment(experiment, folder, "segment")
    method = experiment.segmentation.method
    rows = []
    with stamp.renewed():
        for part, truth, known in truths(watched):
            affinities = open_affinities(experiment, folder, part).read()
            with console.status(f"segment {part.name}: sweep of {method.swept}"):
                rows.append((int(known.sum()), swept_scores(affinities, experiment, truth, known)))
        table = weighted_means(rows) if rows else {}
        if table:
            value = min(table, key=lambda each: table[each]["voi_sum"])
            say(f"segment: {method.swept} = {value:g} is best on validation, VOI sum {table[value]['voi_sum']:.3f}")
        else:
            value = float(getattr(method, method.swept))
            say(f"segment: no validation regions, so {method.swept} stays at {value:g}")
        rows_shown = {f"{key:g}": row for key, row in table.items()}
        write_json(folder.choice, {"value": value, "swept": method.swept, "validation": rows_shown})
    return value


def _sweep_inputs(
    experiment: Experiment, folder: RunFolder, watched: Sequence[Part], hash_up_to: float
) -> dict[str, Any]:
    labels = labels_fingerprints(watched, hash_up_to)
    return {
        "segmentation": experiment.segmentation.model_dump(mode="json"),
        "scoring": experiment.scoring,
        "parts": {
            part.name: {
                "affinities": artefact_state(folder.affinities(part.name)),
                "labels": labels[part.source.name],
            }
            for part in watched
        },
    }


def segmentation_stamp(experiment: Experiment, folder: RunFolder, part: Part, value: float) -> Stamp:
    """What the segmentation of a part is made of."""
    method = experiment.segmentation.method
    content = {
        "method": method.model_dump(mode="json") | {method.swept: value},
        "affinities": artefact_state(folder.affinities(part.name)),
    }
    return folder.stamp(f"{part.name}/segmentation", lambda _: content)


def _segment_part(experiment: Experiment, folder: RunFolder, part: Part, affinities: Volume, value: float) -> None:
    """Write the segmentation of one part."""
    target = folder.segmentation(part.name)
    stamp = segmentation_stamp(experiment, folder, part, value)
    if stamp.holds(target, f"segment {part.name}"):
        return
    keep_experiment(experiment, folder, "segment")
    method = experiment.segmentation.method
    method = method.model_copy(update={method.swept: value})
    with stamp.renewed(), console.status(f"segment {part.name}"):
        segmentation = segment(affinities.read(), method, offsets=experiment.offsets)
        write_volume(
            target,
            segmentation,
            voxel_size_nm=affinities.voxel_size_nm,
            origin=affinities.origin,
            attributes={"method": method.model_dump(mode="json")} | made_now(),
        )
    say(f"segment {part.name}: {int(segmentation.max()):,} segments, {target}")
