"""What the microscope sees of the tissue: the compiled loop over voxels.

Every voxel belongs to the neurite whose skeleton's surface is nearest. The difference of the distances to the two
nearest neurites gives the distance from their boundary, and its slope along z how obliquely the section cuts it: grey
values are averaged over the thickness of the section, so that oblique membranes are blurred as in real sections.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled

if TYPE_CHECKING:
    from ssns.synthetic.bins import Bins
    from ssns.synthetic.organelles import Capsules, Synapses

MITOCHONDRION, TUBULE, MICROTUBULE, VESICLE = range(4)
"""Kinds of organelles."""

TILE = 8
"""Voxels along y and x that share one list of pieces near enough to matter."""
CAP_NM = 60.0
"""Distance from a boundary beyond which nothing of it is seen."""
SUBSECTIONS = 5
"""Depths that a section is averaged over."""


class Scene(NamedTuple):
    """All that is drawn, with bins for the region at hand.

    Attributes:
        neurites: Pieces of the skeletons.
        neurite_bins: Where to find them.
        organelles: Pieces of the organelles.
        organelle_bins: Where to find them.
        synapses: The contacts.
        synapse_bins: Where to find them.
        brightness: Grey of each neurite's cytoplasm (ids,).
    """

    neurites: Capsules
    neurite_bins: Bins
    organelles: Capsules
    organelle_bins: Bins
    synapses: Synapses
    synapse_bins: Bins
    brightness: NDArray[np.float64]


class Optics(NamedTuple):
    """Lengths in nm: section thickness, membrane, half the cleft and half the background; then the grain's grey."""

    thickness: float
    membrane: float
    half_cleft: float
    half_background: float
    texture: float


@compiled
def _distance(
    z: float, y: float, x: float, ends: NDArray[np.float32], radii: NDArray[np.float32]
) -> tuple[float, float, float, float]:
    """Signed distance from a cone with round ends, and the direction away from its axis (z, y, x)."""
    az, ay, ax = z - ends[0, 0], y - ends[0, 1], x - ends[0, 2]
    bz, by, bx = ends[1, 0] - ends[0, 0], ends[1, 1] - ends[0, 1], ends[1, 2] - ends[0, 2]
    square = bz * bz + by * by + bx * bx
    t = 0.0
    if square > 0.0:
        t = min(1.0, max(0.0, (az * bz + ay * by + ax * bx) / square))
    az, ay, ax = az - t * bz, ay - t * by, ax - t * bx
    length = np.sqrt(az * az + ay * ay + ax * ax)
    scale = 1.0 / max(length, 1e-9)
    return length - radii[0] - t * (radii[1] - radii[0]), az * scale, ay * scale, ax * scale


@compiled
def _ridge(offset: float, width: float) -> float:
    """A smooth bump of height 1 at 0 that ends at ``width``."""
    t = offset / width
    return (1.0 - t * t) ** 2 if -1.0 < t < 1.0 else 0.0


@compiled
def _step(value: float, width: float) -> float:
    """A ramp from 0 to 1 over ``width`` around 0."""
    return min(1.0, max(0.0, 0.5 + value / width))


@compiled
def _bin_range(bins: Bins, centre: NDArray[np.float64]) -> tuple[int, int]:
    index = 0
    for axis in range(3):
        index = index * bins.shape[axis] + int(np.floor(centre[axis] / bins.size)) - bins.first[axis]
    return bins.start[index], bins.start[index + 1]


@compiled
def _gather(
    pieces: Capsules,
    bins: Bins,
    centre: NDArray[np.float64],
    limits: tuple[float, float],
    near: NDArray[np.int64],
    distances: NDArray[np.float64],
) -> int:
    """List in ``near`` the pieces within ``limits[0]`` of the nearest, and within ``limits[1]``; their number."""
    begin, end = _bin_range(bins, centre)
    nearest = np.inf
    for item in range(begin, end):
        piece = bins.items[item]
        distance = _distance(centre[0], centre[1], centre[2], pieces.ends[piece], pieces.radii[piece])[0]
        distances[item - begin] = distance
        nearest = min(nearest, distance)
    count = 0
    for item in range(begin, end):
        if distances[item - begin] <= min(nearest + limits[0], limits[1]):
            near[count] = bins.items[item]
            count += 1
    return count


@compiled
def _gather_synapses(
    synapses: Synapses, bins: Bins, centre: NDArray[np.float64], reach: float, near: NDArray[np.int64]
) -> int:
    begin, end = _bin_range(bins, centre)
    count = 0
    for item in range(begin, end):
        piece = bins.items[item]
        square = 0.0
        for axis in range(3):
            square += (centre[axis] - synapses.position[piece, axis]) ** 2
        if square <= (reach + synapses.radius[piece]) ** 2:
            near[count] = piece
            count += 1
    return count


@compiled
def _boundary(
    scene: Scene, near: NDArray[np.int64], point: tuple[float, float, float]
) -> tuple[int, int, float, float]:
    """Nearest and second neurite (0 where none), distance from their boundary, and its slope along z."""
    z, y, x = point
    first, second = 0, 0
    d1, d2 = np.inf, np.inf
    z1 = y1 = x1 = z2 = y2 = x2 = 0.0
    for piece in near:
        owner = scene.neurites.owner[piece]
        d, uz, uy, ux = _distance(z, y, x, scene.neurites.ends[piece], scene.neurites.radii[piece])
        if d < d1:
            if owner != first:
                second, d2, z2, y2, x2 = first, d1, z1, y1, x1
            first, d1, z1, y1, x1 = owner, d, uz, uy, ux
        elif owner != first and d < d2:
            second, d2, z2, y2, x2 = owner, d, uz, uy, ux
    if second == 0:
        return first, 0, CAP_NM, 0.0
    steepness = max(0.8, np.sqrt((z2 - z1) ** 2 + (y2 - y1) ** 2 + (x2 - x1) ** 2))
    return first, second, (d2 - d1) / steepness, (z2 - z1) / steepness


@compiled
def _select(
    organelles: Capsules,
    near: NDArray[np.int64],
    owners: tuple[int, int],
    point: tuple[float, float, float],
    reach: float,
    chosen: NDArray[np.int64],
) -> int:
    """List in ``chosen`` those of ``near`` that are within ``reach`` and in one of two neurites; their number."""
    count = 0
    for piece in near:
        if organelles.owner[piece] != owners[0] and organelles.owner[piece] != owners[1]:
            continue
        if _distance(point[0], point[1], point[2], organelles.ends[piece], organelles.radii[piece])[0] < reach:
            chosen[count] = piece
            count += 1
    return count


@compiled
def _cristae(owner: int, point: tuple[float, float, float], tone: float) -> float:
    """Darkening by the folds of a mitochondrion's inner membrane: wavy sheets, their direction the neurite's own."""
    turn = 2.4 * owner
    along = math.cos(turn) * point[1] + math.sin(turn) * point[2] + 0.4 * point[0]
    phase = along / 48.0 + 0.3 * tone
    return 0.35 * _ridge(phase - math.floor(phase) - 0.5, 0.33)


@compiled
def _organelle_grey(
    organelles: Capsules,
    near: NDArray[np.int64],
    owner: int,
    point: tuple[float, float, float],
    grey: float,
    textures: tuple[float, float],
) -> float:
    """Grey at a point inside neurite ``owner``, whose cytoplasm has ``grey``."""
    z, y, x = point
    fine, tone = textures
    mitochondrion = np.inf
    dark = 0.0
    for piece in near:
        if organelles.owner[piece] != owner:
            continue
        kind = organelles.kind[piece]
        d = _distance(z, y, x, organelles.ends[piece], organelles.radii[piece])[0]
        if kind == MITOCHONDRION:
            mitochondrion = min(mitochondrion, d)
        elif kind == VESICLE:
            dark = max(dark, 0.8 * _ridge(d + 4.0, 9.0), 0.35 * _step(-d, 6.0))
        elif kind == TUBULE:
            # Wide tubules are cisternae, whose lumen is lighter than their membrane.
            dark = max(dark, _ridge(d + 4.0, 12.0), 0.9 * _step(-d, 6.0) * _step(d + 30.0, 20.0))
        else:
            dark = max(dark, 0.22 * _step(-d, 8.0))
    if mitochondrion < 6.0:
        inside = _step(-mitochondrion - 8.0, 10.0)
        grey += inside * (122.0 + 15.0 * fine + 6.0 * tone - grey)
        dark = max(_ridge(mitochondrion + 2.0, 9.0), 0.75 * _ridge(mitochondrion + 17.0, 8.0))
        if mitochondrion < -20.0:
            dark = max(dark, _cristae(owner, point, tone))
    return grey + dark * (20.0 - grey)


@compiled
def _synapse_dark(
    synapses: Synapses,
    near: NDArray[np.int64],
    sides: tuple[int, int],
    offset: float,
    point: tuple[float, float, float],
) -> float:
    """Darkening by a synapse at ``offset`` nm inside ``sides[0]`` (negative: inside ``sides[1]``)."""
    dark = 0.0
    for piece in near:
        before, after = synapses.before[piece], synapses.after[piece]
        if before == sides[0] and after == sides[1]:
            depth = -offset
        elif before == sides[1] and after == sides[0]:
            depth = offset
        else:
            continue
        square = 0.0
        for axis in range(3):
            square += (point[axis] - synapses.position[piece, axis]) ** 2
        radial = min(1.0, max(0.0, 3.0 * (1.0 - np.sqrt(square) / synapses.radius[piece])))
        profile = _ridge(depth - 14.0, 40.0) if depth > 0.0 else 0.75 * _ridge(depth - 4.0, 28.0)
        dark = max(dark, radial * profile)
    return dark


@compiled
def _grey(
    scene: Scene,
    lists: tuple[NDArray[np.int64], NDArray[np.int64]],
    boundary: tuple[int, int, float, float],
    point: tuple[float, float, float],
    optics: Optics,
    textures: tuple[float, float],
) -> float:
    """Grey of one voxel: the mean over the depths of the section."""
    first, second, distance, slope = boundary
    organelles, synapses = lists
    fine, tone = textures
    strength = min(1.0, max(0.45, 0.8 + 0.14 * tone))
    half_cleft = optics.half_cleft * min(2.0, max(0.7, 1.0 + 0.3 * tone))
    if distance >= CAP_NM and len(organelles) == 0:
        plain: float = scene.brightness[first] + optics.texture * fine + 5.0 * tone
        return plain
    total = 0.0
    for part in range(SUBSECTIONS):
        depth = optics.thickness * ((part + 0.5) / SUBSECTIONS - 0.5)
        offset = distance + slope * depth if distance < CAP_NM else distance
        side = first if offset >= 0.0 else second
        grey = scene.brightness[side] + optics.texture * fine + 5.0 * tone
        from_boundary = abs(offset)
        if len(organelles) > 0 and from_boundary > half_cleft:
            here = (point[0] + depth, point[1], point[2])
            grey = _organelle_grey(scene.organelles, organelles, side, here, grey, textures)
        if from_boundary < CAP_NM:
            grey += _step(half_cleft - from_boundary, 4.0) * (138.0 - grey)
            dark = strength * _ridge(from_boundary - half_cleft, optics.membrane)
            if len(synapses) > 0:
                dark = max(dark, 0.75 * _synapse_dark(scene.synapses, synapses, (first, second), offset, point))
            grey += dark * (32.0 - grey)
        total += grey
    return total / SUBSECTIONS


@compiled
def _ball(tile: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre (3,) and radius of a ball that holds a tile, whose corners are (2, 2, 3)."""
    centre = np.empty(3)
    for axis in range(3):
        centre[axis] = 0.25 * (tile[0, 0, axis] + tile[0, 1, axis] + tile[1, 0, axis] + tile[1, 1, axis])
    square = 0.0
    for i in range(2):
        for j in range(2):
            square = max(square, np.sum((tile[i, j] - centre) ** 2))
    return centre, np.sqrt(square)


@compiled
def _between(tile: NDArray[np.float64], v: float, u: float) -> tuple[float, float, float]:
    """Position between a tile's corners (2, 2, 3), at the shares ``v`` along y and ``u`` along x."""
    a, b, c, d = (1.0 - v) * (1.0 - u), (1.0 - v) * u, v * (1.0 - u), v * u
    z = a * tile[0, 0, 0] + b * tile[0, 1, 0] + c * tile[1, 0, 0] + d * tile[1, 1, 0]
    y = a * tile[0, 0, 1] + b * tile[0, 1, 1] + c * tile[1, 0, 1] + d * tile[1, 1, 1]
    x = a * tile[0, 0, 2] + b * tile[0, 1, 2] + c * tile[1, 0, 2] + d * tile[1, 1, 2]
    return z, y, x


@compiled
def _only_owner(pieces: Capsules, near: NDArray[np.int64]) -> int:
    """The neurite that all of ``near`` belong to, 0 where there are several or none."""
    owner = 0
    for piece in near:
        if owner != 0 and pieces.owner[piece] != owner:
            return 0
        owner = int(pieces.owner[piece])
    return owner


@compiled
def render(
    scene: Scene,
    optics: Optics,
    corners: NDArray[np.float64],
    textures: NDArray[np.float32],
    grey: NDArray[np.float32],
    labels: NDArray[np.uint32],
) -> None:
    """Draw tiles.

    Args:
        scene: What there is.
        optics: How it is seen.
        corners: Position in the tissue of the tiles' corners (z, tiles_y + 1, tiles_x + 1, 3) in nm; voxels between
            are interpolated.
        textures: Fine and coarse noise (2, z, y, x) of variance 1.
        grey: Filled with mean grey values (z, y, x), y and x being ``TILE`` times the tiles.
        labels: Filled with ids, 0 near boundaries; of the same shape.
    """
    thick = 0.5 * optics.thickness + 6.0
    longest = 0
    for bins in (scene.neurite_bins, scene.organelle_bins, scene.synapse_bins):
        longest = max(longest, np.max(np.diff(bins.start)))
    distances = np.empty(longest)
    near = np.empty((4, longest), np.int64)
    for z in range(grey.shape[0]):
        for tile_y in range(corners.shape[1] - 1):
            for tile_x in range(corners.shape[2] - 1):
                tile = corners[z, tile_y : tile_y + 2, tile_x : tile_x + 2]
                centre, reach = _ball(tile)
                slack = 2.0 * (reach + CAP_NM)
                count = _gather(scene.neurites, scene.neurite_bins, centre, (slack, np.inf), near[0], distances)
                neurites = near[0, :count]
                alone = _only_owner(scene.neurites, neurites)
                seen = reach + thick
                count = _gather(scene.organelles, scene.organelle_bins, centre, (np.inf, seen), near[1], distances)
                organelles = near[1, :count]
                count = _gather_synapses(scene.synapses, scene.synapse_bins, centre, reach, near[2])
                synapses = near[2, :count]
                for i in range(TILE):
                    for j in range(TILE):
                        y, x = tile_y * TILE + i, tile_x * TILE + j
                        point = _between(tile, (i + 0.5) / TILE, (j + 0.5) / TILE)
                        boundary = (alone, 0, CAP_NM, 0.0) if alone > 0 else _boundary(scene, neurites, point)
                        owners = (boundary[0], boundary[1])
                        count = _select(scene.organelles, organelles, owners, point, thick, near[3])
                        lists = (near[3, :count], synapses)
                        grain = (np.float64(textures[0, z, y, x]), np.float64(textures[1, z, y, x]))
                        grey[z, y, x] = _grey(scene, lists, boundary, point, optics, grain)
                        labels[z, y, x] = boundary[0] if boundary[2] > optics.half_background else 0
