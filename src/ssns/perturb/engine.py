"""How perturbations are combined: one after the other, or one of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ssns.perturb.draws import integers
from ssns.perturb.geometry import Elastic, FlipTranspose, Scale
from ssns.perturb.intensity import Blur, Intensity, Noise, Sobel, StrongBlur
from ssns.perturb.mixing import MixUp
from ssns.perturb.occlusion import CutOut, MissingSection
from ssns.perturb.patch import Patch
from ssns.perturb.rotation import QuarterTurn, Rotation
from ssns.perturb.sections import Fold, Misalign
from ssns.settings import Component

if TYPE_CHECKING:
    from torch import Generator

AnyPerturbation = Annotated[
    FlipTranspose
    | QuarterTurn
    | Rotation
    | Scale
    | Elastic
    | Intensity
    | Noise
    | Blur
    | StrongBlur
    | Sobel
    | MixUp
    | CutOut
    | MissingSection
    | Misalign
    | Fold,
    Field(discriminator="type"),
]
"""Every family of perturbations."""


class OneOf(Component):
    """Exactly one of a list, drawn uniformly; it is then applied with its own probability."""

    type: Literal["one_of"] = Field("one_of", description="One perturbation of a list.")
    choices: tuple[AnyPerturbation, ...] = Field(min_length=1, description="What is drawn from.")

    @property
    def needs_partner(self) -> bool:
        """Whether patches must come with a partner."""
        return any(choice.needs_partner for choice in self.choices)

    def apply(self, patch: Patch, generator: Generator) -> Patch:
        """``patch`` perturbed; every draw comes from ``generator``, on the CPU."""
        choice = self.choices[int(integers(generator, 0, len(self.choices) - 1))]
        return choice.apply(patch, generator)


class Sequence(Component):
    """All of a list in its order, each with its own probability; the empty sequence changes nothing."""

    type: Literal["sequence"] = Field("sequence", description="Perturbations one after the other.")
    steps: tuple[Annotated[AnyPerturbation | OneOf, Field(discriminator="type")], ...] = Field(
        description="Perturbations in order; a step may be a draw from a list."
    )

    @property
    def needs_partner(self) -> bool:
        """Whether patches must come with a partner."""
        return any(step.needs_partner for step in self.steps)

    def apply(self, patch: Patch, generator: Generator) -> Patch:
        """``patch`` perturbed; every draw comes from ``generator``, on the CPU."""
        for step in self.steps:
            patch = step.apply(patch, generator)
        return patch


Engine = Annotated[Sequence | OneOf, Field(discriminator="type")]
"""A combination of perturbations."""


def default_augmentation() -> Sequence:
    """What labelled patches go through: every orientation, and the defects of serial sections in moderation.

    Ranges are narrower than the defaults of the families, which are the paper's for its consistency training: there a
    view is to differ strongly, here it is to stay a likely image of labelled tissue. The order is that in which the
    defects arise: mounting, staining, focus, the camera, and what is lost.
    """
    return Sequence(
        steps=(
            FlipTranspose(),
            Misalign(probability=0.3, section_probability=0.1, largest=10),
            Intensity(probability=0.8, contrast=0.3, brightness=0.2, gamma_octaves=0.5, per_section=0.5),
            Blur(probability=0.2, sigma=(0.3, 1.5)),
            Noise(probability=0.3, sigma=(0.01, 0.08)),
            MissingSection(probability=0.2, section_probability=0.08, rectangle_probability=0.15),
        )
    )


def paper_families() -> OneOf:
    """One of five of the paper's families: what raw is restored from, and what a student's view goes through.

    (Reference 1.6; of the views that were tried for consistency these keep most segments, see docs/results.md.)
    """
    return OneOf(choices=(Intensity(), Noise(), Blur(), CutOut(), Misalign()))
