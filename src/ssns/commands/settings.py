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


MANY = 4
"""Choices that are listed once, and named where they come again."""


def print_settings(section: str) -> None:
    """Print the settings whose key begins with ``section``, long lists of choices once."""
    rows = [row for row in setting_rows(Experiment, within=section) if _is_in(row[0], section)]
    if not rows:
        everything = list(setting_rows(Experiment))
        for key, default, _ in everything:
            if default == _shown(section) and key.endswith(".type"):
                raise UserError(f"settings: {section!r} is a value of {key}: ssns settings {key.removesuffix('.type')}")
        near = difflib.get_close_matches(section, {row[0] for row in everything}, 3, 0.4)
        raise UserError(f"settings: there is no {section!r}; near it: {', '.join(near) or 'nothing'}")
    width = min(60, max(len(f"{key} = {default}") for key, default, _ in rows))
    for key, default, description in rows:
        say(f"{f'{key} = {default}' if default else key:<{width}}  # {description}")


def setting_rows(
    model: type[BaseModel],
    prefix: str = "",
    *,
    within: str | None = None,
    listed: dict[type[BaseModel], str] | None = None,
) -> Iterator[Row]:
    """Rows of a model and of the models in its fields; those of a choice follow the ``type`` that chooses them.

    Args:
        model: Whose fields are listed.
        prefix: Of their keys.
        within: The section in which a choice of `MANY` is listed but once; None: each is listed wherever it is.
        listed: Where models of such choices were listed before.
    """
    listed = {} if listed is None else listed
    for name, field in model.model_fields.items():
        if name == "type":
            continue
        key = f"{prefix}{name}"
        members = component_types(field.annotation)
        default = ... if field.is_required() else field.get_default(call_default_factory=True)
        many = within is not None and len(members) >= MANY and _is_in(key, within)
        again = many and all(member in listed for member in members)
        yield (
            key,
            _shown(default) if default is None or not members else "",
            (field.description or "") + _made_of(default) + (f" (choices: as {listed[members[-1]]})" if again else ""),
        )
        if again:
            continue
        if get_origin(field.annotation) is dict:
            key += ".NAME"
        elif get_origin(field.annotation) is tuple and members:
            key += "[]"
        if many:
            listed |= {member: key for member in members if member not in listed}
        for member in members:
            tag = type_tag(member)
            if tag is not None:
                meaning = (member.__doc__ or "").strip().splitlines()[0].replace("`", "")
                yield f"{key}.type", _shown(tag), meaning + (" (default)" if type(default) is member else "")
            yield from setting_rows(member, f"{key}.", within=within, listed=listed)


def _is_in(key: str, section: str) -> bool:
    """Whether a setting belongs to a section; all do to that without a name."""
    return not section or f"{key}.".startswith((f"{section}.", f"{section}["))


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
