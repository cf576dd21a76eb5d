"""Perturbations of patches: what they look like, and how they are combined.

Kernels (functions of tensors, the drawn parameters given) and components (settings models that draw them) live side
by side in one module per family: ``geometry``, ``rotation``, ``intensity``, ``mixing``, ``occlusion``, ``sections``.
Adding one is its class, one line in the union of ``engine``, and its test. Nothing here imports torch before it is
used.
"""

from ssns.perturb.engine import (
    AnyPerturbation,
    Engine,
    OneOf,
    Sequence,
    default_augmentation,
    paper_families,
)
from ssns.perturb.geometry import Elastic, FlipTranspose, Scale
from ssns.perturb.intensity import Blur, Intensity, Noise, Sobel, StrongBlur
from ssns.perturb.mixing import MixUp
from ssns.perturb.occlusion import CutOut, MissingSection
from ssns.perturb.patch import Motion, Move, Patch, Perturbation
from ssns.perturb.rotation import QuarterTurn, Rotation, Turn
from ssns.perturb.sections import Fold, Misalign

__all__ = [
    "AnyPerturbation",
    "Blur",
    "CutOut",
    "Elastic",
    "Engine",
    "FlipTranspose",
    "Fold",
    "Intensity",
    "Misalign",
    "MissingSection",
    "MixUp",
    "Motion",
    "Move",
    "Noise",
    "OneOf",
    "Patch",
    "Perturbation",
    "QuarterTurn",
    "Rotation",
    "Scale",
    "Sequence",
    "Sobel",
    "StrongBlur",
    "Turn",
    "default_augmentation",
    "paper_families",
]
