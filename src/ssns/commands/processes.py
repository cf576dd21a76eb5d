"""The processes that train together, as torchrun starts them; a single one where it does not."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Whether this process keeps the books and talks to the user; others only train."""
    return os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
