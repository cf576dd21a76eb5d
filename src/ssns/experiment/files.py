"""The experiment file: TOML in, settings out; unknown keys are refused with the nearest known one."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ssns.errors import UserError
from ssns.experiment.explaining import explain
from ssns.experiment.models import Experiment
from ssns.presets import Preset, merged, preset_table
from ssns.settings import component_types, type_tag


def load_experiment(path: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment file.

    Args:
        path: The TOML file. Relative paths in it, and in ``changes``, are relative to its folder.
        changes: Settings that replace those of the file, by dotted name: ``{"training.steps": 100}``.

    Raises:
        UserError: The file or one that it is based on is missing or no TOML, or a setting is unknown or wrong; every
            mistake is listed.
    """
    path = Path(path).absolute()
    table = _read(path, changes or {})
    _complete_types(table, Experiment)
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        mistakes = "\n".join(f"  {explain(detail)}" for detail in error.errors())
        count = f"{error.error_count()} mistakes" if error.error_count() > 1 else "a mistake"
        raise UserError(f"experiment: {path} has {count}:\n{mistakes}") from None


def _read(path: Path, changes: Mapping[str, Any], above: Sequence[Path] = ()) -> dict[str, Any]:
    """The settings of a file on top of those of the preset that it names, on top of those of the file in ``base``."""
    table = _parsed(path)
    for name, value in changes.items():
        _set(table, name.split("."), value)
    _resolve_paths(table, path.parent)
    below: dict[str, Any] = {}
    base, preset = table.get("base", "none"), table.get("preset", "none")
    if isinstance(base, str) and base != "none":
        if Path(base) in (path, *above):
            raise UserError(f"experiment: {path} is based on {base}, which is based on it: leave one base out")
        below = _read(Path(base), {}, (path, *above))
    if preset in get_args(Preset):
        below = merged(below, preset_table(preset))
    _complete_types(below, Experiment)  # so that a type that is left out below is the one that is meant
    return merged(below, table)


def _parsed(path: Path) -> dict[str, Any]:
    """The table in a file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"experiment: no file at {path}: `ssns init RAW --labels LABELS` writes one") from None
    except OSError as error:
        raise UserError(f"experiment: {path} cannot be read ({error.strerror}): name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"experiment: {path} is not TOML: {error}") from None


def _set(table: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"--{'.'.join(names)}: {name} is a value, it has no settings of its own")
    table[names[-1]] = value


def _resolve_paths(table: dict[str, Any], folder: Path) -> None:
    """Make all paths absolute, as seen from the file's folder; $NAME is of the environment."""
    table.setdefault("runs", "runs")
    _resolve(table, ("runs", "base"), folder)
    volumes = table.get("volumes")
    for volume in volumes.values() if isinstance(volumes, dict) else ():
        _resolve(volume, ("raw", "labels"), folder)
    _resolve(table.get("transfer"), ("checkpoint",), folder)


def _resolve(table: Any, keys: Sequence[str], folder: Path) -> None:
    for key in keys:
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key] != "none":
            table[key] = _resolved(table[key], folder)


def _resolved(path: str, folder: Path) -> str:
    expanded = os.path.expandvars(path)
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise UserError(f"{path}: the environment variable {unset[1]} is not set: set it to the folder that is meant")
    return os.path.normpath((folder / Path(expanded).expanduser()).absolute())


def _complete_types(table: dict[str, Any], model: type[BaseModel]) -> None:
    """Give components without a ``type`` that of the default, so that changing one setting needs no other."""
    for name, value in table.items():
        field = model.model_fields.get(name)
        default = field.get_default(call_default_factory=True) if field else None
        if field is None or not isinstance(default, BaseModel) or not isinstance(value, dict):
            continue
        tag = type_tag(type(default))
        if tag is not None:
            value.setdefault("type", tag)
        members = component_types(field.annotation)
        _complete_types(value, next((each for each in members if type_tag(each) == value.get("type")), type(default)))
