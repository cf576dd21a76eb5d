"""Compiled loops: the decorator that makes them, with a type that survives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

compiled = cast("Callable[[F], F]", numba.njit(cache=True, nogil=True, error_model="numpy"))
"""Compile at first call and keep the machine code on disk.

The file cache notices changes of the function's own module only: a kernel calls none of another module.
"""
