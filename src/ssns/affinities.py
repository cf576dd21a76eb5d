"""Affinities: what an edge between two voxels says, and how it moves with the voxels.

Channel ``c`` of an affinity array at voxel ``p`` is the edge from ``p`` to ``p + offsets[c]``: 1 where both ends lie
in the same neuron, 0 where they do not or where an end is background. An edge that leaves the array, or that ends in
an ignored voxel, is not known, and is masked.

The functions take NumPy arrays and torch tensors alike (array API) and stay on the device of their input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import Any, Literal

from array_api_compat import array_namespace, device, is_array_api_obj

from ssns.errors import UserError
from ssns.space import Triple, triple

Array = Any
"""A NumPy array or a torch tensor."""

NEAREST: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
"""Nearest neighbours along z, y, x: the three channels of the paper."""

BorderStyle = Literal["none", "symmetric", "reference"]


def labels_to_affinities(
    labels: Array,
    offsets: Sequence[Triple] = NEAREST,
    *,
    background: int | None = 0,
    ignored: int | None = None,
    valid: Array | None = None,
    outside: Literal["masked", "replicate"] = "masked",
) -> tuple[Array, Array]:
    """Affinities of labels, and the mask of where they are known.

    Args:
        labels: Ids, shape (..., z, y, x), any integer type.
        offsets: One displacement (z, y, x) in voxels per channel.
        background: Id that is membrane or outside: its edges have affinity 0. None: every id is a neuron.
        ignored: Id of voxels whose label is unknown: their edges are masked. None: there is no such id.
        valid: Boolean array broadcastable to ``labels``: False where the label is unknown.
        outside: Edges that leave the array: ``masked`` (default), or ``replicate``, the paper's code: 1 where the
            label at ``p`` is not background, and not masked.

    Returns:
        ``affinities``, float32, 0 or 1, and ``mask``, bool, True where known; both (..., c, z, y, x).

    Raises:
        UserError: Labels are no array of ids, an offset is no triple, or ``valid`` does not fit the labels.

    Example:
        >>> import numpy as np
        >>> affinities, mask = labels_to_affinities(np.array([[[1, 1, 2]]]), [(0, 0, -1)])
        >>> affinities[0, 0, 0], mask[0, 0, 0]
        (array([0., 1., 0.], dtype=float32), array([False,  True,  True]))
    """
    _check_inputs(labels, offsets, valid)
    xp = array_namespace(labels)
    shape = (*labels.shape[:-3], len(offsets), *labels.shape[-3:])
    affinities = xp.zeros(shape, dtype=xp.float32, device=device(labels))
    mask = xp.zeros(shape, dtype=xp.bool, device=device(labels))
    neuron = labels == labels if background is None else labels != background
    known = xp.ones(labels.shape, dtype=xp.bool, device=device(labels))
    if ignored is not None:
        known = known & (labels != ignored)
    if valid is not None:
        known = known & valid
    for channel, offset in enumerate(offsets):
        here, there = edge_ends(labels.shape[-3:], offset)
        same = (labels[(..., *here)] == labels[(..., *there)]) & neuron[(..., *here)]
        if outside == "replicate":
            affinities[..., channel, :, :, :] = xp.astype(neuron, xp.float32)
            mask[..., channel, :, :, :] = known
        affinities[(..., channel, *here)] = xp.astype(same, xp.float32)
        mask[(..., channel, *here)] = known[(..., *here)] & known[(..., *there)]
    return affinities, mask


def _check_inputs(labels: Array, offsets: Sequence[Triple], valid: Array | None) -> None:
    """Refuse what would fail later or give nonsense; looks at no voxel.

    Raises:
        UserError: As in `labels_to_affinities`.
    """
    if not is_array_api_obj(labels):
        raise UserError(f"labels: wanted an array of ids, got {type(labels).__name__}: pass np.asarray(labels)")
    if not array_namespace(labels).isdtype(labels.dtype, "integral"):
        raise UserError(f"labels: wanted integer ids, got {labels.dtype}: convert them")
    if labels.ndim < 3:
        raise UserError(
            f"labels: wanted axes (..., z, y, x), got shape {tuple(labels.shape)}: a section alone is labels[None]"
        )
    for offset in offsets:
        steps = tuple(offset) if isinstance(offset, Iterable) else ()
        if len(steps) != 3 or not all(isinstance(step, Integral) for step in steps):
            raise UserError(f"offsets: wanted three whole voxels (z, y, x) each, got {offset!r}: write [(0, 0, -1)]")
    if valid is not None:
        _check_valid(valid, tuple(labels.shape))


def _check_valid(valid: Array, shape: tuple[int, ...]) -> None:
    """Refuse a mask that does not fit labels of ``shape``."""
    if not is_array_api_obj(valid) or not array_namespace(valid).isdtype(valid.dtype, "bool"):
        got = getattr(valid, "dtype", type(valid).__name__)
        raise UserError(f"valid: wanted an array of bool, got {got}: compare it with a value, such as valid > 0")
    missing = len(shape) - valid.ndim
    if missing < 0 or any(n not in (1, m) for n, m in zip(valid.shape, shape[missing:], strict=True)):
        raise UserError(
            f"valid: wanted the shape of labels, {shape}, or one that repeats to it, got {tuple(valid.shape)}: crop"
            " both to the same box"
        )


def edge_ends(shape: Sequence[int], offset: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels ``p`` whose ``p + offset`` lies in the array, and those ``p + offset``, as two index tuples.

    Args:
        shape: Extent (z, y, x).
        offset: Displacement (z, y, x); one that is larger than the array gives two empty indices.
    """
    here = tuple(slice(min(n, max(0, -o)), max(0, n - max(0, o))) for n, o in zip(shape, offset, strict=True))
    there = tuple(slice(min(n, max(0, o)), max(0, n - max(0, -o))) for n, o in zip(shape, offset, strict=True))
    return here, there


def widen_borders(labels: Array, style: BorderStyle, *, background: int = 0, valid: Array | None = None) -> Array:
    """Set voxels at in-plane boundaries between labels to background, so that membranes have a width.

    ``symmetric`` clears every voxel whose 3 x 3 in-plane window holds more than one id: two voxels at a straight
    boundary. ``reference`` is the paper's code (reference 2.7): voxels that differ from their predecessor along y or
    x, dilated by 3 x 3: three voxels, one on the low side and two on the high side. Boundaries along z stay.

    Args:
        labels: Ids (..., z, y, x).
        style: ``none`` returns ``labels`` itself.
        background: The id written.
        valid: Boolean array of the shape of ``labels``: False where the label is unknown, which bounds nothing.

    Returns:
        A copy of ``labels`` with cleared borders.
    """
    if style == "none":
        return labels
    xp = array_namespace(labels)
    known = xp.ones(labels.shape, dtype=xp.bool, device=device(labels)) if valid is None else valid

    def differ(here: tuple[slice, ...], there: tuple[slice, ...]) -> Array:
        both = known[(..., *here)] & known[(..., *there)]
        return both & (labels[(..., *here)] != labels[(..., *there)])

    border = xp.zeros(labels.shape, dtype=xp.bool, device=device(labels))
    if style == "reference":
        edge = xp.zeros(labels.shape, dtype=xp.bool, device=device(labels))
        for offset in ((0, -1, 0), (0, 0, -1)):
            here, there = edge_ends(labels.shape[-3:], offset)
            edge[(..., *here)] = edge[(..., *here)] | differ(here, there)
    for dy, dx in product((-1, 0, 1), repeat=2):
        here, there = edge_ends(labels.shape[-3:], (0, dy, dx))
        reached = edge[(..., *there)] if style == "reference" else differ(here, there)
        border[(..., *here)] = border[(..., *here)] | reached
    return xp.where(border, xp.asarray(background, dtype=labels.dtype, device=device(labels)), labels)


@dataclass(frozen=True, slots=True)
class GridSymmetry:
    """A symmetry of the voxel grid: mirror along some axes, then swap y and x or not.

    The sixteen of them hold every flip and quarter turn in the plane. Along z sections are only mirrored, since
    volumes are anisotropic.

    Attributes:
        flip: Whether to mirror along z, y, x.
        transpose: Whether y and x are swapped after that.
    """

    flip: tuple[bool, bool, bool] = (False, False, False)
    transpose: bool = False

    def apply(self, array: Array) -> Array:
        """Transform the last three axes (z, y, x) of ``array``."""
        xp = array_namespace(array)
        axes = [axis - 3 for axis, mirrored in enumerate(self.flip) if mirrored]
        if axes:
            array = xp.flip(array, axis=tuple(axes))
        return array.swapaxes(-1, -2) if self.transpose else array

    @property
    def inverse(self) -> GridSymmetry:
        """The symmetry that undoes this one."""
        z, y, x = self.flip
        return GridSymmetry((z, x, y), True) if self.transpose else self

    def displacement(self, offset: Triple) -> Triple:
        """Where this symmetry takes a displacement."""
        z, y, x = triple(-o if mirrored else o for o, mirrored in zip(offset, self.flip, strict=True))
        return (z, x, y) if self.transpose else (z, y, x)


GRID_SYMMETRIES: tuple[GridSymmetry, ...] = tuple(
    GridSymmetry((z, y, x), transpose) for transpose, z, y, x in product((False, True), repeat=4)
)
"""All sixteen, the identity first."""


def transform_affinities(affinities: Array, offsets: Sequence[Triple], symmetry: GridSymmetry) -> tuple[Array, Array]:
    """Affinities of the transformed volume, from those of the volume.

    Channels are exchanged and edges shifted as the edges that they describe: a mirrored edge p -> p + o is the edge
    p -> p - o of the mirrored volume, which channel o stores at its other end.

    Args:
        affinities: Shape (..., c, z, y, x).
        offsets: Displacement of each channel.
        symmetry: What happened to the voxels.

    Returns:
        The transformed affinities, and a mask (same shape, bool) that is False where an edge has no counterpart: at
        the face that an edge leaves through, and in channels whose image is not among the offsets.
    """
    xp = array_namespace(affinities)
    moved = xp.zeros(affinities.shape, dtype=affinities.dtype, device=device(affinities))
    mask = xp.zeros(affinities.shape, dtype=xp.bool, device=device(affinities))
    offsets = [triple(offset) for offset in offsets]
    for channel, offset in enumerate(offsets):
        source = symmetry.inverse.displacement(offset)
        back = triple(-o for o in source)
        if source in offsets:
            moved[..., channel, :, :, :] = affinities[..., offsets.index(source), :, :, :]
            mask[..., channel, :, :, :] = True
        elif back in offsets:
            here, there = edge_ends(affinities.shape[-3:], source)
            moved[(..., channel, *here)] = affinities[(..., offsets.index(back), *there)]
            mask[(..., channel, *here)] = True
    return symmetry.apply(moved), symmetry.apply(mask)


def averaged_over(
    symmetries: Sequence[GridSymmetry], predict: Callable[[Array], Array], raw: Array, offsets: Sequence[Triple]
) -> Array:
    """Affinities of ``raw`` predicted in several orientations, brought back, and averaged where each has a counterpart.

    Args:
        symmetries: The orientations; one of them is the identity, so that every edge has a value.
        predict: From raw (..., z, y, x) to affinities (..., c, z', y', x').
        raw: Shape (..., z, y, x).
        offsets: Displacement of each channel.
    """
    total: Array = 0.0
    count: Array = 0
    for symmetry in symmetries:
        back, mask = transform_affinities(predict(symmetry.apply(raw)), offsets, symmetry.inverse)
        total, count = total + back, count + mask  # what is masked is zero
    return total / count
