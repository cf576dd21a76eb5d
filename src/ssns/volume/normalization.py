"""From stored intensities to the [0, 1] that networks see."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ssns.errors import UserError
from ssns.settings import Component
from ssns.space import AXES, Box, triple
from ssns.volume.levelling import levelled

if TYPE_CHECKING:
    from ssns.volume import Volume

SAMPLES = 64
"""Boxes read to measure percentiles: enough for 0.1 % tails, and a matter of seconds on any volume."""

SAMPLE_SHAPE = (1, 256, 256)

SMALL_SHARE = 0.1
"""Of the range of a type: intensities within it, such as 12 bits in 16, are hardly told from each other."""


@dataclass(frozen=True, slots=True)
class IntensityRange:
    """The intensities that become 0 and 1.

    Attributes:
        low: Becomes 0; lower values too.
        high: Becomes 1; higher values too.
    """

    low: float
    high: float

    def apply(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Scale raw of any type linearly to float32 in [0, 1]."""
        scale = np.float32(1 / (self.high - self.low))
        scaled = (raw.astype(np.float32) - np.float32(self.low)) * scale
        return np.clip(scaled, 0, 1, out=scaled)


def intensity_range(ends: IntensityRange | Sequence[float]) -> IntensityRange:
    """The range that a user gave as two numbers.

    Raises:
        UserError: There are not two, or the first is not below the second.
    """
    pair = (ends.low, ends.high) if isinstance(ends, IntensityRange) else tuple(ends)
    if len(pair) != 2 or not all(isinstance(end, Real) for end in pair) or not -np.inf < pair[0] < pair[1] < np.inf:
        raise UserError(
            f"intensity: wanted what becomes 0 and what becomes 1, a larger number, got {pair}: as (40, 210)"
        )
    return IntensityRange(float(pair[0]), float(pair[1]))


def read_numbers(raw: Volume, box: Box) -> NDArray[Any]:
    """Raw of ``box``, without NaN.

    Raises:
        UserError: There is NaN; tells where.
    """
    data = raw.read(box)
    missing = np.isnan(data) if data.dtype.kind == "f" else np.zeros(0, bool)
    if missing.any():
        first = np.unravel_index(int(missing.argmax()), data.shape)
        where = ", ".join(f"{axis} {a + int(i)}" for axis, a, i in zip(AXES, box.start, first, strict=True))
        raise UserError(
            f"raw: wanted numbers, but {raw.path} holds NaN at {where} ({missing.sum()} of the {missing.size} voxels"
            f" of {box}): write an intensity there, such as the darkest, or crop raw"
        )
    return data


class PercentileNormalization(Component):
    """0 and 1 are percentiles of the volume's own intensities."""

    type: Literal["percentile"] = "percentile"
    low: float = Field(0.1, ge=0, lt=100, description="Percentile that becomes 0.")
    high: float = Field(99.9, gt=0, le=100, description="Percentile that becomes 1.")
    sections: Literal["as_stored", "levelled"] = Field(
        "as_stored", description="levelled: each section is first brought to one brightness and contrast."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise UserError(f"wanted low below high, got {self.low:g} and {self.high:g}: swap the two")
        return self

    def prepared(self, raw: Volume) -> Volume:
        """Raw as `measure`, and what scales it by the range, have to see it."""
        return levelled(raw) if self.sections == "levelled" else raw

    def measure(self, raw: Volume) -> IntensityRange:
        """Find the range from a fixed set of boxes spread over the volume.

        Raises:
            UserError: The boxes hold one single intensity, or NaN, which is told with its place.
        """
        low, high = (float(value) for value in np.percentile(_sample(raw), (self.low, self.high)))
        if not high > low:
            raise UserError(f"raw: wanted a volume with contrast, but {raw.path} has only {low:g} wherever it was read")
        return IntensityRange(low, high)


class TypeNormalization(Component):
    """0 and 1 are the ends of the stored type: uint8 is divided by 255, as in the paper's code."""

    type: Literal["dtype"] = "dtype"

    def prepared(self, raw: Volume) -> Volume:
        """Raw as it is."""
        return raw

    def measure(self, raw: Volume) -> IntensityRange:
        """The range of an integer type; [0, 1] for floats.

        Raises:
            UserError: Floats reach beyond [0, 1]. Integers in a small part of their type are warned of.
        """
        sample = _sample(raw)
        low, high = float(sample.min()), float(sample.max())
        instead = 'set normalization = { type = "percentile" }'
        if not np.issubdtype(raw.dtype, np.integer):
            if low < 0 or high > 1:
                raise UserError(
                    f"raw: wanted 0 to 1, as {raw.path} is {raw.dtype} and normalization.type is dtype, got {low:g} to"
                    f" {high:g}: {instead}"
                )
            return IntensityRange(0.0, 1.0)
        limits = np.iinfo(raw.dtype)
        if high - low < SMALL_SHARE * (limits.max - limits.min):
            warnings.warn(
                f"{raw.path} has intensities {low:g} to {high:g}, a small part of {raw.dtype}, which normalization.type"
                f" = dtype makes 0 to 1: networks see next to no contrast; {instead}",
                stacklevel=2,
            )
        return IntensityRange(float(limits.min), float(limits.max))


def _sample(raw: Volume) -> NDArray[Any]:
    """Intensities (n,) of a fixed set of boxes spread over the volume.

    Raises:
        UserError: They hold NaN, which is told with its place.
    """
    shape = triple(min(a, b) for a, b in zip(SAMPLE_SHAPE, raw.shape, strict=True))
    room = np.array(raw.shape) - np.array(shape)
    draws = np.random.default_rng(0)
    starts = {triple(draws.integers(0, room, endpoint=True)) for _ in range(SAMPLES)}
    return np.concatenate([read_numbers(raw, Box.of_shape(shape, start)).ravel() for start in sorted(starts)])


Normalization = Annotated[PercentileNormalization | TypeNormalization, Field(discriminator="type")]
"""The ways to scale raw that an experiment may name."""
