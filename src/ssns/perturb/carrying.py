"""Predictions carried along with the voxels that they are of.

A teacher sees a patch, its student the same patch with voxels moved. To compare them, the teacher's affinities are
carried into the student's frame: channels exchanged and edges shifted as the edges that they describe, with a mask of
what has a counterpart. This is exact for symmetries of the grid and whole-voxel shifts. Other moves are right away
from boundaries, and off by up to a voxel beside them, which is masked unless it is asked to stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ssns.affinities import GridSymmetry, edge_ends, transform_affinities
from ssns.perturb.resampling import warp_sections
from ssns.space import Triple, inner, triple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ssns.perturb.patch import Move

NEARBY = 1.0
"""Voxels along an axis by which the image of an edge may miss the edge taken for it, where moves interpolate."""

BAND = 2
"""Voxels, besides the length of its offset, within which a boundary makes an interpolated affinity uncertain."""

SLACK = 1e-3
"""Voxels by which rounding may move a place."""

Linear = tuple[tuple[float, float], tuple[float, float]]
"""A matrix of y and x, rows first."""

IDENTITY: Linear = ((1.0, 0.0), (0.0, 1.0))


@runtime_checkable
class Warp(Protocol):
    """A move within sections: each voxel shows what was elsewhere in its section."""

    @property
    def exact(self) -> bool:
        """Whether it moves by whole voxels, so that nothing is interpolated."""
        ...

    @property
    def linear(self) -> Linear:
        """What becomes of a displacement on the way back to the source, but for what differs from place to place."""
        ...

    def displacement(self, shape: Triple, device: torch.device) -> Tensor:
        """From each voxel of a patch of ``shape`` to its source: dy and dx in voxels, float32 (2, z, y, x).

        Or (2, 1, y, x), where all sections are displaced alike.
        """
        ...


@dataclass(frozen=True, eq=False)
class Carried:
    """Affinities of a patch, and where they are known.

    Attributes:
        affinities: Floats in [0, 1], (c, z, y, x).
        known: Bool, same shape.
        offsets: Displacement of each channel.
        lost: Voxels of the patch at each side (z, y, x) that the affinities do not cover: those of a network without
            padding, or of a margin.
    """

    affinities: Tensor
    known: Tensor
    offsets: tuple[Triple, ...]
    lost: Triple = (0, 0, 0)

    def moved(self, moves: Iterable[Move], *, keep_uncertain: bool = False) -> Carried:
        """The affinities of the patch after ``moves``, one after the other.

        Args:
            moves: What happened to the voxels of the patch.
            keep_uncertain: Whether interpolated affinities near a boundary stay known.

        Raises:
            TypeError: A move is neither a symmetry of the grid nor a warp.
        """
        carried = self
        for move in moves:
            if isinstance(move, GridSymmetry):
                carried = carried._transformed(move)
            elif isinstance(move, Warp):
                carried = carried._warped(move, keep_uncertain)
            else:
                raise TypeError(f"moves: wanted symmetries of the grid and warps, got a {type(move).__name__}")
        return carried

    def moved_as_images(self, moves: Iterable[Move]) -> Carried:
        """The affinities as the paper's code moves them: as if channels were images (reference 5.5, B1 to B3, B6).

        Symmetries move voxels and leave channels and edges as they are; of a magnified patch only a central part
        counts, as large as what it shows; misalignment, folds, deformations and turns by any angle are ignored.
        """
        carried = self
        for move in moves:
            if isinstance(move, GridSymmetry):
                moved = (move.apply(carried.affinities), move.apply(carried.known))
                carried = replace(carried, affinities=moved[0], known=moved[1])
            elif isinstance(move, Warp) and _resizes(move.linear):
                carried = carried._resized_as_image(move)
        return carried

    def _resized_as_image(self, warp: Warp) -> Carried:
        import torch

        field = self._inner_field(warp)
        affinities = warp_sections(self.affinities, field)
        counted = torch.ones(affinities.shape[-2:], dtype=torch.bool, device=affinities.device)
        for axis, extent in enumerate(counted.shape):
            seen = round(extent * warp.linear[axis][axis])
            place = torch.arange(extent, device=affinities.device)
            margin = abs(seen - extent) // 2
            if seen > extent:
                # The patch in the middle of a canvas, and the nearest voxel of that.
                place = place * seen // extent
            within = (place >= margin) & (place < margin + min(seen, extent))
            counted &= within[:, None] if axis == 0 else within
        return replace(self, affinities=affinities, known=warp_sections(self.known, field) & counted)

    def _transformed(self, symmetry: GridSymmetry) -> Carried:
        affinities, _ = transform_affinities(self.affinities, self.offsets, symmetry)
        known, _ = transform_affinities(self.known, self.offsets, symmetry)  # False where there is no counterpart
        return replace(self, affinities=affinities, known=known)

    def _warped(self, warp: Warp, keep_uncertain: bool) -> Carried:
        import torch

        field = self._inner_field(warp)
        inside = _inside(field)
        values = warp_sections(self.affinities, field)
        sure = warp_sections(self.known.to(values.dtype), field) > 0.999  # all voxels of an interpolation
        affinities, known = torch.zeros_like(values), torch.zeros_like(self.known)
        for channel, offset in enumerate(self.offsets):
            taken, edge = _counterpart(offset, warp, self.offsets)
            if taken is None:
                continue
            here, there = edge_ends(values.shape[-3:], offset)
            stored = here if edge == self.offsets[taken] else there  # a reversed edge is stored at its other end
            affinities[channel][here] = values[taken][stored]
            known[channel][here] = (
                sure[taken][stored]
                & inside[here]
                & inside[there]
                & _stays_near(field, offset, edge, 0.0 if warp.exact else NEARBY + SLACK)
            )
        if not (warp.exact or keep_uncertain):
            # Boundaries are looked for before the warp: a thin one may be lost between the voxels of a reduced patch.
            boundary = warp_sections(_boundary(self.affinities, self.known), field) > 0
            known &= ~_near(boundary, self.offsets)
        return replace(self, affinities=affinities, known=known)

    def _inner_field(self, warp: Warp) -> Tensor:
        """The displacement of ``warp`` where there are affinities, (2, z, y, x)."""
        covered = self.affinities.shape[-3:]
        patch = triple(n + 2 * lost for n, lost in zip(covered, self.lost, strict=True))
        field = warp.displacement(patch, self.affinities.device).expand(2, *patch)
        return field[:, *inner(patch, self.lost)]


def _resizes(linear: Linear) -> bool:
    """Whether this is a change of scale, and no turn."""
    return linear != IDENTITY and linear[0][1] == linear[1][0] == 0 and min(linear[0][0], linear[1][1]) > 0


def _inside(field: Tensor) -> Tensor:
    """Where sources lie within the section, bool (z, y, x)."""
    import torch

    height, width = field.shape[-2:]
    y = torch.arange(height, device=field.device)[:, None] + field[0]
    x = torch.arange(width, device=field.device) + field[1]
    return (y >= -SLACK) & (y <= height - 1 + SLACK) & (x >= -SLACK) & (x <= width - 1 + SLACK)


def _counterpart(offset: Triple, warp: Warp, offsets: Sequence[Triple]) -> tuple[int | None, Triple]:
    """The channel that holds what an edge was before the warp, and that edge, which may be its channel's reversed."""
    z, y, x = offset
    image = tuple(row[0] * y + row[1] * x for row in warp.linear)
    candidates = [
        (max(abs(edge[1] - image[0]), abs(edge[2] - image[1])), channel, edge)
        for channel, stored in enumerate(offsets)
        for edge in (stored, triple(-o for o in stored))
        if edge[0] == z
    ]
    missed, channel, edge = min(candidates)
    return (channel, edge) if missed <= (0.0 if warp.exact else NEARBY) else (None, edge)


def _stays_near(field: Tensor, offset: Triple, edge: Triple, tolerance: float) -> Tensor:
    """Where the edges of ``offset`` were ``edge`` before the warp, up to ``tolerance``; of the voxels that have one."""
    here, there = edge_ends(field.shape[-3:], offset)
    stretch = field[(slice(None), *there)] - field[(slice(None), *here)]
    missed_y = (stretch[0] + (offset[1] - edge[1])).abs()
    missed_x = (stretch[1] + (offset[2] - edge[2])).abs()
    return (missed_y <= tolerance) & (missed_x <= tolerance)


def _boundary(affinities: Tensor, known: Tensor) -> Tensor:
    """1 where known affinities of any channel change from a voxel to its neighbours in the plane, else 0 (z, y, x)."""
    import torch

    boundary = torch.zeros(affinities.shape[-3:], dtype=torch.bool, device=affinities.device)
    for values, sure in zip(affinities, known, strict=True):
        highest = _highest(values.masked_fill(~sure, 0.0), 1)
        lowest = -_highest((-values).masked_fill(~sure, -1.0), 1)
        boundary |= highest - lowest > 0.5
    return boundary.to(affinities.dtype)


def _near(boundary: Tensor, offsets: Sequence[Triple]) -> Tensor:
    """Where an end of an edge lies within its length and ``BAND`` of a boundary, bool (c, z, y, x)."""
    import torch

    near = []
    for offset in offsets:
        reached = _highest(boundary.float(), BAND + max(abs(offset[1]), abs(offset[2]))) > 0
        here, there = edge_ends(boundary.shape, offset)
        either = reached.clone()
        either[here] |= reached[there]
        near.append(either)
    return torch.stack(near)


def _highest(values: Tensor, radius: int) -> Tensor:
    """The largest value within ``radius`` voxels along y and x of each voxel of (z, y, x)."""
    from torch.nn.functional import max_pool2d

    size = 2 * radius + 1
    rows = max_pool2d(values[None], (size, 1), 1, (radius, 0))
    return max_pool2d(rows, (1, size), 1, (0, radius))[0]
