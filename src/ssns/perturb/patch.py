"""What a perturbation takes and gives: a patch, and the move of its voxels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import Field

from ssns.perturb.draws import Probability, chance
from ssns.settings import Component
from ssns.space import Triple, triple

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Move(Protocol):
    """One drawn motion of voxels, its parameters fixed.

    It is the one description of where voxels went: whatever belongs to the voxels of a patch is carried by the same
    object. A :class:`ssns.affinities.GridSymmetry` is a move.
    """

    def apply(self, array: Tensor, /) -> Tensor:
        """Move the last three axes (z, y, x), of unchanged extent, of a tensor of any type.

        Floats may be interpolated; integers and booleans take the value of the nearest voxel and keep their type.
        """
        ...


@dataclass(frozen=True, eq=False)
class Patch:
    """One training sample, all of it on one device.

    Attributes:
        raw: Image, float32 (z, y, x) in [0, 1].
        labels: Ids, int32 or int64 (z, y, x); None for an unlabelled patch.
        valid: Where it is known what tissue a voxel is of, and labels are known, bool (z, y, x); None: everywhere.
        partner: Raw of another patch, float32 (z, y, x), for mix-up; None where the objective draws none. To this
            patch it is noise: no move carries it, nothing else perturbs it.
        moves: What moved its voxels, in order, for what has to be carried along later.
    """

    raw: Tensor
    labels: Tensor | None = None
    valid: Tensor | None = None
    partner: Tensor | None = None
    moves: tuple[Move, ...] = ()

    @property
    def shape(self) -> Triple:
        """Extent (z, y, x) in voxels."""
        return triple(self.raw.shape)

    def with_raw(self, raw: Tensor) -> Patch:
        """This patch with another image of the same voxels."""
        return replace(self, raw=raw)

    def moved(self, move: Move) -> Patch:
        """This patch with everything that belongs to its voxels carried by ``move``; the partner stays."""
        labels = None if self.labels is None else move.apply(self.labels)
        valid = None if self.valid is None else move.apply(self.valid)
        return replace(self, raw=move.apply(self.raw), labels=labels, valid=valid, moves=(*self.moves, move))

    def unknown_at(self, hidden: Tensor) -> Patch:
        """This patch with what is there unknown where the bool tensor ``hidden`` (z, y, x) is True."""
        return replace(self, valid=~hidden if self.valid is None else self.valid & ~hidden)


class Perturbation(Component):
    """One family of perturbations: its settings are ranges, each application draws from them."""

    needs_partner: ClassVar[bool] = False
    """Whether patches must come with :attr:`Patch.partner`."""

    type: str
    probability: Probability = Field(1.0, description="How often it is applied where its turn comes.")

    def apply(self, patch: Patch, generator: Generator) -> Patch:
        """``patch`` perturbed with :attr:`probability`, else ``patch`` itself; the input is never written to.

        Args:
            patch: On any device.
            generator: On the CPU; every draw comes from it, so that equal states give equal results.
        """
        return self.perturb(patch, generator) if bool(chance(generator, self.probability)) else patch

    @abstractmethod
    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """``patch`` perturbed, whatever :attr:`probability` says."""


class Motion(Perturbation):
    """A perturbation that moves voxels, and can say where they went."""

    @abstractmethod
    def draw(self, shape: Triple, generator: Generator) -> Move:
        """A move of patches of ``shape`` (z, y, x)."""

    def perturb(self, patch: Patch, generator: Generator) -> Patch:
        """Raw and labels moved alike."""
        return patch.moved(self.draw(patch.shape, generator))
