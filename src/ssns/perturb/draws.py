"""Ranges as settings have them, and draws from them.

Every draw is made on the CPU, so that it is the same whatever device the patch is on; only noise, which is as large
as the patch, is made where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from ssns.errors import UserError

if TYPE_CHECKING:
    from torch import Generator, Tensor

Probability = Annotated[float, Field(ge=0, le=1)]


def _ordered(ends: tuple[Any, Any]) -> tuple[Any, Any]:
    low, high = ends
    if low > high:
        raise UserError(f"wanted a range (low, high), got ({low}, {high}): swap the two")
    return ends


Range = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(_ordered)]
"""Two real numbers, at least 0, the lower one first."""

UnitRange = Annotated[tuple[Probability, Probability], AfterValidator(_ordered)]
"""Two real numbers in 0 to 1, the lower one first."""

Count = Annotated[int, Field(ge=1)]

CountRange = Annotated[tuple[Count, Count], AfterValidator(_ordered)]
"""Two whole numbers, at least 1, the lower one first, both included."""


def chance(generator: Generator, probability: float, size: tuple[int, ...] = ()) -> Tensor:
    """Bools that are True with ``probability``: never at 0, always at 1."""
    import torch

    return torch.rand(size, generator=generator) < probability


def uniform(generator: Generator, low: float, high: float, size: tuple[int, ...] = ()) -> Tensor:
    """Float32 numbers, uniform over ``low`` to ``high``."""
    import torch

    return torch.rand(size, generator=generator) * (high - low) + low


def integers(generator: Generator, low: int, high: int, size: tuple[int, ...] = ()) -> Tensor:
    """Int64 numbers, uniform over ``low`` to ``high``, both included."""
    import torch

    return torch.randint(low, high + 1, size, generator=generator)


def normal_like(generator: Generator, volume: Tensor) -> Tensor:
    """Standard normal numbers of the shape, type and device of ``volume``.

    On another device than the generator's, a generator there is seeded by one draw.
    """
    import torch

    if volume.device != generator.device:
        seed = int(integers(generator, 0, 2**62))
        generator = torch.Generator(volume.device).manual_seed(seed)
    return torch.randn(volume.shape, generator=generator, dtype=volume.dtype, device=volume.device)


def rectangle(generator: Generator, shape: tuple[int, int]) -> tuple[slice, slice]:
    """A rectangle inside a section of ``shape`` (y, x): each side 0.3 to 0.7 of the section's, at least one voxel."""
    slices = []
    for extent in shape:
        side = max(1, int(integers(generator, int(0.3 * extent), int(0.7 * extent))))
        start = int(integers(generator, 0, extent - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]
