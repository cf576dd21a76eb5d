"""The experiment file as `ssns init` writes it: each setting with what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

import tomlkit

from ssns.experiment import Experiment, Region, Role, VolumeSettings
from ssns.files import write_text
from ssns.settings import component_types, type_tag


def write_experiment(path: Path, table: dict[str, Any], header: str) -> None:
    """Write settings as TOML, each with its description."""
    document = tomlkit.document()
    for line in header.splitlines():
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    _fill(document, table, Experiment)
    write_text(path, tomlkit.dumps(document))


def _fill(target: Any, table: dict[str, Any], annotation: Any) -> None:
    """Add values and sub-tables, each with the description of the field of ``annotation`` that it is."""
    named = get_args(annotation)[1] if get_origin(annotation) is dict else None
    models = (
        [] if named else [each for each in component_types(annotation) if type_tag(each) in (None, *table.values())]
    )
    for key, value in table.items():
        field = next((model.model_fields[key] for model in models if key in model.model_fields), None)
        inner = field.annotation if field else named
        if isinstance(value, dict) and component_types(inner) != [Region]:
            item: Any = tomlkit.table(is_super_table=get_origin(inner) is dict)
            _fill(item, value, inner)
        else:
            item = _inline(value)
        if field and field.description and get_origin(inner) is not dict:
            item.comment(field.description)
        target.add(key, item)
    for role in get_args(Role) if models == [VolumeSettings] else ():
        if role not in table:
            target.add(tomlkit.comment(f"{role}: {VolumeSettings.model_fields[role].description}"))


def _inline(value: Any) -> Any:
    """A value in one line; of tables, one line each."""
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table
    if isinstance(value, list) and value and isinstance(value[0], dict):
        array = tomlkit.array()
        array.extend(_inline(each) for each in value)
        return array.multiline(True)
    return tomlkit.item(value)
