"""The border rule of the CREMI challenge, under which its score is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import VoxelSize

BORDER_NM = 25.0
"""How far from a boundary truth is not trusted."""


def near_boundary(labels: NDArray[Any], voxel_size_nm: VoxelSize, distance_nm: float = BORDER_NM) -> NDArray[np.bool_]:
    """Voxels so near to a boundary in their section that where exactly it runs is a matter of taste.

    A voxel is on a boundary where the id of one of its four neighbours in the section is another one, the background's
    included. CREMI makes all voxels within a distance of those background; ``Scores.cremi`` of what remains is its
    score (Funke et al. 2016, https://cremi.org/metrics).

    Args:
        labels: Ids (z, y, x).
        voxel_size_nm: Nanometres (z, y, x); that along z plays no part.
        distance_nm: Greatest distance in the section between the centres of a voxel and of one on a boundary.

    Returns:
        True within the distance, (z, y, x).

    Raises:
        UserError: Labels have not three axes, or sizes and distance are no lengths.
    """
    if labels.ndim != 3:
        raise UserError(f"labels: wanted three axes (z, y, x), got shape {labels.shape}: stack sections into a volume")
    if min(voxel_size_nm) <= 0 or distance_nm < 0:
        raise UserError(
            f"voxel_size_nm and distance_nm: wanted positive lengths, got {voxel_size_nm} and {distance_nm}: give the"
            " size of a voxel and a distance, both in nm"
        )
    height = labels.shape[1]
    wide = _on_boundary(labels)
    near = wide.copy()
    columns = 0
    for rows, reach in sorted(_reaches(voxel_size_nm, distance_nm).items(), key=lambda item: item[1]):
        while columns < reach:
            narrow = wide.copy()
            wide[:, :, 1:] |= narrow[:, :, :-1]
            wide[:, :, :-1] |= narrow[:, :, 1:]
            columns += 1
        if rows < height:
            near[:, rows:] |= wide[:, : height - rows]
            near[:, : height - rows] |= wide[:, rows:]
    return near


def halo(voxel_size_nm: VoxelSize, distance_nm: float = BORDER_NM) -> tuple[int, int, int]:
    """Voxels (z, y, x) around a block that decide about those in it."""
    return (0, int(distance_nm / voxel_size_nm[1]) + 1, int(distance_nm / voxel_size_nm[2]) + 1)


def _on_boundary(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels with a neighbour of another id in their section."""
    found = np.zeros(labels.shape, np.bool_)
    for ids, marks in ((labels, found), (labels.swapaxes(1, 2), found.swapaxes(1, 2))):
        differs = ids[:, :, 1:] != ids[:, :, :-1]
        marks[:, :, 1:] |= differs
        marks[:, :, :-1] |= differs
    return found


def _reaches(voxel_size_nm: VoxelSize, distance_nm: float) -> dict[int, int]:
    """For each number of rows between two voxels within the distance, the most columns."""
    _, row, column = voxel_size_nm
    limit = distance_nm / column
    columns = np.arange(int(limit) + 1)
    rows = range(int(distance_nm / row) + 1)
    within = {n: np.sqrt((n * row / column) ** 2 + columns**2) <= limit for n in rows}
    return {n: int(found.sum()) - 1 for n, found in within.items() if found.any()}
