"""The kinds of error that a user can cause and mend."""

from typing import ClassVar


class UserError(ValueError):
    """A mistake in input or settings, told as: argument, what was wanted, what came, how to fix it.

    The command line prints its message without a traceback (``--debug`` shows it).
    """

    exit_code: ClassVar[int] = 1
    """What the command line exits with."""
