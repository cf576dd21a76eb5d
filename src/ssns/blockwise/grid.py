"""The grid of blocks: each voxel written by one block, read by those whose halo reaches it."""

from __future__ import annotations

from dataclasses import dataclass

from ssns.errors import UserError
from ssns.space import Box, Triple, cover, triple


@dataclass(frozen=True, slots=True)
class Block:
    """One unit of work.

    Attributes:
        index: Position in the grid of blocks (z, y, x).
        write: The voxels that only this block writes.
        read: Those and the halo around them, as far as there are voxels.
    """

    index: Triple
    write: Box
    read: Box

    def __str__(self) -> str:
        """Its voxels, as errors show them."""
        return str(self.write)


def blocks(bounds: Box, shape: Triple, halo: Triple = (0, 0, 0)) -> list[Block]:
    """Cover ``bounds`` once with blocks, in z, y, x order; those at the far faces are smaller.

    Args:
        bounds: What to cover, in voxels; the grid begins at its first voxel.
        shape: Largest extent written by a block (z, y, x), each at least 1.
        halo: Voxels read beyond that on each side (z, y, x).

    Returns:
        The blocks; none where ``bounds`` is empty.

    Raises:
        UserError: ``shape`` is not positive, or ``halo`` is negative.

    Example:
        >>> [str(block) for block in blocks(Box.of_shape((1, 1, 5)), (1, 1, 3))]
        ['z 0..1, y 0..1, x 0..3', 'z 0..1, y 0..1, x 3..5']
    """
    if min(shape) < 1:
        raise UserError(f"block: wanted at least one voxel along each axis, got {shape}")
    if min(halo) < 0:
        raise UserError(f"halo: wanted zero or more voxels along each axis, got {halo}")
    return [
        Block(
            index=triple((a - b) // step for a, b, step in zip(box.start, bounds.start, shape, strict=True)),
            write=box,
            read=box.grown(halo).intersection(bounds),
        )
        for box in cover(bounds, shape)
    ]
