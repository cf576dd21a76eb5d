"""Perturbations that hide tissue: boxes cut out, sections missing or torn.

Labels stay what they are: the network is to bridge what it cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ssns.errors import UserError
from ssns.perturb.draws import Count, CountRange, Probability, chance, integers, rectangle
from ssns.perturb.patch import Patch, Perturbation
from ssns.space import Triple, triple

if TYPE_CHECKING:
    from torch import Generator, Tensor

Margin = Annotated[int, Field(ge=0)]
"""Voxels at one side of a patch."""


def blank_sections(raw: Tensor, sections: Tensor | Sequence[int], value: float = 0.0) -> Tensor:
    """A copy of ``raw`` in which some sections hold one value.

    Args:
        raw: (z, y, x).
        sections: Their indices, or a bool tensor (z,).
        value: What they hold.
    """
    blanked = raw.clone()
    blanked[sections if isinstance(sections, Sequence) else sections.to(raw.device)] = value
    return blanked


def cut_boxes(raw: Tensor, starts: Tensor, size: Triple, value: float = 0.0) -> Tensor:
    """A copy of ``raw`` in which boxes of one size hold one value.

    Args:
        raw: (z, y, x).
        starts: First voxel of each box, whole numbers (n, 3), on the CPU.
        size: Extent of the boxes (z, y, x).
        value: What they hold.
    """
    cut = raw.clone()
    for z, y, x in starts.tolist():
        cut[z : z + size[0], y : y + size[1], x : x + size[2]] = value
    return cut


class CutOut(Perturbation):
    """Many equal boxes, at uniform places inside the patch, blanked; they may overlap.

    The paper's for its valid network, whose output is 25 x 56 x 56 of 53 x 268 x 268: boxes 40 to 60 in ``boxes_per``
    (25, 56, 56), depth 5 to 8, width 5 to 12, margin (14, 106, 106).
    """

    type: Literal["cut_out"] = Field("cut_out", description="Boxes cut out.")
    boxes: CountRange = Field((60, 100), description="Number of boxes in as many voxels as boxes_per has.")
    boxes_per: tuple[Count, Count, Count] = Field(
        (18, 160, 160), description="Extent that boxes is meant for, z, y, x."
    )
    depth: CountRange = Field((5, 10), description="Extent of the boxes along z, drawn once per patch.")
    width: CountRange = Field((10, 20), description="Extent of the boxes along y and x, drawn once per patch.")
    margin: tuple[Margin, Margin, Margin] = Field(
        (0, 0, 0), description="Voxels at each side, z, y, x, that stay whole: those that a valid network loses."
    )
    value: float = Field(0.0, ge=0, le=1, description="What the boxes hold.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Boxes blanked, as many as keep their share of the voxels in patches of other sizes.

        Raises:
            UserError: The margin leaves nothing of the patch.
        """
        import torch

        inner = triple(extent - 2 * lost for extent, lost in zip(patch.shape, self.margin, strict=True))
        if min(inner) < 1:
            raise UserError(
                f"cut_out: wanted a margin below half of the patch, got {self.margin} in {patch.shape}: lower it"
            )
        count = max(1, round(int(integers(generator, *self.boxes)) * prod(inner) / prod(self.boxes_per)))
        depth, width = int(integers(generator, *self.depth)), int(integers(generator, *self.width))
        size = triple(min(side, extent) for side, extent in zip((depth, width, width), inner, strict=True))
        room = [extent - side for extent, side in zip(inner, size, strict=True)]
        starts = torch.stack([integers(generator, 0, free, (count,)) for free in room], dim=1)
        return patch.with_raw(cut_boxes(patch.raw, starts + torch.tensor(self.margin), size, self.value))


class MissingSection(Perturbation):
    """Sections lost while cutting or imaging: some of them as a whole, or a rectangle in some of them."""

    type: Literal["missing_section"] = Field("missing_section", description="Some sections, or parts of them, blank.")
    partial: Probability = Field(0.5, description="How often rectangles are blanked; else whole sections.")
    section_probability: Probability = Field(0.2, description="Chance of each section to be blank as a whole.")
    rectangle_probability: Probability = Field(0.5, description="Chance of each section to have a blank rectangle.")
    value: float = Field(0.0, ge=0, le=1, description="What is seen there.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Chosen sections or rectangles blanked."""
        depth = patch.shape[0]
        if not bool(chance(generator, self.partial)):
            lost = chance(generator, self.section_probability, (depth,))
            return patch.with_raw(blank_sections(patch.raw, lost, self.value))
        raw = patch.raw.clone()
        for section in chance(generator, self.rectangle_probability, (depth,)).nonzero().flatten().tolist():
            raw[(section, *rectangle(generator, patch.shape[1:]))] = self.value
        return patch.with_raw(raw)
