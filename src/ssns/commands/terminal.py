"""What verbs say to a person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ssns.commands.processes import is_first_process

console = Console(highlight=False, soft_wrap=True, emoji=False, quiet=not is_first_process())

SECONDS_BETWEEN_LINES = 60

_told: set[str] = set()


def say(text: str) -> None:
    """One line about what happens."""
    console.print(text, markup=False)


def warn(text: str) -> None:
    """One line about what may be wrong; once, though each stage of a run may find it again."""
    if text in _told:
        return
    _told.add(text)
    console.print(f"warning: {text}", style="yellow", markup=False)


class Bar:
    """How far long work is: a bar with the time left on a terminal, a line now and then in a log."""

    def __init__(self, text: str, progress: Progress) -> None:
        self._text = text
        self._progress = progress
        self._task = progress.add_task(text, total=None, rate="", note="")
        self._first: tuple[int, float] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` is done."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._told = (done, now), now
        first, begin = self._first
        rate = (done - first) / (now - begin) if now > begin else 0.0
        self._progress.update(self._task, completed=done, total=total, rate=f"{rate:.2f}/s" if rate else "", note=note)
        if not console.is_terminal and (now - self._told >= SECONDS_BETWEEN_LINES or done == total):
            self._told = now
            words = [f"{done} of {total}"]
            if rate:
                words += [f"{rate:.2f}/s", f"{(total - done) / rate / 60:.0f} min left"][: 1 + (done < total)]
            say(f"{self._text}: {', '.join([*words, note] if note else words)}")


@contextmanager
def progress_bar(text: str) -> Iterator[Bar]:
    """A bar for work whose extent is known when it is first updated."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bar(text, progress)
