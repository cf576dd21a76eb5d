"""`ssns evaluate`: scores, pictures and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part, labels_fingerprints, open_sources, parts
from ssns.commands.run_folder import (
    RunFolder,
    Stamp,
    artefact_state,
    keep_experiment,
    provenance,
    resolved_toml,
    shown,
    write_json,
)
from ssns.commands.scoring import scored, swept_scores, truths
from ssns.commands.segment import chosen_value, open_affinities, segmentation_stamp
from ssns.commands.terminal import console, say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.report import COLUMNS, comparison, curves, error_map, section_overlay, write_picture, write_report
from ssns.space import Box, triple
from ssns.volume import open_volume

PICTURE_SIDE = 1024
"""Voxels along y and x of the picture of a part without labels."""

Rows = dict[str, dict[str, float]]
"""Scores by what was scored."""

Pictures = list[tuple[str, Path]]
"""Captions and files."""


def evaluate_experiment(
    experiment: Experiment, *, more: Mapping[str, Mapping[str, float]] | None = None, verify: bool = False
) -> Rows:
    """Score every validation and test part that has labels, and show the others.

    Args:
        experiment: The experiment.
        more: Rows of other origin for the table, as those of a baseline.
        verify: Compare the data of labels, not only their size and time.
    """
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    for part in found:
        if not folder.segmentation(part.name).exists():
            raise UserError(f"segmentation: none of {part.name} in {folder.path}: run `ssns segment` first")
        open_affinities(experiment, folder, part)
    value = chosen_value(experiment, folder)
    stamp = _stamp(experiment, folder, found, value, more or {}, verify=verify)
    if stamp.holds(folder.report, "evaluate"):
        rows: Rows = json.loads(folder.scores.read_text())["rows"]
        _print(rows)
        return rows
    keep_experiment(experiment, folder, "evaluate")
    with stamp.renewed():
        rows, pictures = _judge(experiment, folder, found, value)
        rows |= {name: dict(row) for name, row in (more or {}).items()}
        write_json(folder.scores, {"rows": rows, "swept": value})
        write_report(
            folder.report,
            title=experiment.name,
            scores=rows,
            settings_toml=resolved_toml(experiment),
            versions=provenance(experiment)["versions"],
            pictures=[*pictures, *_training_curves(folder)],
            notes=_notes(experiment, found, value),
        )
    _print(rows)
    say(f"evaluate: {folder.report}")
    return rows


def _stamp(
    experiment: Experiment,
    folder: RunFolder,
    found: Sequence[Part],
    value: float,
    more: Mapping[str, Mapping[str, float]],
    *,
    verify: bool,
) -> Stamp:
    """What scores and report are made of.

    Raises:
        UserError: A segmentation is not what the experiment says by now.
    """
    for part in found:
        changes = segmentation_stamp(experiment, folder, part, value).differences()
        if changes != []:
            why = "is unfinished" if changes is None else f"was made before a change of {shown(changes)}"
            raise UserError(f"segmentation: that of {part.name} {why}: run `ssns segment` first")

    def describe(hash_up_to: float) -> dict[str, Any]:
        labels = labels_fingerprints(found, hash_up_to)
        return {
            "sweep": experiment.segmentation.model_dump(mode="json") | {"value": value},
            "scoring": experiment.scoring,
            "more": {name: dict(row) for name, row in more.items()},
            "parts": {
                part.name: {
                    "segmentation": artefact_state(folder.segmentation(part.name)),
                    "labels": labels[part.source.name],
                }
                for part in found
            },
        }

    return folder.stamp("scores", describe, verify=verify)


def _judge(experiment: Experiment, folder: RunFolder, found: Sequence[Part], value: float) -> tuple[Rows, Pictures]:
    """Scores of the parts with labels, and pictures of all."""
    rows: Rows = {}
    pictures: Pictures = []
    swept = experiment.segmentation.method.swept
    judged = [part for part in found if part.role != "target" and part.source.labels is not None]
    for part, truth, known in truths(judged):
        with console.status(f"evaluate {part.name}"):
            segmentation = open_volume(folder.segmentation(part.name)).read()
            scores = scored(segmentation, experiment, truth, known).to_dict()
            rows[f"{part.name}, {swept} {value:g}"] = scores | {swept: value}
            if part.role == "test":
                rows |= _oracle(experiment, folder, part, truth, known)
            pictures += _compare(folder, part, segmentation, np.where(known, truth, 0))
    for part in found:
        if part not in judged:
            pictures.append(_show(folder, part))
        if part.role == "test" and part not in judged:
            warn(f"{part.name}: volumes.{part.source.name} has no labels, so it is not scored")
    return rows, pictures


def _oracle(
    experiment: Experiment, folder: RunFolder, part: Part, truth: NDArray[Any], known: NDArray[np.bool_]
) -> Rows:
    """The row of the value that is best in hindsight."""
    swept = experiment.segmentation.method.swept
    affinities = open_affinities(experiment, folder, part).read()
    table = swept_scores(affinities, experiment, truth, known)
    best = min(table, key=lambda each: table[each].voi_sum)
    return {f"{part.name}, oracle {swept} {best:g}": table[best].to_dict() | {swept: best}}


def _compare(folder: RunFolder, part: Part, segmentation: NDArray[Any], truth: NDArray[Any]) -> Pictures:
    """Raw, truth (0 where nothing is known) and segmentation side by side, and where they disagree."""
    raw = part.source.raw.read(part.box)
    side_by_side, errors = (folder.path / part.name / name for name in ("comparison.png", "errors.png"))
    first = part.box.start[0]
    comparison(raw, truth, segmentation, side_by_side, first_section=first)
    error_map(raw, truth, segmentation, errors, first_section=first)
    return [
        (f"{part.name}: raw, ground truth, segments coloured as the neuron they cover most", side_by_side),
        (f"{part.name}: amber where neurons are split, blue where segments merge them", errors),
    ]


def _show(folder: RunFolder, part: Part) -> tuple[str, Path]:
    """Raw and segments side by side, in the middle of a part without labels."""
    (z, y, x), path = part.box.shape, folder.path / part.name / "segments.png"
    height, width = min(y, PICTURE_SIDE), min(x, PICTURE_SIDE)
    middle = Box.of_shape((1, height, width), triple((z // 2, (y - height) // 2, (x - width) // 2)))
    raw = part.source.raw.read(middle.shifted(part.box.start))[0]
    segments = open_volume(folder.segmentation(part.name)).read(middle)[0]
    write_picture(path, np.hstack([section_overlay(raw, segments, 0.0), section_overlay(raw, segments)]))
    return f"{part.name}: raw and segments, {middle.shifted(part.box.start)}", path


def _training_curves(folder: RunFolder) -> Pictures:
    """Losses and validation scores of the training in this folder, if there was one."""
    if not folder.history.exists():
        return []
    history = json.loads(folder.history.read_text())
    found = {
        name: ([row["step"] for row in history if name in row], [row[name] for row in history if name in row])
        for name in sorted({name for row in history for name in row})
    }
    losses = {name.removeprefix("loss/"): curve for name, curve in found.items() if name.startswith("loss/")}
    titles = {"validation/voi_sum": "validation VOI sum (bits)", "validation/arand": "validation ARAND"}
    scores = {title: found[name] for name, title in titles.items() if name in found}
    steps, values = found.get("validation/voi_sum", ([], []))
    best = steps[int(np.argmin(values))] if steps else None
    path = folder.path / "curves.png"
    curves(path, losses, scores, best_step=best)
    return [(f"training in {folder.training.name}: loss and validation", path)]


def _notes(experiment: Experiment, found: Sequence[Part], value: float) -> list[str]:
    swept = experiment.segmentation.method.swept
    notes = []
    if any(part.role == "validation" for part in found):
        notes.append(
            f"{swept} = {value:g} has the lowest VOI sum of the sweep on the validation regions. An oracle row shows"
            " the best of the same sweep on the scored labels themselves: a bound, not a result."
        )
    else:
        notes.append(f"{swept} = {value:g} is the method's own: there were no validation regions to choose it on.")
    notes.append(
        "Ground truth is relabelled into 26-connected components within each scored box; background and unknown voxels"
        f" are not scored; segment id 0 counts as in '{experiment.scoring}'."
    )
    return notes


def _print(rows: Mapping[str, Mapping[str, Any]]) -> None:
    if not rows:
        say("evaluate: no validation or test region has labels, so nothing is scored: set volumes.NAME.test")
        return
    width = max(len(name) for name in rows)
    titles = [column.title.partition(" (")[0] for column in COLUMNS]
    say(" " * width + "".join(f"{title:>11}" for title in titles))
    for name, row in rows.items():
        say(f"{name:<{width}}" + "".join(f"{row[column.key]:>11.4f}" for column in COLUMNS))
