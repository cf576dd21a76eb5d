"""What verbs say to a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line about what happens."""
    console.print(text, markup=False)


def warn(text: str) -> None:
    """One line about what may be wrong."""
    console.print(f"warning: {text}", style="yellow", markup=False)


class Bar:
    """A progress bar, updated with ``done`` of ``total``."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` is done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bar(text: str) -> Iterator[Bar]:
    """A bar with the time left, for work whose extent is known when it is first updated."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        yield Bar(progress, progress.add_task(text, total=None))
