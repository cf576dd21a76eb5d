"""Which method segments, with which threshold: chosen on the validation parts, and kept in ``choice.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter

from ssns.commands.affinities import affinities_state
from ssns.commands.inputs import Part, labels_fingerprints
from ssns.commands.memory import bytes_per_voxel
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.scoring import Scored, ranked, swept_scores_of_pieces, weighted_means
from ssns.commands.terminal import progress_bar, say
from ssns.commands.truth import known_ids, known_truth, truths
from ssns.errors import UserError
from ssns.experiment import LEEWAY, Experiment
from ssns.files import write_json
from ssns.metrics import WORST, NothingSegmentedError
from ssns.report import Table
from ssns.segmentation import Method, learned, unlearned, value_of, without_value
from ssns.space import Box, triple
from ssns.volume import Volume

CONTEXT_BYTES = 4 * 10**9
"""Memory for what of another part is segmented to judge a validation part inside it: at most 100 million voxels, some
20 seconds for each method."""

GROWN = (64, 32, 16, 8, 4, 2, 1, 1 / 2, 1 / 4, 1 / 8)
"""By how many times its extent a validation part may grow to each side."""


def choose_method(
    experiment: Experiment,
    folder: RunFolder,
    found: Sequence[Part],
    affinities: Mapping[str, Volume],
    *,
    verify: bool = False,
) -> Method:
    """The first of those `ranked` on the validation parts; the experiment's own where nothing is known there.

    A validation part inside another one is judged as a piece of that: of neurons that a wrong contact joins, wherever
    it is, the part shows both, while in so few sections by itself it shows hardly any.

    Args:
        experiment: Says what is compared.
        folder: Where the choice is kept; one that is still valid is not made again.
        found: The parts; those of validation judge.
        affinities: Of each part, by its name.
        verify: Compare the data of labels, not only their size and time.
    """
    watched = [part for part in found if part.role == "validation"]
    contexts = _contexts(experiment, watched, found)
    stamp = folder.stamp("choice", partial(_inputs, experiment, folder, watched, contexts), verify=verify)
    if stamp.holds(folder.choice, "segment: the sweep"):
        return chosen_method(experiment, folder)
    keep_experiment(experiment, folder, "segment")
    settings = experiment.segmentation
    rows = []
    with stamp.renewed():
        methods = settings.swept(*_learned(experiment, watched, affinities)) if watched else ()
        for context in contexts:
            whole, box = context.whole, context.box
            judged = list(truths(context.judged, context.truth))
            if not judged:
                continue
            pieces = [(part.box.relative_to(box.start), truth, known) for part, truth, known in judged]
            names = ", ".join(part.name for part, *_ in judged)
            within = f" within {context}" if any(part.box != box for part in context.judged) else ""
            with progress_bar(f"segment {names}{within}: sweep") as bar:
                read = affinities[whole.name].read(box.relative_to(whole.box.start))
                scores = swept_scores_of_pieces(read, methods, experiment, pieces, nothing=WORST, tell=bar)
            rows += [(int(known.sum()), table) for (_, _, known), table in zip(pieces, scores, strict=True)]
        table = weighted_means(rows) if rows else {}
        chosen = ranked(table)[0] if table else settings.method
        if table and math.isinf(table[chosen]["voi_sum"]):
            raise NothingSegmentedError(
                "segmentation: wanted segments where validation labels are, got none with any method, and scoring ="
                f" {experiment.scoring!r} leaves segment 0 out: look at the affinities, or set another scoring"
            )
        content = _content(chosen, table, contexts)
        _tell(chosen, table, content["within"])
        write_json(folder.choice, content)
    return chosen


def chosen_method(experiment: Experiment, folder: RunFolder) -> Method:
    """The method that was chosen, if the experiment may still choose it.

    Raises:
        UserError: Nothing has been chosen, or another method than those of the experiment.
    """
    content = _kept(folder)
    settings = experiment.segmentation
    if content.get("others"):  # the sweep may have been asked for on the command line
        settings = settings.model_copy(update={"sweep": True})
    if "method" in content:
        chosen: Method = TypeAdapter(Method).validate_python(content["method"])
        # a value that was swept is no longer that of the experiment
        told = without_value if was_swept(folder) and settings.thresholds else lambda method: method
        compared = [told(method) for method in settings.compared]
        if told(chosen) in compared or unlearned(told(chosen)) in compared:
            return chosen
    other = f", but {content['name']} has" if "name" in content else ""
    raise UserError(
        f"segmentation: {method_name(experiment.segmentation.method)} has not been chosen in {folder.path}{other}:"
        " give the settings that `ssns segment` had, or run `ssns segment` first"
    )


def was_swept(folder: RunFolder) -> bool:
    """Whether the choice was made on validation parts."""
    return bool(_kept(folder).get("validation"))


def sweep_table(folder: RunFolder) -> Table | None:
    """All that was compared, for the page; None unless there were several methods."""
    content = _kept(folder)
    if not content.get("others"):
        return None
    rows = [(row["name"], row["validation"]) for row in [content, *content["others"]]]
    values = sorted({float(value) for _, scores in rows for value in scores})
    return Table(
        title="Methods on the validation regions",
        columns=("VOI sum (bits) at", *(f"{value:g}" for value in values)),
        rows=[
            (name, *(f"{scores[f'{value:g}']['voi_sum']:.4f}" if f"{value:g}" in scores else "–" for value in values))
            for name, scores in rows
        ],
        note="".join(f"{name} as a piece of {within}. " for name, within in content.get("within", {}).items())
        + f"Averaged over values within {LEEWAY:g}, the lowest is that of {content['name']} at"
        f" {content['value']:g}, which every part is segmented with."
        " choice.json, beside scores.json, has the other scores.",
    )


def method_name(method: Method) -> str:
    """A method by its type and those of its parts, and what is not a default but threshold and learned weights."""
    method = unlearned(method)
    words: list[str] = [method.type]
    for name, field in type(method).model_fields.items():
        value = getattr(method, name)
        if isinstance(value, BaseModel):
            kind = getattr(value, "type", "none")
            words += [*([] if kind == "none" else [kind]), *_unusual(value)]
        elif name != method.swept and value != field.default:
            words.append(f"{name} {value}")
    return ", ".join(words)


def _unusual(component: BaseModel) -> Iterator[str]:
    """Settings of a component that are not its defaults."""
    for name, field in type(component).model_fields.items():
        value = getattr(component, name)
        if value == field.default:
            continue
        if not isinstance(value, BaseModel):
            yield f"{name} {value}"
            continue
        if type(value) is not type(field.default):
            yield f"{name} {getattr(value, 'type', '')}"
        yield from _unusual(value)


def _learned(experiment: Experiment, watched: Sequence[Part], affinities: Mapping[str, Volume]) -> list[Method]:
    """What is compared, with affinities fitted to the validation parts where they have to be."""

    def samples() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for part, truth, known in truths(watched):
            yield affinities[part.name].read(), np.where(known, truth, 0)

    return learned(experiment.segmentation.compared, samples, offsets=experiment.offsets)


@dataclass(frozen=True, eq=False)
class _Context:
    """What is segmented at once to judge validation parts.

    Attributes:
        whole: The part whose affinities are taken.
        box: What of it is segmented, in voxels of raw.
        judged: Validation parts inside the box.
    """

    whole: Part
    box: Box
    judged: list[Part]

    def __str__(self) -> str:
        return f"{self.whole.name}, {self.box}"

    def truth(self, part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """What a part is judged by: in more than the part, two of its components may well be one neuron."""
        return known_truth(part) if part.box == self.box else known_ids(part)


def _contexts(experiment: Experiment, watched: Sequence[Part], found: Sequence[Part]) -> list[_Context]:
    """Each once, with all the validation parts that are judged in it."""
    contexts: dict[tuple[str, Box], _Context] = {}
    for part in watched:
        whole, box = _around(part, found, CONTEXT_BYTES // bytes_per_voxel(experiment, part))
        contexts.setdefault((whole.name, box), _Context(whole, box, [])).judged.append(part)
    return list(contexts.values())


def _around(part: Part, found: Sequence[Part], most: int) -> tuple[Part, Box]:
    """The largest part that holds a validation part, and what of it, of so many voxels, is segmented to judge that."""
    holding = [each for each in found if each.source.name == part.source.name and each.box.contains(part.box)]
    whole = max(holding, key=lambda each: each.box.size)
    for times in GROWN:
        box = part.box.grown(triple(int(times * n) for n in part.box.shape)).intersection(whole.box)
        if box.size <= most:
            return whole, box
    return part, part.box


def _inputs(
    experiment: Experiment,
    folder: RunFolder,
    watched: Sequence[Part],
    contexts: Sequence[_Context],
    hash_up_to: float,
) -> dict[str, Any]:
    """What a choice is made of."""
    labels = labels_fingerprints(watched, hash_up_to)
    settings = experiment.segmentation
    return {
        "method": settings.method.model_dump(mode="json"),
        "candidates": [method.model_dump(mode="json") for method in settings.compared[1:]],
        "thresholds": list(settings.thresholds),
        "scoring": experiment.scoring,
        "parts": {
            part.name: {
                "affinities": affinities_state(experiment, folder, part, hash_up_to),
                "labels": labels[part.source.name],
            }
            for part in watched
        },
        "around": {
            part.name: {
                "box": str(context.box),
                "affinities": affinities_state(experiment, folder, context.whole, hash_up_to),
            }
            for context in contexts
            for part in context.judged
            if context.whole.name != part.name
        },
    }


def _content(chosen: Method, table: Scored, contexts: Sequence[_Context]) -> dict[str, Any]:
    """What ``choice.json`` holds."""
    by_method: dict[Method, dict[str, Mapping[str, float]]] = {without_value(chosen): {}}
    for method, scores in table.items():
        by_method.setdefault(without_value(method), {})[f"{value_of(method):g}"] = scores
    first, *others = (
        {"name": method_name(method), "method": method.model_dump(mode="json"), "validation": scores}
        for method, scores in by_method.items()
    )
    return {
        "value": value_of(chosen),
        "swept": chosen.swept,
        **first,
        "method": chosen.model_dump(mode="json"),
        "others": others,
        "within": {part.name: str(each) for each in contexts for part in each.judged if part.box != each.box},
    }


def _kept(folder: RunFolder) -> dict[str, Any]:
    """``choice.json``, empty if there is none."""
    content: dict[str, Any] = json.loads(folder.choice.read_text()) if folder.choice.exists() else {}
    return content


def _tell(chosen: Method, table: Scored, within: Mapping[str, str]) -> None:
    """Say what is best, and of several methods the best of each; ``within``: what parts were pieces of."""
    setting = f"{chosen.swept} = {value_of(chosen):g}"
    if not table:
        say(f"segment: nothing to validate on, so {chosen.swept} stays at {value_of(chosen):g}")
        return
    best = ranked(table)
    if len(best) > 1:
        names = {method: method_name(method) for method in best}
        width = max(map(len, names.values()))
        say(f"{'segment: on validation':<{width}}        best at  VOI split  VOI merge    VOI sum      ARAND")
        for method, name in names.items():
            scores = (table[method][key] for key in ("voi_split", "voi_merge", "voi_sum", "arand"))
            cells = "".join(f"{score:>11.4f}" for score in scores)
            say(f"{name:<{width}}{f'{method.swept} {value_of(method):g}':>15}{cells}")
        setting = f"{method_name(chosen)} with {setting}"
    pieces = ", ".join(f"{name} as a piece of {whole.partition(',')[0]}" for name, whole in within.items())
    judged = f" ({pieces}, unlike `ssns evaluate`, which scores it by itself)" if pieces else ""
    say(f"segment: {setting} is best on validation, VOI sum {table[chosen]['voi_sum']:.3f}{judged}")
    side = untried_side(chosen, table)
    if side is not None:
        say(f"segment: no {side} {chosen.swept} was compared, and it may be better: segmentation.thresholds lists them")


def untried_side(chosen: Method, compared: Iterable[Method]) -> str | None:
    """On which side of the chosen value there was nothing to compare: ``lower``, ``higher`` or None."""
    values = [value_of(method) for method in compared if without_value(method) == without_value(chosen)]
    if len(values) < 2:
        return None
    value = value_of(chosen)
    return None if value in (0, 1) else {min(values): "lower", max(values): "higher"}.get(value)
