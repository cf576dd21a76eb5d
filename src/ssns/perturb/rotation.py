"""Rotations in the plane: by quarter turns, which keep every voxel, and by any angle."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ssns.affinities import GridSymmetry
from ssns.perturb.carrying import Linear
from ssns.perturb.draws import integers, uniform
from ssns.perturb.patch import Motion
from ssns.perturb.resampling import warp_sections
from ssns.space import Triple

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

QUARTER_TURNS: tuple[GridSymmetry, ...] = (
    GridSymmetry(),
    GridSymmetry((False, False, True), transpose=True),
    GridSymmetry((False, True, True)),
    GridSymmetry((False, True, False), transpose=True),
)
"""The symmetry that is ``torch.rot90(volume, k, (-2, -1))``, at place k."""


@dataclass(frozen=True)
class Turn:
    """The move of a rotation about the centre of the sections, reflected outside.

    Attributes:
        angle: Degrees, in the direction of ``torch.rot90(volume, 1, (-2, -1))``: counter-clockwise on the screen.
    """

    angle: float

    exact: ClassVar = False

    @property
    def linear(self) -> Linear:
        """Displacements turn back."""
        turn = radians(self.angle)
        return (cos(turn), sin(turn)), (-sin(turn), cos(turn))

    def displacement(self, shape: Triple, device: torch.device | None = None) -> Tensor:
        """From each voxel to the place that it shows, dy and dx, float32 (2, 1, y, x), in voxels.

        Args:
            shape: Extent (z, y, x); all sections are displaced alike.
            device: Of the result; None: the CPU.
        """
        import torch

        turn = radians(self.angle)
        # cos - 1 without cancellation; the sums in double precision, so that single rounds them once.
        sine, versine = sin(turn), -2 * sin(turn / 2) ** 2
        y, x = (torch.arange(extent, dtype=torch.float64) - (extent - 1) / 2 for extent in shape[1:])
        down = versine * y[:, None] + sine * x
        across = versine * x - sine * y[:, None]
        return torch.stack([down, across])[:, None].float().to(device)

    def apply(self, array: Tensor, /) -> Tensor:
        """Each section turned."""
        shape = (array.shape[-3], array.shape[-2], array.shape[-1])
        return warp_sections(array, self.displacement(shape, array.device))


class QuarterTurn(Motion):
    """Turns by 0, 90, 180 or 270 degrees in the plane; no voxel is interpolated.

    A patch that is not square is turned by 0 or 180 degrees: all patches of a batch have one shape.
    """

    type: Literal["quarter_turn"] = Field("quarter_turn", description="Turns by 0, 90, 180 or 270 degrees.")

    def draw(self, shape: Triple, generator: Generator) -> GridSymmetry:
        """One of the quarter turns that keep ``shape`` (z, y, x)."""
        allowed = QUARTER_TURNS if shape[1] == shape[2] else QUARTER_TURNS[::2]
        return allowed[int(integers(generator, 0, len(allowed) - 1))]


class Rotation(Motion):
    """A turn by any angle about the centre of the patch; what it shows beyond the patch is reflected."""

    type: Literal["rotation"] = Field("rotation", description="A turn by any angle in the plane.")
    degrees: float = Field(180.0, ge=0, le=180, description="Largest angle, in both directions.")

    def draw(self, shape: Triple, generator: Generator) -> Turn:  # noqa: ARG002  an angle fits every shape
        """An angle, the same for all sections."""
        return Turn(float(uniform(generator, -self.degrees, self.degrees)))
