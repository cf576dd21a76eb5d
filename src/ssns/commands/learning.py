"""A stage that learns: begin, go on, or skip; what `train` and `pretrain` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssns.commands.processes import is_first_process, processes
from ssns.commands.stamps import Stamp, shown
from ssns.commands.terminal import say
from ssns.training import TrainingSettings

LOOP_ONLY = {
    "log_every", "save_every", "preview_every", "validate_every", "validation_share", "device", "threads",
}  # fmt: skip
"""Settings of a training that one under way may go on without, or with others."""


def learned_once(name: str, stamp: Stamp, training: TrainingSettings, learn: Callable[[], None]) -> Path:
    """Learn, or go on, or say that it is done; returns the path of the best checkpoint.

    The stamp is written before the first step: it says whether checkpoints of a killed training may be gone on from. Of
    several processes the first one keeps the books, and the others do as it says.

    Args:
        name: Of the stage, for the user.
        stamp: What the weights are made of; checkpoints are in its folder.
        training: Settings of the loop.
        learn: Trains in that folder; from its ``last.pt``, if there is one.
    """
    folder = stamp.path.parent
    if _as_the_first_process(is_first_process() and _begin(name, folder, stamp), training):
        learn()
        if is_first_process():
            (folder / "done").touch()
        _as_the_first_process(True, training)  # nobody goes on before that is written
    return folder / "best.pt"


def _as_the_first_process(answer: bool, training: TrainingSettings) -> bool:
    """What the first process answers, to all of them, when all have come here."""
    if processes() == 1:
        return answer
    from ssns.training.fabric import as_the_first_process

    return bool(as_the_first_process(answer, training))


def learned_settings(training: dict[str, Any]) -> dict[str, Any]:
    """The settings of a training that its weights depend on."""
    return {key: value for key, value in training.items() if key not in LOOP_ONLY}


def _begin(name: str, folder: Path, stamp: Stamp) -> bool:
    """Make the folder ready; False where there is nothing to do."""
    changes = stamp.differences()
    if changes == [] and stamp.verify:
        stamp.write()  # what was compared: the hashes, and the present times of files
    if changes == [] and (folder / "done").exists():
        if (folder / "best.pt").is_file():
            say(f"{name}: skipped, {folder / 'best.pt'} is up to date")
            return False
        changes = ["best.pt"]
    if changes != []:
        if folder.exists():
            _set_aside(name, folder, changes)
        stamp.write()
    return True


def _set_aside(name: str, folder: Path, changes: list[str] | None) -> None:
    """Keep a training of other settings, or of unknown ones, under another name."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    folder.rename(aside)
    what = "there is no record of its settings" if changes is None else f"{shown(changes)} changed"
    say(f"{name}: {what} since the last time, which is kept in {aside}")
