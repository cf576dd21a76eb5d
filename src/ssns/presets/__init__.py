"""Settings that an experiment may start from: those of the paper's code, as tables in this folder."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Literal

Preset = Literal["paper-ws", "paper-ema", "paper-ema-ramp"]
"""The names of the tables."""


def preset_table(name: str) -> dict[str, Any]:
    """All settings of a preset that differ from the defaults; one that names another preset is on top of it."""
    table = tomllib.loads(files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    below = table.pop("preset", None)
    return table if below is None else merged(preset_table(below), table)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two tables as one, in which ``above`` decides; a component of another type replaces one as a whole."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and value.get("type") in (None, old.get("type")):
            value = merged(old, value)
        result[key] = value
    return result
