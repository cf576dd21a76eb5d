"""Defects of serial sections, as numbers: what each section of a volume suffers.

A section's own draws depend on (seed, index) alone. Displacements and folds are applied where the tissue is sampled, so
that labels move with raw; the rest to grey values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssns.synthetic.settings import Defects

STREAM = 7
"""Tells the draws of sections from those of the tissue."""
LARGEST_HIDDEN = 30.0
"""Voxels of tissue that a fold hides at most."""


@dataclass(frozen=True, slots=True)
class Fold:
    """A fold: a line across the section beyond which tissue has moved closer, hidden under a dark band.

    Attributes:
        point: A point of the line, y and x in voxels.
        normal: Direction across the line, y and x, of length 1.
        hidden: Width of the tissue that the fold hides, in voxels.
        band: Half the width of the dark band, in voxels.
        darkness: Share of light that the band takes.
    """

    point: tuple[float, float]
    normal: tuple[float, float]
    hidden: float
    band: float
    darkness: float

    def across(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Signed distance from the (slightly wavy) line in voxels, shape of ``y`` and ``x`` broadcast."""
        dy, dx = y - self.point[0], x - self.point[1]
        along = dx * self.normal[0] - dy * self.normal[1]
        return dy * self.normal[0] + dx * self.normal[1] + 4.0 * np.sin(along / 40.0)

    def displacement(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """How far along y and x the tissue shown at ``y``, ``x`` was before the section folded."""
        amount = 0.5 * self.hidden * np.clip(self.across(y, x) / self.band, -1.0, 1.0)
        return amount * self.normal[0], amount * self.normal[1]

    def shade(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of light that passes, 1 outside the band."""
        depth = np.clip(2.0 - 2.0 * np.abs(self.across(y, x)) / self.band, 0.0, 1.0)
        return 1.0 - self.darkness * depth


@dataclass(frozen=True, slots=True)
class Section:
    """What one section of the stack shows.

    Attributes:
        plane: Section of the tissue that it shows: its own, or the one before where it was replaced.
        shift: Displacement along y and x in voxels: voxel p shows the tissue at p + shift.
        contrast: Factor of grey values about the middle.
        brightness: Added to grey values.
        blur: Standard deviation of defocus in voxels, 0 where sharp.
        blank: Whether it was lost and is black.
        fold: Its fold, if any.
    """

    plane: int
    shift: tuple[float, float]
    contrast: float
    brightness: float
    blur: float
    blank: bool
    fold: Fold | None


def plan_sections(settings: Defects, seed: int, shape: tuple[int, int, int]) -> list[Section]:
    """Draw what every section of a volume suffers, in order.

    Args:
        settings: Chances and sizes.
        seed: Of the volume.
        shape: Of the volume (z, y, x); folds cross it.
    """
    sections: list[Section] = []
    offset = np.zeros(2)
    for index in range(shape[0]):
        rng = np.random.default_rng([seed, STREAM, index])
        chance = rng.random(6)
        if chance[0] < settings.jump_probability:
            offset = rng.uniform(-settings.jump_voxels, settings.jump_voxels, 2)
        shift = offset + settings.jitter_voxels * rng.standard_normal(2).clip(-3.0, 3.0)
        faint = 0.45 if chance[3] < settings.contrast_probability else 1.0
        spread = settings.contrast_spread * rng.standard_normal(2).clip(-3.0, 3.0)
        section = Section(
            plane=index,
            shift=(float(shift[0]), float(shift[1])),
            contrast=faint * float(1.0 + spread[0]),
            brightness=float(128.0 * spread[1]),
            blur=settings.blur_voxels if chance[4] < settings.blur_probability else 0.0,
            blank=bool(chance[1] < settings.missing_probability),
            fold=_draw_fold(rng, shape) if chance[5] < settings.fold_probability else None,
        )
        repeated = sections and chance[2] < settings.repeated_probability and not section.blank
        sections.append(sections[-1] if repeated else section)
    return sections


def largest_shift(settings: Defects) -> float:
    """Voxels that tissue may be displaced along y or x at most."""
    return settings.jump_voxels + 3.0 * settings.jitter_voxels + 0.5 * LARGEST_HIDDEN


def _draw_fold(rng: np.random.Generator, shape: tuple[int, int, int]) -> Fold:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return Fold(
        point=(float(rng.uniform(0.0, shape[1])), float(rng.uniform(0.0, shape[2]))),
        normal=(float(np.cos(angle)), float(np.sin(angle))),
        hidden=float(rng.uniform(6.0, LARGEST_HIDDEN)),
        band=float(rng.uniform(5.0, 12.0)),
        darkness=float(rng.uniform(0.45, 0.75)),
    )
