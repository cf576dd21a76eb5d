"""Perturbations that move sections as cutting and mounting do: misalignment and folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ssns.errors import UserError
from ssns.perturb.carrying import IDENTITY
from ssns.perturb.draws import Count, CountRange, Probability, Range, chance, integers, uniform
from ssns.perturb.patch import Motion, Patch
from ssns.perturb.resampling import reflected, warp_sections
from ssns.space import Triple

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

Point = tuple[float, float]
"""A place in a section, y and x in voxels."""


def shift_sections(volume: Tensor, shifts: Tensor) -> Tensor:
    """out[z, y, x] = volume[z, y + dy, x + dx] with one whole-voxel shift per section, reflected outside.

    Args:
        volume: (..., z, y, x), any type, which is kept.
        shifts: dy and dx of each section, whole numbers (z, 2).
    """
    import torch

    shifts = shifts.to(volume.device)
    depth, height, width = volume.shape[-3:]
    sections = torch.arange(depth, device=volume.device)[:, None, None]
    rows = reflected(torch.arange(height, device=volume.device) + shifts[:, :1], height)
    columns = reflected(torch.arange(width, device=volume.device) + shifts[:, 1:], width)
    return volume[..., sections, rows[:, :, None], columns[:, None, :]]


def fold_field(
    shape: tuple[int, int],
    line: tuple[Point, Point],
    half_width: float,
    reach: float,
    decay: float,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Where the voxels of a folded section come from: tissue on both sides is drawn into the fold.

    At distance d from the line a voxel shows what was farther from it by ``(reach - half_width) - decay * (d -
    half_width)``, as long as that is positive; within ``half_width`` lies the fold itself.

    Args:
        shape: Extent (y, x).
        line: Two different points on the line of the fold; they may lie outside the section.
        half_width: Half the width of the fold in voxels.
        reach: Half the width of the tissue that the fold has swallowed, voxels; at least ``half_width``.
        decay: How much less far tissue moved, per voxel of distance.
        device: Of the results; None: the CPU.

    Returns:
        The displacement (2, y, x) for :func:`ssns.perturb.resampling.warp_sections`, and where the fold lies, bool
        (y, x).
    """
    import torch

    (y0, x0), (y1, x1) = line
    length = ((y1 - y0) ** 2 + (x1 - x0) ** 2) ** 0.5
    normal = ((x1 - x0) / length, (y0 - y1) / length)
    rows = torch.arange(shape[0], dtype=torch.float32, device=device)[:, None]
    columns = torch.arange(shape[1], dtype=torch.float32, device=device)
    signed = (rows - y0) * normal[0] + (columns - x0) * normal[1]
    distance = signed.abs()
    fold = distance <= half_width
    outside = ((reach - half_width) - decay * (distance - half_width)).clamp(min=0)
    along = torch.where(fold, distance, outside) * signed.sign()
    return torch.stack([along * normal[0], along * normal[1]]), fold


@dataclass(frozen=True, eq=False)
class SectionShifts:
    """The move of misaligned sections.

    Attributes:
        shifts: dy and dx of each section, int64 (z, 2).
    """

    shifts: Tensor

    exact: ClassVar = True
    linear: ClassVar = IDENTITY

    def apply(self, array: Tensor, /) -> Tensor:
        """Each section shifted, reflected outside."""
        return shift_sections(array, self.shifts) if bool(self.shifts.any()) else array

    def displacement(self, shape: Triple, device: torch.device) -> Tensor:
        """The shift of its section, at every voxel."""
        return self.shifts.T.float().to(device)[:, :, None, None].expand(2, *shape)


@dataclass(frozen=True)
class SectionFold:
    """One fold: the section it is in, and the arguments of :func:`fold_field` (reference 6.12)."""

    section: int
    line: tuple[Point, Point]
    half_width: float
    reach: float
    decay: float

    def field(self, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """What :func:`fold_field` gives for a section of ``shape`` (y, x)."""
        return fold_field(shape, self.line, self.half_width, self.reach, self.decay, device)


@dataclass(frozen=True)
class Folds:
    """The move of folded sections, at most one fold in each."""

    folds: tuple[SectionFold, ...]

    exact: ClassVar = False
    linear: ClassVar = IDENTITY

    def apply(self, array: Tensor, /) -> Tensor:
        """Each folded section warped; what lies in the fold is not darkened."""
        moved = array.clone()
        for fold in self.folds:
            displacement, _ = fold.field((array.shape[-2], array.shape[-1]), array.device)
            here = slice(fold.section, fold.section + 1)
            moved[..., here, :, :] = warp_sections(array[..., here, :, :], displacement[:, None])
        return moved

    def displacement(self, shape: Triple, device: torch.device) -> Tensor:
        """Towards the tissue that each fold has drawn in; 0 in the other sections."""
        import torch

        field = torch.zeros((2, *shape), device=device)
        for fold in self.folds:
            field[:, fold.section] = fold.field(shape[1:], device)[0]
        return field

    def hidden(self, like: Tensor) -> Tensor:
        """Where the folds lie, bool, of the shape (z, y, x) and on the device of ``like``."""
        import torch

        mask = torch.zeros_like(like, dtype=torch.bool)
        for fold in self.folds:
            mask[fold.section] = fold.field((like.shape[-2], like.shape[-1]), like.device)[1]
        return mask


class Misalign(Motion):
    """Sections out of place, by whole voxels: single ones (slip), or all from one on (shift).

    The first section never moves. Labels move along, so that the network learns to follow a neuron across.
    """

    type: Literal["misalign"] = Field("misalign", description="Sections out of place.")
    slip: Probability = Field(0.5, description="How often single sections slip; else all from one on are shifted.")
    section_probability: Probability = Field(0.2, description="Chance of a misalignment at each section.")
    largest: Count = Field(17, description="Largest displacement along y and along x, in voxels.")

    def draw(self, shape: Triple, generator: Generator) -> SectionShifts:
        """Shifts of the sections of a patch of ``shape`` (z, y, x)."""
        hit = chance(generator, self.section_probability, (shape[0],))
        hit[0] = False
        if bool(chance(generator, self.slip)):
            shifts = integers(generator, -self.largest, self.largest, (shape[0], 2))
        else:
            hit = hit.cumsum(0) > 0
            shifts = integers(generator, -self.largest, self.largest, (1, 2))
        return SectionShifts(shifts * hit[:, None])


class Fold(Motion):
    """Folded sections: a dark line, and on both sides of it tissue that was drawn into the fold.

    Labels are warped with the raw; those in the dark line, which lie under tissue from elsewhere, become unknown.
    """

    type: Literal["fold"] = Field("fold", description="Folded sections.")
    sections: CountRange = Field((1, 5), description="Number of folded sections.")
    half_width: CountRange = Field((5, 10), description="Half the width of the dark line in voxels.")
    reach: Count = Field(40, description="Largest half width of the swallowed tissue in voxels.")
    decay: Range = Field((1e-5, 0.1), description="How much less far tissue moved, per voxel of distance.")

    @model_validator(mode="after")
    def _swallows(self) -> Self:
        if self.reach <= self.half_width[1]:
            raise UserError(
                f"reach: wanted more than half_width, whose largest is {self.half_width[1]}, got {self.reach}: raise it"
            )
        return self

    def draw(self, shape: Triple, generator: Generator) -> Folds:
        """Folds for a patch of ``shape`` (z, y, x); a line may miss the patch and still pull at it."""
        import torch

        count = min(shape[0], int(integers(generator, *self.sections)))
        chosen = sorted(torch.randperm(shape[0], generator=generator)[:count].tolist())
        return Folds(tuple(self._draw_fold(section, shape, generator) for section in chosen))

    def _draw_fold(self, section: int, shape: Triple, generator: Generator) -> SectionFold:
        import torch

        # The line joins points on two sides of the section grown by the reach: top, bottom, left, right.
        low, (bottom, right) = float(-self.reach), (shape[1] - 1 + self.reach, shape[2] - 1 + self.reach)
        y, x = uniform(generator, low, bottom, (2,)).tolist(), uniform(generator, low, right, (2,)).tolist()
        sides = torch.randperm(4, generator=generator)[:2].tolist()
        ends = [((low, x[i]), (bottom, x[i]), (y[i], low), (y[i], right))[side] for i, side in enumerate(sides)]
        half_width = int(integers(generator, *self.half_width))
        reach = int(integers(generator, half_width + 1, self.reach))
        decay = float(uniform(generator, *self.decay))
        return SectionFold(section, (ends[0], ends[1]), half_width, reach, decay)

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Raw and labels warped alike, the folds dark and without labels."""
        folds = self.draw(patch.shape, generator)
        hidden = folds.hidden(patch.raw)
        moved = patch.moved(folds)
        return moved.with_raw(moved.raw.masked_fill(hidden, 0.0)).unknown_at(hidden)
