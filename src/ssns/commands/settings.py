"""`ssns settings`: every key of an experiment, its default and its meaning."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import tomlkit
from pydantic import BaseModel

from ssns.commands.terminal import say
from ssns.errors import UserError
from ssns.experiment import Experiment, component_types

Row = tuple[str, str, str]
"""Dotted key, default, description."""


def print_settings(section: str) -> None:
    """Print the settings whose key begins with ``section``."""
    everything = list(setting_rows(Experiment))
    rows = [row for row in everything if not section or f"{row[0]}.".startswith((f"{section}.", f"{section} "))]
    if not rows:
        near = difflib.get_close_matches(section, {row[0].split()[0] for row in everything}, 3, 0.4)
        raise UserError(f"settings: there is no {section!r}; near it: {', '.join(near) or 'nothing'}")
    width = min(60, max(len(f"{key} = {default}") for key, default, _ in rows))
    for key, default, description in rows:
        say(f"{f'{key} = {default}' if default else key:<{width}}  # {description}")


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """Rows of a model and of the models in its fields; members of a choice are told apart by their ``type``."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = component_types(field.annotation)
        default = field.get_default(call_default_factory=True) if not field.is_required() else ...
        if name == "type":
            continue
        yield key, _shown(default, bool(inner)), field.description or ""
        if "dict" in str(field.annotation):
            key += ".NAME"
        for member in inner:
            tag = member.model_fields["type"].default if "type" in member.model_fields and len(inner) > 1 else None
            if tag is not None:
                yield f'{key} type = "{tag}"', "", (member.__doc__ or "").strip().splitlines()[0]
            yield from setting_rows(member, f"{key}.")


def _shown(default: Any, composed: bool) -> str:
    """A default as one would write it; that of a component is its type."""
    if default is ...:
        return "(needed)"
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return f'type = "{default.type}"' if hasattr(default, "type") else ""
    if isinstance(default, tuple) and composed and default:
        return ""
    return str(tomlkit.item(default).as_string())
