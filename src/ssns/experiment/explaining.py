"""Mistakes in an experiment file, told as where, what was wanted and what came."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ssns.experiment.models import Experiment
from ssns.settings import component_types, type_tag


def explain(detail: ErrorDetails) -> str:
    """One mistake as `where: what was wanted, what came`, with the nearest known word for an unknown one."""
    where, models, others = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        component, _, name = where.rpartition(".")
        owners = sorted(str(type_tag(model)) for model in others if name in model.model_fields)
        if owners:
            tag = type_tag(models[0])
            return (
                f"{where}: {tag} has no such setting, {' and '.join(owners)} has: leave it out, or replace all of"
                f" {component}: --{component} '{{ type = \"{tag}\" }}'"
            )
        known = sorted({field for model in models for field in model.model_fields})
        near = difflib.get_close_matches(name, known, 1)
        return f"{where}: there is no such setting; " + (f"did you mean {near[0]}?" if near else listed(known))
    if detail["type"] == "missing":
        return f"{where}: is missing"
    if detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
        known = sorted(filter(None, map(type_tag, models)))
        got = detail["input"].get("type", "none") if isinstance(detail["input"], dict) else detail["input"]
        near = difflib.get_close_matches(str(got), known, 1)
        return f"{where}.type: there is no {got!r}; " + (f"did you mean {near[0]!r}?" if near else listed(known))
    if detail["type"] in ("model_type", "model_attributes_type"):
        tags = sorted(filter(None, map(type_tag, models)))
        meant = next((tag for tag in tags if tag == detail["input"]), "…")
        wanted = f'a table, as {{ type = "{meant}" }}' if tags else f"a table of {', '.join(models[0].model_fields)}"
        return f"{where}: wanted {wanted}, got {detail['input']!r}" + (
            f"; {listed(tags)}" if meant == "…" and tags else ""
        )
    message = detail["msg"].removeprefix("Value error, ").removeprefix(f"{where.rpartition('.')[-1]}: ")
    return f"{where}: {message}" + ("" if " got " in message else f" (got {detail['input']!r})")


def listed(known: Sequence[str]) -> str:
    """Words that would have been right."""
    return f"known here: {', '.join(known)}"


def _place(location: Sequence[str | int]) -> tuple[str, list[type[BaseModel]], list[type[BaseModel]]]:
    """The dotted name of a place as a user writes it, the models that may stand there, and those of other types.

    Of the place of an unknown setting, the models are those that do not know it.
    """
    names: list[str] = []
    found: list[Any] = [Experiment]
    others: list[type[BaseModel]] = []
    for part in location:
        models = [model for annotation in found for model in component_types(annotation)]
        tagged = [model for model in models if type_tag(model) == part]
        if tagged:
            found, others = tagged, [model for model in models if model not in tagged]
            continue
        names.append(str(part))
        inner = [each for annotation in found for each in _inner_annotations(annotation, part)]
        found = inner or models
        others = [] if inner else others
    return ".".join(names), [model for annotation in found for model in component_types(annotation)], others


def _inner_annotations(annotation: Any, key: str | int) -> list[Any]:
    """What an annotation admits under a key: a field of a model, an entry of a mapping or a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(key))
        return [field.annotation] if field else []
    inner = get_args(annotation)
    if get_origin(annotation) is dict:
        return [inner[1]]
    if get_origin(annotation) is tuple:
        return [inner[0]]
    return [found for part in inner for found in _inner_annotations(part, key)]
