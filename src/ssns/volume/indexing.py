"""NumPy's basic indices of a lazy array: the box that has to be read, and what to take of it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

from ssns.errors import UserError


class IndexOutsideError(UserError, IndexError):
    """An index beyond the array. Python ends a loop over sections with it."""


def basic_index(index: Any, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[int | slice, ...]]:
    """What to read for an index, and the index into what was read.

    Args:
        index: Integers, slices and an ellipsis, negative ones from the end, alone or in a tuple.
        shape: Extent of the array.

    Returns:
        A slice per axis, both ends inside the array and step 1; and the integers and slices that give the result.

    Raises:
        UserError: The index is none of these, has too many parts, or reaches outside.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [place for place, part in enumerate(parts) if isinstance(part, EllipsisType)]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        raise UserError(
            f"index: wanted at most {len(shape)} integers and slices and one ellipsis, got {index!r}: leave some out"
        )
    place = dots[0] if dots else len(parts)
    parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + len(dots))
    found = [_along_axis(part, length) for part, length in zip(parts, shape, strict=True)]
    return tuple(read for read, _ in found), tuple(taken for _, taken in found)


def _along_axis(part: Any, length: int) -> tuple[slice, int | slice]:
    """What to read along one axis, and what to take of it."""
    try:
        if isinstance(part, slice):
            chosen = range(*part.indices(length))
            read = slice(min(chosen), max(chosen) + 1) if chosen else slice(0, 0)
            return read, slice(None, None, part.step)
        at = _whole(part)
    except (TypeError, ValueError):
        raise UserError(
            f"index: wanted integers, slices and an ellipsis, got {part!r}: read what holds it, such as volume[2:5],"
            " and index the array"
        ) from None
    if not -length <= at < length:
        raise IndexOutsideError(f"index: wanted {-length} to {length - 1} along this axis, got {at}: stay inside")
    return slice(at % length, at % length + 1), 0


def _whole(part: Any) -> int:
    """An integer of any kind; True and False are masks in NumPy, not 1 and 0."""
    if isinstance(part, bool):
        raise TypeError
    return operator.index(part)
