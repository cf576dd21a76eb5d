"""The kinds of error that a user can cause and mend."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class UserError(ValueError):
    """A mistake in input or settings, told as: argument, what was wanted, what came, how to fix it.

    The command line prints its message without a traceback (``--debug`` shows it).
    """

    exit_code: ClassVar[int] = 1
    """What the command line exits with."""


class Stopped(UserError):  # noqa: N818  no error: a wish of the user or the cluster
    """Work was asked to stop, and what is done is kept."""

    exit_code: ClassVar[int] = 130


def nearest(name: str, among: Iterable[str]) -> str:
    """`` (did you mean x?)``, or nothing where no name comes near."""
    matches = get_close_matches(name, list(among), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]}?)" if matches else ""
