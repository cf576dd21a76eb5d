"""Perturbations that blend two patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ssns.errors import UserError
from ssns.perturb.draws import UnitRange, uniform
from ssns.perturb.patch import Patch, Perturbation

if TYPE_CHECKING:
    from torch import Generator, Tensor


def mix(raw: Tensor, partner: Tensor, share: float) -> Tensor:
    """clip(share * partner + (1 - share) * raw, 0, 1).

    Args:
        raw: (z, y, x).
        partner: Another image of that shape.
        share: How much of the partner is seen, 0 to 1.
    """
    return (share * partner + (1 - share) * raw).clamp_(0, 1)


class MixUp(Perturbation):
    """Raw of another patch shining through; labels stay those of the patch, of which most is seen.

    Not for labelled patches, which have no partner.
    """

    needs_partner: ClassVar[bool] = True

    type: Literal["mix_up"] = Field("mix_up", description="Raw of another patch shining through.")
    share: UnitRange = Field((0.1, 0.4), description="Range of the share of the other patch.")

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Raw blended with :attr:`Patch.partner`.

        Raises:
            UserError: The patch has no partner.
        """
        if patch.partner is None:
            raise UserError(
                "mix_up: wanted patches with a partner to mix in, got one without: this objective draws no partners "
                "(labelled patches have none); leave mix_up out"
            )
        share = float(uniform(generator, *self.share))
        return patch.with_raw(mix(patch.raw, patch.partner, share))
