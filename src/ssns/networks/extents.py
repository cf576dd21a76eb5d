"""Which patches a network takes, and which part of them it predicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ssns.errors import UserError
from ssns.space import Box, Triple, triple


@dataclass(frozen=True)
class Extents:
    """Extents of the input of a network, and what it loses of them; y and x are alike, as patches are transposed.

    Attributes:
        smallest: The smallest input (z, y, x); a padded network takes multiples of its stride.
        stride: Larger inputs differ from it by multiples of this (z, y, x), that of all poolings together. Two inputs
            whose starts do not differ by a multiple of it see other pooling grids, and predict other values.
        shrink: Voxels at each side that are not predicted (z, y, x); 0 with padded convolutions.
    """

    smallest: Triple = (1, 1, 1)
    stride: Triple = (1, 1, 1)
    shrink: Triple = (0, 0, 0)

    def at_least(self, shape: Iterable[int]) -> Triple:
        """The smallest input that is not smaller than ``shape`` along any axis."""
        return triple(fitting(*axis) for axis in zip(shape, self.smallest, self.stride, strict=True))

    def at_most(self, shape: Iterable[int]) -> Triple:
        """The largest input that is not larger than ``shape``, or the smallest that there is."""
        axes = zip(shape, self.smallest, self.stride, strict=True)
        return triple(least + max(0, extent - least) // step * step for extent, least, step in axes)

    def predicted(self, box: Box) -> Box:
        """What is predicted of the input ``box``, in its frame."""
        return box.grown(triple(-lost for lost in self.shrink))

    def seen(self, box: Box) -> Box:
        """The input of which ``box`` is predicted, whether or not its extent is one that can be."""
        return box.grown(self.shrink)

    def check(self, name: str, shape: Iterable[int]) -> None:
        """Refuse an input that the network cannot take; ``name`` is the argument.

        Raises:
            UserError: With the sizes that can be, and the next larger one.
        """
        got = triple(shape)
        possible = self.at_least(got)
        if possible == got:
            return
        context = ""
        if any(self.shrink):
            lost = triple(2 * n for n in self.shrink)
            context = f", or a larger one, as the network predicts {lost} voxels less than it sees"
        raise UserError(f"{name}: wanted extents (z, y, x) that are {self}, got {got}: take {possible}{context}")

    def __str__(self) -> str:
        """As errors tell it: ``multiples of (1, 16, 16)`` or ``(29, 214, 214) plus multiples of (1, 27, 27)``."""
        multiples = f"multiples of {self.stride}"
        return multiples if self.smallest == self.stride else f"{self.smallest} plus multiples of {self.stride}"


def fitting(extent: int, smallest: int, stride: int) -> int:
    """The first of ``smallest``, ``smallest + stride``, ... that is at least ``extent``."""
    return smallest + max(0, -((smallest - extent) // stride)) * stride


def padded_extents(depth: int, unshuffle: int = 1) -> Extents:
    """Of a network of padded convolutions that pools ``depth`` times by 2 in the plane, after an unshuffle."""
    stride = (1, unshuffle * 2**depth, unshuffle * 2**depth)
    return Extents(stride, stride)


def valid_extents(depth: int) -> Extents:
    """Of a network with two valid 3 x 3 x 3 convolutions before each of ``depth`` poolings by 3 in the plane and after.

    Each of the 2 * depth + 1 pairs takes 2 voxels at each side at its resolution: 4 * 3^depth - 2 in the plane in all,
    and twice their number along z. The output needs at least 6 voxels at the bottom.
    """
    scale = 3**depth
    shrink = (4 * depth + 2, 4 * scale - 2, 4 * scale - 2)
    smallest = (2 * shrink[0] + 1, 8 * scale - 2, 8 * scale - 2)
    return Extents(smallest, (1, scale, scale), shrink)
