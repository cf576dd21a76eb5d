"""Finding a way between spheres: the compiled part of growth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GAP_NM = 10.0
"""Free space kept between the spheres of two neurites."""
PROFILE_STEP_NM = 20.0
"""Sampling of the radius along a planned neurite."""
BIN_NM = 250.0
"""Extent of the bins that spheres are found by."""
TRIALS = 12
"""Directions tried at each step: straight on, then turns, the last third of them sharp."""


class Occupancy(NamedTuple):
    """Spheres placed so far, findable by position: bins of space with linked lists of spheres.

    Attributes:
        position: Centres (n, 3), z, y, x in nm.
        radius: Radii (n,) in nm.
        neurite: Id of the owner (n,), from 1.
        following: Next sphere of the same bin (n,), -1 at the end.
        first: First sphere of each bin (bins along z, y, x), -1 where none.
        origin: Position of the first bin's corner (3,).
        largest: Radius of the largest sphere (1,).
    """

    position: Floats
    radius: Floats
    neurite: Integers
    following: Integers
    first: Integers
    origin: Floats
    largest: Floats


@compiled
def free_distance(occupancy: Occupancy, point: Floats, reach: float, own: int) -> float:
    """Distance from ``point`` to the nearest sphere of another neurite than ``own``, ``reach`` at most."""
    nearest = reach
    bins = occupancy.first.shape
    extent = reach + occupancy.largest[0]
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    for axis in range(3):
        low[axis] = max(0, int((point[axis] - occupancy.origin[axis] - extent) / BIN_NM))
        high[axis] = min(bins[axis] - 1, int((point[axis] - occupancy.origin[axis] + extent) / BIN_NM))
    for z in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for x in range(low[2], high[2] + 1):
                node = occupancy.first[z, y, x]
                while node >= 0:
                    if occupancy.neurite[node] != own:
                        dz = point[0] - occupancy.position[node, 0]
                        dy = point[1] - occupancy.position[node, 1]
                        dx = point[2] - occupancy.position[node, 2]
                        distance = np.sqrt(dz * dz + dy * dy + dx * dx) - occupancy.radius[node]
                        nearest = min(nearest, distance)
                    node = occupancy.following[node]
    return nearest


@compiled
def insert(occupancy: Occupancy, begin: int, end: int) -> None:
    """Make the spheres ``begin`` to ``end - 1``, already in the arrays, findable."""
    for node in range(begin, end):
        z = int((occupancy.position[node, 0] - occupancy.origin[0]) / BIN_NM)
        y = int((occupancy.position[node, 1] - occupancy.origin[1]) / BIN_NM)
        x = int((occupancy.position[node, 2] - occupancy.origin[2]) / BIN_NM)
        occupancy.following[node] = occupancy.first[z, y, x]
        occupancy.first[z, y, x] = node
        occupancy.largest[0] = max(occupancy.largest[0], occupancy.radius[node])


@compiled
def next_free(occupancy: Occupancy, points: Floats, begin: int, radius: float) -> int:
    """Index of the first point from ``begin`` on that has ``radius`` of free space, ``len(points)`` if none has."""
    for index in range(begin, len(points)):
        if free_distance(occupancy, points[index], radius + GAP_NM + 1.0, 0) >= radius + GAP_NM:
            return index
    return len(points)


@compiled
def walk(
    occupancy: Occupancy,
    bounds: Floats,
    start: Floats,
    direction: Floats,
    plan: Floats,
    limits: tuple[float, float],
    own: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Grow one unbranched run: of some trial directions take what is straight and free.

    Args:
        occupancy: What is in the way.
        bounds: Lowest and highest position (2, 3); the run ends outside.
        start: Where it begins (3,); that point is no part of the result.
        direction: First direction (3,), of length 1.
        plan: Wanted radius every ``PROFILE_STEP_NM`` (n,); the run ends with it.
        limits: Smallest radius, and tortuosity from 0 to 1.
        own: Id of this neurite, which is not in its own way.
        rng: Draws the trials.

    Returns:
        Positions (k, 3) and radii (k,) of the spheres, possibly none.
    """
    smallest, tortuosity = limits
    positions = np.empty((len(plan) + 1, 3))
    radii = np.empty(len(plan) + 1)
    here = start.copy()
    heading = direction.copy()
    trial = np.empty(3)
    point = np.empty(3)
    best_heading = np.empty(3)
    count = 0
    travelled = 0.0
    radius = plan[0]
    while True:
        step = max(PROFILE_STEP_NM, 0.5 * radius)
        travelled += step
        index = int(travelled / PROFILE_STEP_NM)
        if index >= len(plan):
            break
        wanted = plan[index]
        best = -np.inf
        best_free = 0.0
        for attempt in range(TRIALS):
            turn = 0.0 if attempt == 0 else tortuosity * (0.5 if attempt < 2 * TRIALS // 3 else 1.5)
            norm = 0.0
            for axis in range(3):
                trial[axis] = heading[axis] + turn * rng.standard_normal()
                norm += trial[axis] * trial[axis]
            norm = np.sqrt(norm)
            straight = 0.0
            for axis in range(3):
                trial[axis] /= norm
                point[axis] = here[axis] + step * trial[axis]
                straight += trial[axis] * heading[axis]
            free = free_distance(occupancy, point, 1.3 * wanted + GAP_NM, own) - GAP_NM
            score = straight + 1.5 * free / wanted + 0.25 * tortuosity * rng.random()
            if free >= smallest and score > best:
                best = score
                best_free = free
                best_heading[:] = trial
        if best == -np.inf:
            break
        heading[:] = best_heading
        here += step * heading
        if np.any(here < bounds[0]) or np.any(here > bounds[1]):
            break
        radius = max(smallest, min(wanted, best_free, radius + 0.4 * step))
        positions[count] = here
        radii[count] = radius
        count += 1
    return positions[:count].copy(), radii[:count].copy()
