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
from pydantic.fields import FieldInfo

from ssns.errors import UserError
from ssns.experiment.explaining import explain, listed
from ssns.experiment.models import VOLUME_FILES, Experiment
from ssns.presets import Preset, merged, preset_table
from ssns.segmentation import resolve_method
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
    _complete(table, Experiment)
    try:
        return Experiment.model_validate(table)
    except ValidationError as error:
        mistakes = "\n".join(f"  {explain(detail)}" for detail in error.errors())
        count = f"{error.error_count()} mistakes" if error.error_count() > 1 else "a mistake"
        given = f" with {', '.join(f'--{name}' for name in changes)}" if changes else ""
        raise UserError(f"experiment: {path}{given} has {count}:\n{mistakes}") from None


def _read(path: Path, changes: Mapping[str, Any], above: Sequence[Path] = ()) -> dict[str, Any]:
    """The settings of a file on top of those of the preset that it names, on top of those of the file in ``base``."""
    table = _parsed(path)
    known = set(_volumes(table))
    _spell_out_methods(table)
    for name, value in changes.items():
        _set(table, name.split("."), value)
        _spell_out_methods(table)
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
    _complete(below, Experiment)  # so that a type that is left out below is the one that is meant
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
    except UnicodeDecodeError:
        raise UserError(
            f"experiment: {path} is no text: name a TOML file; `ssns init RAW --labels LABELS` writes one"
        ) from None
    except tomllib.TOMLDecodeError as error:
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
    files = product(named, VOLUME_FILES)
    for place, key in [(table, "runs"), (table.get("transfer"), "checkpoint"), *files]:
        if isinstance(place, dict) and isinstance(place.get(key), str) and place[key] != "none":
            place[key] = _Written(place[key], folder)


def _resolved(settings: Any) -> Any:
    """Settings with absolute paths."""
    if isinstance(settings, dict):
        return {name: _resolved(value) for name, value in settings.items()}
    return settings.resolved() if isinstance(settings, _Written) else settings


def _spell_out_methods(table: dict[str, Any]) -> None:
    """Put the settings of methods in the place of their names, so that single ones can be changed."""
    settings = table.get("segmentation")
    if not isinstance(settings, dict):
        return
    if "method" in settings:
        settings["method"] = _spelled_out(settings["method"])
    if isinstance(settings.get("candidates"), list):
        settings["candidates"] = [_spelled_out(each) for each in settings["candidates"]]


def _spelled_out(method: Any) -> Any:
    return resolve_method(method).model_dump(mode="json") if isinstance(method, str) else method


def _complete(table: dict[str, Any], owner: BaseModel | type[BaseModel]) -> None:
    """Give components without a ``type`` what the default has, so that changing one setting changes no other.

    One with a type, be it that of the default, has the defaults of its type.
    """
    fields = (owner if isinstance(owner, type) else type(owner)).model_fields
    for name, value in table.items():
        if name not in fields or not isinstance(value, dict):
            continue
        default = getattr(owner, name) if isinstance(owner, BaseModel) else _default(fields[name])
        if not isinstance(default, BaseModel):
            continue
        tag = type_tag(type(default))
        if tag is None or "type" not in value:
            for key, own in default.model_dump(mode="json").items():
                if getattr(default, key) != _default(type(default).model_fields[key]) or key == "type":
                    value.setdefault(key, own)
            _complete(value, default)
        else:
            members = component_types(fields[name].annotation)
            _complete(value, next((each for each in members if type_tag(each) == value["type"]), type(default)))


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)
