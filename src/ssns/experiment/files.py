"""The experiment file: TOML in, settings out; unknown keys are refused with the nearest known one."""

from __future__ import annotations

import copy
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ssns.errors import UserError
from ssns.experiment.explaining import explain, listed
from ssns.experiment.models import Experiment
from ssns.presets import Preset, merged, preset_table
from ssns.settings import component_types, type_tag
from ssns.zoo import PREFIX


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
    table = _resolved(_read(path, copy.deepcopy(dict(changes or {}))))
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
    known = set(_volumes(table))
    for name, value in changes.items():
        _set(table, name.split("."), value)
    _mark_paths(table, path.parent)
    below: dict[str, Any] = {}
    base, preset = table.get("base", "none"), table.get("preset", "none")
    if isinstance(base, str) and base != "none":
        table["base"] = base = _Written(base, path.parent).resolved()
        if Path(base) in (path, *above):
            raise UserError(f"experiment: {path} is based on {base}, which is based on it: leave one base out")
        below = _read(Path(base), {}, (path, *above))
    if preset in get_args(Preset):
        below = merged(below, preset_table(preset))
    _complete_types(below, Experiment)  # so that a type that is left out below is the one that is meant
    return _without_left_out(merged(below, table), known | set(_volumes(below)))


def _volumes(table: Mapping[str, Any]) -> dict[str, Any]:
    """The volumes in a table but for those that are "none"."""
    volumes = table.get("volumes")
    return {name: volume for name, volume in volumes.items() if volume != "none"} if isinstance(volumes, dict) else {}


def _without_left_out(table: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The settings without the volumes that are "none"; only ``known`` ones can be left out."""
    kept = _volumes(table)
    if not isinstance(table.get("volumes"), dict) or kept == table["volumes"]:
        return table
    for name in sorted(table["volumes"].keys() - kept - known):
        raise UserError(f"volumes.{name}: there is no such volume to leave out; {listed(sorted(known))}")
    return table | {"volumes": kept}


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


@dataclass(frozen=True)
class _Written:
    """A path as a file has it.

    Attributes:
        path: With $NAME of the environment, and perhaps relative.
        folder: That of the file, which it is relative to.
    """

    path: str
    folder: Path

    def resolved(self) -> str:
        """The absolute path; names of the zoo as they are."""
        if self.path.startswith(PREFIX):
            return self.path
        expanded = os.path.expandvars(self.path)
        unset = re.search(r"\$\{?(\w+)", expanded)
        if unset:
            raise UserError(
                f"{self.path}: the environment variable {unset[1]} is not set: set it to the folder that is meant"
            )
        return os.path.normpath((self.folder / Path(expanded).expanduser()).absolute())


def _mark_paths(table: dict[str, Any], folder: Path) -> None:
    """Note with each path what it is relative to; it is resolved only if no file on top of this one replaces it."""
    table.setdefault("runs", "runs")
    volumes = table.get("volumes")
    named = volumes.values() if isinstance(volumes, dict) else ()
    files = product(named, ("raw", "labels", "skeletons"))
    for place, key in [(table, "runs"), (table.get("transfer"), "checkpoint"), *files]:
        if isinstance(place, dict) and isinstance(place.get(key), str) and place[key] != "none":
            place[key] = _Written(place[key], folder)


def _resolved(settings: Any) -> Any:
    """Settings with absolute paths."""
    if isinstance(settings, dict):
        return {name: _resolved(value) for name, value in settings.items()}
    return settings.resolved() if isinstance(settings, _Written) else settings


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
