"""The pictures of perturbations.md: three neighbouring sections of synthetic EM, before (above) and after (below).

    python docs/make_pictures.py

Each family has its default settings but for the one that is set below, on the patch of the paper (18 x 160 x 160); seed
and sections are those that show it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ssns.perturb import (
    AnyPerturbation,
    Blur,
    CutOut,
    Elastic,
    FlipTranspose,
    Fold,
    Intensity,
    Misalign,
    MissingSection,
    MixUp,
    Noise,
    Patch,
    QuarterTurn,
    Rotation,
    Scale,
    Sobel,
    StrongBlur,
)
from ssns.synthetic import Defects, SyntheticSettings, synthesize

FOLDER = Path(__file__).parent / "pictures" / "perturbations"
GAP = 4
"""White pixels between sections."""
LEVELS = 64
"""Grey levels kept: a third less to store, and none to see."""

SHOWN: tuple[tuple[AnyPerturbation, int, int], ...] = (
    (Scale(), 1, 0),
    (FlipTranspose(), 3, 0),
    (QuarterTurn(), 1, 0),
    (Rotation(), 2, 0),
    (Intensity(), 0, 0),
    (Noise(), 0, 0),
    (Blur(), 8, 0),
    (CutOut(), 0, 8),
    (Sobel(), 0, 0),
    (MixUp(), 0, 0),
    (Misalign(), 2, 6),
    (Elastic(sigma=5), 0, 0),  # the default of 2 would hardly show
    (Fold(), 2, 9),
    (MissingSection(), 0, 4),
    (StrongBlur(), 1, 3),
)
"""Perturbation, seed, first of the three sections."""

NO_DEFECTS = Defects(
    jitter_voxels=0, jump_probability=0, missing_probability=0, repeated_probability=0, contrast_probability=0,
    fold_probability=0, blur_probability=0, contrast_spread=0,
)  # fmt: skip


def tissue() -> Patch:
    """A patch of synthetic EM without defects, its neighbour as partner."""
    raw, _ = synthesize(SyntheticSettings(shape=(18, 320, 320), voxel_size_nm=(30, 9, 9), seed=1, defects=NO_DEFECTS))
    gray = torch.from_numpy(raw[:, 160:]).float().div(255)
    return Patch(gray[..., :160], partner=gray[..., 160:])


def strip(raw: torch.Tensor, first: int) -> NDArray[np.uint8]:
    """Three sections side by side, as grey values."""
    gray = (raw[first : first + 3] * (LEVELS - 1)).round() * (255 / (LEVELS - 1))
    sections = [np.pad(section, ((0, 0), (0, GAP)), constant_values=255) for section in gray.byte().numpy()]
    return np.concatenate(sections, axis=1)[:, :-GAP]


def main() -> None:
    patch = tissue()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for perturbation, seed, first in SHOWN:
        after = perturbation.perturb(patch, torch.Generator().manual_seed(seed))
        above = np.pad(strip(patch.raw, first), ((0, GAP), (0, 0)), constant_values=255)
        picture = Image.fromarray(np.concatenate([above, strip(after.raw, first)]))
        picture.save(FOLDER / f"{perturbation.type}.png", optimize=True)


if __name__ == "__main__":
    main()
