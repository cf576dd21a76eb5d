"""`ssns evaluate`: scores, pictures and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssns.commands.affinities import open_affinities
from ssns.commands.choosing import chosen_method, method_name, sweep_table, was_swept
from ssns.commands.inputs import Part, Source, labels_fingerprints, open_sources, parts
from ssns.commands.judging import Judgement, judge
from ssns.commands.objects import ObjectRow, in_words, worst_first, worst_neurons, worst_table, write_objects
from ssns.commands.provenance import keep_experiment, provenance, resolved_toml
from ssns.commands.run_folder import RunFolder
from ssns.commands.scoring import swept_scores
from ssns.commands.segment import segmentation_stamp
from ssns.commands.showing import show_middle
from ssns.commands.stamps import Stamp, artefact_state, file_state, shown
from ssns.commands.taught import taught_parts, teachers_experiment
from ssns.commands.terminal import console, say, warn
from ssns.commands.truth import known_truth
from ssns.errors import UserError
from ssns.experiment import LEEWAY, Experiment
from ssns.files import write_json
from ssns.metrics import swc_files
from ssns.report import COLUMNS, chosen_sections, comparison, curves, error_map, write_report
from ssns.segmentation import Method, value_of
from ssns.training import PseudoLabelObjective
from ssns.volume import Volume, open_volume

FORMAT = 3
"""Counted up where ``scores.json``, ``objects.csv`` or the page hold something else than before."""

WORST_SHOWN, WORST_TOLD = 10, 3
"""Neurons in the report, and on the terminal."""

Rows = dict[str, dict[str, float]]
"""Scores by what was scored."""

Pictures = list[tuple[str, Path]]
"""Captions and files."""


def evaluate_experiment(
    experiment: Experiment, *, more: Mapping[str, Mapping[str, float]] | None = None, verify: bool = False
) -> Rows:
    """Score every validation and test part that has labels or skeletons, and show the others.

    Args:
        experiment: The experiment.
        more: Rows of other origin for the table, as those of a baseline.
        verify: Compare the data of labels, not only their size and time.
    """
    folder = RunFolder.of(experiment)
    sources = open_sources(experiment)
    found = parts(experiment, sources)
    for part in found:
        if not folder.segmentation(part.name).exists():
            raise UserError(f"segmentation: none of {part.name} in {folder.path}: run `ssns segment` first")
        open_affinities(experiment, folder, part)
    method = chosen_method(experiment, folder)
    stamp = _stamp(experiment, folder, found, method, more or {}, verify=verify)
    if stamp.holds(folder.report, "evaluate"):
        kept = json.loads(folder.scores.read_text())
        rows: Rows = kept["rows"]
        _print(rows, [ObjectRow(**row) for row in kept["worst"]])
        return rows
    keep_experiment(experiment, folder, "evaluate")
    with stamp.renewed():
        rows, pictures, objects = _judge(experiment, folder, found, method)
        rows |= {name: dict(row) for name, row in (more or {}).items()}
        objects = worst_first(objects)
        worst = worst_neurons(objects, WORST_SHOWN)
        write_objects(folder.objects, objects)
        write_json(folder.scores, {"rows": rows, "swept": value_of(method), "worst": [row._asdict() for row in worst]})
        write_report(
            folder.report,
            title=experiment.name,
            scores=rows,
            settings_toml=resolved_toml(experiment),
            versions=provenance(experiment)["versions"],
            pictures=[*pictures, *_training_curves(folder), *_pseudo_labels(experiment, folder, sources)],
            notes=_notes(experiment, folder, method),
            tables=[table for table in (sweep_table(folder), worst_table(worst) if worst else None) if table],
        )
    _print(rows, worst)
    say(f"evaluate: {folder.report}")
    return rows


def _stamp(
    experiment: Experiment,
    folder: RunFolder,
    found: Sequence[Part],
    method: Method,
    more: Mapping[str, Mapping[str, float]],
    *,
    verify: bool,
) -> Stamp:
    """What scores and report are made of.

    Raises:
        UserError: A segmentation is not what the experiment says by now.
    """
    for part in found:
        changes = segmentation_stamp(experiment, folder, part, method).differences()
        if changes != []:
            why = "is unfinished" if changes is None else f"was made before a change of {shown(changes)}"
            raise UserError(f"segmentation: that of {part.name} {why}: run `ssns segment` first")

    def describe(hash_up_to: float) -> dict[str, Any]:
        labels = labels_fingerprints(found, hash_up_to)
        return {
            "format": FORMAT,
            "method": method.model_dump(mode="json"),
            "thresholds": list(experiment.segmentation.thresholds),
            "scoring": experiment.scoring,
            "more": {name: dict(row) for name, row in more.items()},
            "parts": {
                part.name: {
                    "segmentation": artefact_state(folder.segmentation(part.name)),
                    "labels": labels[part.source.name],
                    "skeletons": _skeleton_files(part),
                }
                for part in found
            },
        }

    return folder.stamp("scores", describe, verify=verify)


def _skeleton_files(part: Part) -> dict[str, Any] | None:
    """What tells whether the skeletons have changed."""
    given = part.source.settings.skeletons
    if given is None:
        return None
    return {file.name: file_state(file) for file in swc_files(given)}


def _judge(
    experiment: Experiment, folder: RunFolder, found: Sequence[Part], method: Method
) -> tuple[Rows, Pictures, list[ObjectRow]]:
    """Scores and objects of the parts that can be scored, and pictures of all."""
    rows: Rows = {}
    pictures: Pictures = []
    objects: list[ObjectRow] = []
    for part in found:
        if part.role == "target" or (part.source.labels is None and part.source.settings.skeletons is None):
            pictures.append(_show(folder, part))
            if part.role == "test":
                warn(f"{part.name}: volumes.{part.source.name} has no labels, so it is not scored")
            continue
        with console.status(f"evaluate {part.name}"):
            segmentation = open_volume(folder.segmentation(part.name))
            sections = chosen_sections(part.box.shape[0])
            judged = judge(part, segmentation, experiment.scoring, sections)
            if judged.scores:
                rows[f"{part.name}, {_setting(method)}"] = judged.scores | {method.swept: value_of(method)}
            if judged.overlaps is None:
                pictures.append(_show(folder, part))
                continue
            objects += judged.objects
            if part.role == "test":
                rows |= _oracle(experiment, folder, part, method)
            pictures += _compare(folder, part, segmentation, sections, judged)
    return rows, pictures, objects


def _setting(method: Method) -> str:
    """The swept setting of a method, and its value."""
    return f"{method.swept} {value_of(method):g}"


def _oracle(experiment: Experiment, folder: RunFolder, part: Part, method: Method) -> Rows:
    """The row of the value that is best in hindsight."""
    affinities = open_affinities(experiment, folder, part).read()
    methods = experiment.segmentation.swept(method)
    table = swept_scores(affinities, methods, experiment, *known_truth(part))
    best = min(table, key=lambda each: table[each].voi_sum)
    return {f"{part.name}, oracle {_setting(best)}": table[best].to_dict() | {best.swept: value_of(best)}}


def _compare(
    folder: RunFolder, part: Part, segmentation: Volume, sections: Sequence[int], judged: Judgement
) -> Pictures:
    """Raw, truth (0 where nothing is known) and segmentation side by side, and where they disagree."""
    assert judged.sections is not None, "the caller has looked"
    begin = part.box.start[0]
    raw = np.stack([part.source.raw[begin + z, *part.box.slices[1:]] for z in sections])
    segments = np.stack([segmentation[z] for z in sections])
    side_by_side, errors = (folder.path / part.name / name for name in ("comparison.png", "errors.png"))
    for draw, path in ((comparison, side_by_side), (error_map, errors)):
        draw(raw, judged.sections, segments, path, numbers=[begin + z for z in sections], overlaps=judged.overlaps)
    return [
        (f"{part.name}: raw, ground truth, segments coloured as the neuron they cover most", side_by_side),
        (f"{part.name}: amber where neurons are split, blue where segments merge them", errors),
    ]


def _show(folder: RunFolder, part: Part) -> tuple[str, Path]:
    """Raw and segments side by side, in the middle of a part without labels."""
    segmentation, path = open_volume(folder.segmentation(part.name)), folder.path / part.name / "segments.png"
    box = show_middle(path, part, lambda middle: [segmentation.read(middle)])
    return f"{part.name}: raw and segments, {box}", path


def _pseudo_labels(experiment: Experiment, folder: RunFolder, sources: Mapping[str, Source]) -> Pictures:
    """What was learned beside labels, if that was a segmentation."""
    if not isinstance(experiment.objective, PseudoLabelObjective) or not folder.certainty.is_file():
        return []
    return [
        (f"{part.name}, pseudo-labels: raw, cautious and bold segments", path)
        for part in taught_parts(teachers_experiment(experiment, sources), sources)
        if (path := folder.pseudo_labels_picture(part.name)).is_file()
    ]


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


def _notes(experiment: Experiment, folder: RunFolder, method: Method) -> list[str]:
    setting, notes = f"{method_name(method)} with {method.swept} = {value_of(method):g}", []
    if was_swept(folder):
        notes.append(
            f"{setting} has the lowest VOI sum of the sweep on the validation regions, averaged over values within"
            f" {LEEWAY:g} of it, as the very best may be the last before all merges; regions inside a part that is"
            " segmented are judged there as a piece of it. An oracle row shows the best"
            f" {method.swept} of the sweep on the scored labels themselves: a bound, not a result."
        )
    else:
        notes.append(f"{setting} is as the experiment says: there was nothing to validate on.")
    notes.append(
        "Ground truth is relabelled into 26-connected components within each scored box; background and unknown voxels"
        f" are not scored; segment id 0 counts as in '{experiment.scoring}'."
    )
    return notes


def _print(rows: Mapping[str, Mapping[str, Any]], worst: Sequence[ObjectRow]) -> None:
    if not rows:
        say("evaluate: no validation or test region has labels, so nothing is scored: set volumes.NAME.test")
        return
    for each in worst[:WORST_TOLD]:
        say(in_words(each))
    width = max(len(name) for name in rows)
    titles = {column.key: f"{column.title.partition(' (')[0]:>8}" for column in COLUMNS}
    say(" " * width + "".join(f"  {title}" for title in titles.values()))
    for name, row in rows.items():
        cells = {key: f"{row[key]:.4f}" if key in row else "–" for key in titles}
        say(f"{name:<{width}}" + "".join(f"  {cells[key]:>{len(title)}}" for key, title in titles.items()))
