"""Values of a volume at other places of its sections, by one border rule: reflection at the outermost voxels.

Reflection does not repeat the border voxel (OpenCV's BORDER_REFLECT_101, NumPy's "reflect"), and goes on for as far as
is asked. A mirrored image has mirrored labels, so what is reflected stays a valid sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Sampling = Literal["linear", "nearest"]
"""How floats are read between voxels."""


def reflected(index: Tensor, extent: int) -> Tensor:
    """Whole indices, of any size and sign, folded into 0 to ``extent`` - 1."""
    if extent == 1:
        return index * 0
    last = extent - 1
    return last - ((index % (2 * last)) - last).abs()


def reflect_pad(volume: Tensor, margin: tuple[int, int]) -> Tensor:
    """Sections (..., y, x) grown by ``margin`` (y, x) on each side; a negative margin crops.

    Unlike ``torch.nn.functional.pad`` it takes integers, and margins larger than the section.
    """
    import torch

    for axis, grown in zip((-2, -1), margin, strict=True):
        extent = volume.shape[axis]
        index = torch.arange(-grown, extent + grown, device=volume.device)
        volume = volume.index_select(axis, reflected(index, extent))
    return volume


def resize_sections(volume: Tensor, shape: tuple[int, int]) -> Tensor:
    """Sections resized to ``shape`` (y, x), the outer faces of the outermost voxels kept in place.

    Args:
        volume: (..., y, x). Floats are interpolated linearly, as OpenCV's INTER_LINEAR does; integers and booleans
            take the voxel that the centre of the new one falls into.
        shape: New extent (y, x).
    """
    import torch

    for axis, target in zip((-2, -1), shape, strict=True):
        extent = volume.shape[axis]
        if volume.is_floating_point():
            # Places on the CPU and in double precision: in single, they are off by 1e-5 voxels.
            place = ((torch.arange(target, dtype=torch.float64) + 0.5) * extent / target - 0.5).clamp(0, extent - 1)
            low = place.long()
            weight = (place - low).to(volume).reshape(-1, *[1] * (-1 - axis))
            low = low.to(volume.device)
            above = volume.index_select(axis, (low + 1).clamp(max=extent - 1))
            volume = torch.lerp(volume.index_select(axis, low), above, weight)
        else:
            # The centre (i + 1/2) n / m in whole numbers: no rounding error decides between two voxels.
            index = torch.arange(target, device=volume.device)
            volume = volume.index_select(axis, (2 * index + 1) * extent // (2 * target))
    return volume


def warp_sections(volume: Tensor, displacement: Tensor, sampling: Sampling = "linear") -> Tensor:
    """out[z, y, x] = volume[z, y + dy, x + dx], reflected outside.

    Args:
        volume: (..., z, y, x). Floats are read by ``sampling``; integers and booleans take the nearest voxel.
        displacement: dy and dx in voxels, float32 (2, z, y, x), on the device of ``volume``; z may be 1, for all
            sections alike.
        sampling: Linear interpolation, or the nearest voxel for floats too.
    """
    import torch

    depth, height, width = volume.shape[-3:]
    down, across = displacement
    voxels = volume.flatten(-3)
    # In-plane indices in 32 bits: the remainder behind reflection is seven times faster than in 64.
    y = torch.arange(height, dtype=torch.int32, device=volume.device)[:, None]
    x = torch.arange(width, dtype=torch.int32, device=volume.device)
    first_voxels = torch.arange(depth, device=volume.device)[:, None, None] * (height * width)

    def rows(steps: Tensor) -> Tensor:
        return reflected(y + steps.int(), height) * width

    def columns(steps: Tensor) -> Tensor:
        return reflected(x + steps.int(), width)

    def values(in_plane: Tensor) -> Tensor:
        return voxels.index_select(-1, (first_voxels + in_plane).flatten()).reshape(volume.shape)

    if sampling == "nearest" or not volume.is_floating_point():
        return values(rows(down.round()) + columns(across.round()))
    # Whole steps and remainders apart: their sum with the place would lose digits.
    top, left = down.floor(), across.floor()
    right, weight = columns(left + 1), (across - left).to(volume.dtype)
    left = columns(left)
    upper, lower = (torch.lerp(values(row + left), values(row + right), weight) for row in (rows(top), rows(top + 1)))
    return torch.lerp(upper, lower, (down - top).to(volume.dtype))
