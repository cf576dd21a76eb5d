"""Voxel sizes and origins as files state them: any unit of length in, nanometres and voxels out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ssns.errors import UserError
from ssns.space import Triple, VoxelSize, triple

_NM_PER_UNIT = {
    "angstrom": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "inch": 2.54e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
}
_ROUNDING = 0.01
"""Voxels that an origin may lie off the grid before it is worth a warning."""


def nm_per_unit(unit: object) -> float | None:
    """Nanometres in one ``unit`` as OME, ImageJ and funlib spell them; None for pixels and unknown words."""
    if not isinstance(unit, str):
        return None
    name = unit.strip().replace("\\u00B5", "u").replace("µ", "u").replace("μ", "u").replace("Å", "angstrom")
    name = name.replace("Å", "angstrom").lower()
    return _NM_PER_UNIT.get(name) or _NM_PER_UNIT.get(name.removesuffix("s"))


def checked_voxel_size(values: Sequence[float] | None) -> VoxelSize | None:
    """Nanometres (z, y, x) as given by a user.

    Raises:
        UserError: There are not three numbers above 0.
    """
    if values is None:
        return None
    size = voxel_size_or_none(values)
    if size is None:
        raise UserError(f"voxel_size_nm is {values}: wanted three nanometres above 0 (z, y, x), such as 30, 6, 6")
    return size


def checked_origin(values: Sequence[int]) -> Triple:
    """Voxels (z, y, x) as given by a user.

    Raises:
        UserError: There are not three whole numbers.
    """
    if len(values) != 3 or any(value != int(value) for value in values):
        raise UserError(f"origin is {values}: wanted three whole voxels (z, y, x), such as 100, 0, 0")
    return triple(values)


def voxel_size_or_none(values: Any) -> VoxelSize | None:
    """Three finite numbers above 0 as a tuple; None where ``values`` is anything else."""
    try:
        size = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if size.shape != (3,) or not np.isfinite(size).all() or not (size > 0).all():
        return None
    # Files hold float32 and sums of decimals: what the user typed comes back at 9 digits.
    z, y, x = (float(f"{value:.9g}") for value in size)
    return z, y, x


def origin_from_nm(offset: Any, voxel_size: VoxelSize | None, path: str) -> Triple:
    """The origin in voxels of an offset in the unit of ``voxel_size``, rounded to the grid.

    Args:
        offset: Position of the centre of voxel 0 (z, y, x), or None.
        voxel_size: Voxel size that the offset was written with.
        path: For the warning.

    Warns:
        UserWarning: The offset is no whole number of voxels.
    """
    if offset is None or voxel_size is None or np.shape(offset) != (3,):
        return (0, 0, 0)
    exact = np.asarray(offset, dtype=np.float64) / np.asarray(voxel_size)
    rounded = np.rint(exact)
    if np.abs(exact - rounded).max() > _ROUNDING:
        warnings.warn(
            f"{path}: its offset is {exact.round(3).tolist()} voxels, rounded to {rounded.astype(int).tolist()}; "
            "give origin if volumes do not line up",
            stacklevel=2,
        )
    return triple(rounded)


def geometry_of_attributes(attributes: Mapping[str, Any], path: str) -> tuple[VoxelSize | None, Triple]:
    """Voxel size (nm) and origin of the attributes that CREMI, funlib and ilastik write beside an array.

    ``voxel_size`` or ``resolution`` and ``offset`` (z, y, x), in nanometres unless ``units`` says otherwise;
    ``element_size_um`` is that of Fiji and ilastik.

    Args:
        attributes: Of the array.
        path: For warnings.
    """
    unit = attributes.get("units", "nm")
    factor = nm_per_unit(unit if isinstance(unit, str) else next(iter(unit), None)) or 1.0
    for name in ("voxel_size", "resolution", "element_size_um"):
        size = voxel_size_or_none(attributes.get(name))
        if size is not None:
            scale = 1e3 if name == "element_size_um" else factor
            in_nm = voxel_size_or_none([scale * value for value in size])
            return in_nm, origin_from_nm(attributes.get("offset"), size, path)
    return None, (0, 0, 0)
