"""`ssns evaluate`: scores, pictures and a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.run_folder import RunFolder, keep_experiment, provenance, resolved_toml, write_json
from ssns.commands.scoring import known_truth, scored, swept_scores
from ssns.commands.segment import chosen_value
from ssns.commands.terminal import console, say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.report import COLUMNS, comparison, error_map, write_report
from ssns.volume import open_volume

Rows = dict[str, dict[str, float]]
"""Scores by what was scored."""


def evaluate_experiment(experiment: Experiment, *, more: Mapping[str, Mapping[str, float]] | None = None) -> Rows:
    """Score every part that has labels and was not learned from; ``more`` are rows of other origin, as a baseline."""
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    for part in found:
        if not folder.segmentation(part.name).exists():
            raise UserError(f"segmentation: none of {part.name} in {folder.path}: run `ssns segment` first")
    keep_experiment(experiment, folder)
    value, _ = chosen_value(folder)
    swept = experiment.segmentation.method.swept
    rows: Rows = {}
    pictures: list[tuple[str, Path]] = []
    for part in found:
        if part.role == "target" or part.source.labels is None:
            continue
        rows |= _score_part(experiment, folder, part, value)
        pictures += _pictures(folder, part)
    rows |= {name: dict(row) for name, row in (more or {}).items()}
    write_json(folder.scores, {"rows": rows, swept: value})
    write_report(
        folder.report,
        title=experiment.name,
        scores=rows,
        settings_toml=resolved_toml(experiment),
        versions=provenance(experiment)["versions"],
        pictures=pictures,
        notes=_notes(experiment, found, value),
    )
    _print(rows)
    say(f"evaluate: {folder.report}")
    return rows


def _score_part(experiment: Experiment, folder: RunFolder, part: Part, value: float) -> Rows:
    """The row at the chosen value and, on test, that of the best value in hindsight."""
    truth, known = known_truth(part)
    swept = experiment.segmentation.method.swept
    segmentation = open_volume(folder.segmentation(part.name)).read()
    with console.status(f"evaluate {part.name}"):
        rows = {
            f"{part.name}, {swept} {value:g}": scored(segmentation, experiment, truth, known).to_dict() | {swept: value}
        }
        if part.role == "test":
            table = swept_scores(open_volume(folder.affinities(part.name)).read(), experiment, truth, known)
            best = min(table, key=lambda each: table[each].voi_sum)
            rows[f"{part.name}, oracle {swept} {best:g}"] = table[best].to_dict() | {swept: best}
    return rows


def _pictures(folder: RunFolder, part: Part) -> list[tuple[str, Path]]:
    """Raw, truth and segmentation side by side, and where they disagree."""
    truth, known = known_truth(part)
    truth[~known] = 0
    segmentation = open_volume(folder.segmentation(part.name)).read()
    raw = part.source.raw.read(part.box)
    place = folder.path / part.name
    first = part.box.start[0]
    comparison(raw, truth, segmentation, place / "comparison.png", first_section=first)
    error_map(raw, truth, segmentation, place / "errors.png", first_section=first)
    return [
        (
            f"{part.name}: raw, ground truth, segments coloured as the neuron they cover most",
            place / "comparison.png",
        ),
        (f"{part.name}: amber where neurons are split, blue where segments merge them", place / "errors.png"),
    ]


def _notes(experiment: Experiment, found: list[Part], value: float) -> list[str]:
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
        f" are not scored; segment id 0 counts as in '{experiment.scoring.convention}'."
    )
    return notes


def _print(rows: Mapping[str, Mapping[str, Any]]) -> None:
    if not rows:
        say("evaluate: no part has labels to score against: set volumes.NAME.test")
        return
    width = max(len(name) for name in rows)
    titles = [column.title.partition(" (")[0] for column in COLUMNS]
    say(" " * width + "".join(f"{title:>11}" for title in titles))
    for name, row in rows.items():
        say(f"{name:<{width}}" + "".join(f"{row[column.key]:>11.4f}" for column in COLUMNS))
