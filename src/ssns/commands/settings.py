"""`ssns settings`: every key of an experiment, its default and its meaning."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, get_origin

import tomlkit
from pydantic import BaseModel

from ssns.commands.terminal import say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.settings import component_types, type_tag

Row = tuple[str, str, str]
"""Dotted key, default, description."""


def print_settings(section: str) -> None:
    """Print the settings whose key begins with ``section``."""
    everything = list(setting_rows(Experiment))
    rows = [row for row in everything if not section or f"{row[0]}.".startswith((f"{section}.", f"{section}["))]
    if not rows:
        near = difflib.get_close_matches(section, {row[0] for row in everything}, 3, 0.4)
        raise UserError(f"settings: there is no {section!r}; near it: {', '.join(near) or 'nothing'}")
    width = min(60, max(len(f"{key} = {default}") for key, default, _ in rows))
    for key, default, description in rows:
        say(f"{f'{key} = {default}' if default else key:<{width}}  # {description}")


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """Rows of a model and of the models in its fields; those of a choice follow the ``type`` that chooses them."""
    for name, field in model.model_fields.items():
        if name == "type":
            continue
        key = f"{prefix}{name}"
        members = component_types(field.annotation)
        default = ... if field.is_required() else field.get_default(call_default_factory=True)
        yield (
            key,
            _shown(default) if default is None or not members else "",
            (field.description or "") + _made_of(default),
        )
        if get_origin(field.annotation) is dict:
            key += ".NAME"
        elif get_origin(field.annotation) is tuple and members:
            key += "[]"
        for member in members:
            tag = type_tag(member)
            if tag is not None:
                meaning = (member.__doc__ or "").strip().splitlines()[0].replace("`", "")
                yield f"{key}.type", _shown(tag), meaning + (" (default)" if type(default) is member else "")
            yield from setting_rows(member, f"{key}.")


def _made_of(default: Any) -> str:
    """The types in a default that is a list of components."""
    lists = default.__dict__.values() if isinstance(default, BaseModel) else ()
    parts = [part for each in lists if isinstance(each, tuple) for part in each if isinstance(part, BaseModel)]
    return f" (default: {', '.join(str(type_tag(type(part))) for part in parts)})" if parts else ""


def _shown(default: Any) -> str:
    """A default as one would write it."""
    if default is ...:
        return "(needed)"
    if default is None:
        return "none"
    return str(tomlkit.item(default).as_string())
