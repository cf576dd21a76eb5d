"""`ssns import`: a checkpoint of the paper's code in, one of ours out, and what became of each of its keys."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ssns.checkpoint import RESTORED, save_checkpoint
from ssns.commands.terminal import say
from ssns.errors import UserError
from ssns.experiment.explaining import explain
from ssns.export.reference import Imported, read_reference

SECTION = "network."


def import_checkpoint(
    source: Path, output: Path | None = None, changes: Mapping[str, Any] | None = None, *, force: bool = False
) -> Path:
    """Write a checkpoint of the paper's code as one of ours, and say what was taken over; returns its path.

    Args:
        source: The published file.
        output: The file to write; None: beside the source, ending in ``.pt``.
        changes: Settings that weights do not tell, by dotted name: ``{"network.padding": "replicate"}``.
        force: Whether an older file is overwritten.

    Raises:
        UserError: The source is none that can be read, a setting is wrong, or the file is there already.
    """
    target = source.with_suffix(".pt") if output is None else output
    if target.resolve() == source.resolve():
        raise UserError(f"output: wanted another file than {source}: name one with -o")
    if target.exists() and not force:
        raise UserError(f"output: {target} is there already: name another with -o, or overwrite it with --force")
    imported = _read(source, changes or {})
    save_checkpoint(target, imported.checkpoint)
    _report(imported)
    say(f"written: {target}")
    file = shlex.quote(str(target))
    if imported.checkpoint.offsets == RESTORED:
        file = shlex.quote(str(target.resolve()))  # settings are relative to the folder of the experiment
        say(f"next: ssns train EXPERIMENT --transfer.checkpoint {file}; transfer.parts says what is taken over of it")
    else:
        say(f"next: ssns predict EXPERIMENT --checkpoint {file}")
    return target


def _read(source: Path, changes: Mapping[str, Any]) -> Imported:
    network = {name.removeprefix(SECTION): value for name, value in changes.items() if name.startswith(SECTION)}
    for name in changes:
        if not name.startswith(SECTION) and name != "offsets":
            raise UserError(f"--{name}: wanted --{SECTION}KEY or --offsets: nothing else is read from a checkpoint")
    try:
        return read_reference(source, network, changes.get("offsets"))
    except ValidationError as error:
        raise UserError("\n".join(explain(detail) for detail in error.errors())) from None


def _report(imported: Imported) -> None:
    """Every key, then the settings as an experiment has them."""
    checkpoint = imported.checkpoint
    for theirs, ours in imported.taken.items():
        shape = f" {tuple(checkpoint.weights[ours].shape)}" if ours in checkpoint.weights else ""
        say(f"{theirs}{shape} -> {ours}")
    for theirs, reason in imported.ignored.items():
        say(f"{theirs} ignored: {reason}")
    say(f"{len(checkpoint.weights)} tensors of a network that has done {checkpoint.step} steps; its settings:")
    network = checkpoint.network.model_dump(mode="json", exclude={"initializer"})
    for name, value in (network | {"offsets": checkpoint.offsets}).items():
        assumed = "  # the paper's; weights do not tell" if name in imported.assumed else ""
        say(f"{SECTION if name in network else ''}{name} = {json.dumps(value)}{assumed}")
    say(f'normalization.type = "{checkpoint.normalization.type}"  # the paper\'s')
