"""Skeletons of densely packed neurites: curves of spheres that steer clear of each other.

1. Dendrites: trunks through random points in random directions, until they hold their share of the volume; spines.
2. Axons: one through every point of a jittered lattice that is still free, so that no wide gap stays.
3. Both branch. A neurite ends where it leaves the bounds or finds no way.

Spheres of two neurites never overlap. The neurites themselves are what the skeletons become when each grows until it
touches its neighbours (rendering), so every neurite is connected along its skeleton.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssns.synthetic.settings import Neurites
from ssns.synthetic.walking import (
    BIN_NM,
    GAP_NM,
    PROFILE_STEP_NM,
    Floats,
    Integers,
    Occupancy,
    free_distance,
    insert,
    next_free,
    walk,
)

SMALLEST_AXON_NM = 46.0
"""An axon ends where it would be thinner."""
SMALLEST_SPINE_NM = 40.0
"""A spine ends where its neck would be thinner."""
SHORTEST_NM = 500.0
"""Shorter stubs are discarded: their space goes to the neighbours."""
LONGEST_NM = 60_000.0
"""No run is planned longer, so that planning one does not grow with the volume."""

Scalar = TypeVar("Scalar", bound=np.generic)


class Skeletons(NamedTuple):
    """The grown neurites.

    Attributes:
        position: Nodes (n, 3), z, y, x in nm.
        radius: Radii of the nodes (n,) in nm.
        parent: Node that each is joined to (n,), -1 for the first of a neurite. Nodes of an unbranched run are
            consecutive, each the parent of the next.
        neurite: Id of each node's neurite (n,), from 1.
        dendrite: Whether each neurite is a dendrite (neurites + 1,); entry 0 is no neurite.
    """

    position: Floats
    radius: Floats
    parent: Integers
    neurite: Integers
    dendrite: NDArray[np.bool_]


class Growth:
    """The tissue while it grows.

    Args:
        settings: Sizes and densities.
        bounds: Lowest and highest position (2, 3) in nm.
        rng: Draws everything.
    """

    def __init__(self, settings: Neurites, bounds: Floats, rng: np.random.Generator) -> None:
        self.settings = settings
        self.bounds = bounds
        self.rng = rng
        self.dendrite = [False]
        self._count = 0
        self._parent = np.empty(1024, np.int64)
        bins = np.maximum(1, np.ceil((bounds[1] - bounds[0]) / BIN_NM).astype(int) + 1)
        self._occupancy = Occupancy(
            np.empty((1024, 3)),
            np.empty(1024),
            np.empty(1024, np.int64),
            np.empty(1024, np.int64),
            np.full(tuple(bins), -1, np.int64),
            bounds[0].copy(),
            np.zeros(1),
        )

    def run(self) -> Skeletons:
        """Grow everything."""
        self._grow_dendrites()
        self._grow_axons()
        n = self._count
        held = self._occupancy
        return Skeletons(
            held.position[:n], held.radius[:n], self._parent[:n], held.neurite[:n], np.array(self.dendrite, bool)
        )

    def _grow_dendrites(self) -> None:
        size = self.bounds[1] - self.bounds[0]
        wanted = self.settings.dendrite_share * float(np.prod(size))
        attempts = 20 + int(20 * wanted / self.settings.dendrite_radius_nm**2 / float(size.max()))
        for _ in range(attempts):
            if wanted <= 0.0:
                break
            radius = self._spread(self.settings.dendrite_radius_nm)
            smallest = 0.45 * radius
            seed = self.bounds[0] + size * self.rng.random(3)
            if free_distance(self._occupancy, seed, radius + GAP_NM, 0) < radius:
                continue
            profile = self._trunk(radius, 0.12)
            trunk = self._grow_neurite(seed, profile, (smallest, 0.4 * self.settings.tortuosity), dendrite=True)
            steps = np.linalg.norm(np.diff(self._occupancy.position[trunk], axis=0), axis=1)
            wanted -= float(np.pi * (self._occupancy.radius[trunk][1:] ** 2 * steps).sum())
            for node in self._branch_points(trunk, self.settings.spine_spacing_nm):
                self._branch(int(node), self._spine(), (SMALLEST_SPINE_NM, self.settings.tortuosity))
            for node in self._branch_points(trunk, 2.0 * self.settings.branch_spacing_nm):
                self._branch(int(node), 0.6 * self._trunk(radius, 0.12), (0.4 * smallest, self.settings.tortuosity))

    def _grow_axons(self) -> None:
        spacing = 1.6 * self.settings.axon_radius_nm
        size = self.bounds[1] - self.bounds[0]
        lattice = np.stack(np.meshgrid(*(np.arange(0.0, n, spacing) for n in size), indexing="ij"), -1).reshape(-1, 3)
        seeds = np.minimum(self.bounds[0] + lattice + spacing * self.rng.random(lattice.shape), self.bounds[1])
        seeds = self.rng.permutation(seeds)
        limits = (SMALLEST_AXON_NM, self.settings.tortuosity)
        index = next_free(self._occupancy, seeds, 0, SMALLEST_AXON_NM)
        while index < len(seeds):
            profile = self._axon(self._spread(self.settings.axon_radius_nm))
            run = self._grow_neurite(seeds[index], profile, limits, dendrite=False)
            for node in self._branch_points(run, self.settings.branch_spacing_nm):
                self._branch(int(node), self._axon(self._spread(0.8 * self.settings.axon_radius_nm)), limits)
            index = next_free(self._occupancy, seeds, index + 1, SMALLEST_AXON_NM)

    def _grow_neurite(self, seed: Floats, plan: Floats, limits: tuple[float, float], *, dendrite: bool) -> Integers:
        """A new neurite from ``seed`` both ways; its nodes, none where it found too little space."""
        own = len(self.dendrite)
        direction = self._direction()
        middle = len(plan) // 2
        wanted = float(plan[middle])
        first = min(wanted, free_distance(self._occupancy, seed, wanted + GAP_NM, 0) - GAP_NM)
        ways = [
            walk(self._occupancy, self.bounds, seed, heading, half.copy(), limits, own, self.rng)
            for heading, half in ((direction, plan[middle:]), (-direction, plan[middle::-1]))
        ]
        points = np.concatenate([seed[None], *(positions for positions, _ in ways)])
        length = np.linalg.norm(np.diff(ways[0][0], axis=0), axis=1).sum()
        length += np.linalg.norm(np.diff(ways[1][0], axis=0), axis=1).sum()
        if length < SHORTEST_NM:
            return np.empty(0, np.int64)
        self.dendrite.append(dendrite)
        begin = self._count
        self._append(seed[None], np.array([first]), -1, own)
        for positions, radii in ways:
            self._append(positions, radii, begin, own)
        return np.arange(begin, begin + len(points))

    def _branch(self, node: int, plan: Floats, limits: tuple[float, float]) -> None:
        """A side run from ``node``, across its neurite; nothing where there is no space."""
        own = int(self._occupancy.neurite[node])
        along = self._occupancy.position[node] - self._occupancy.position[max(0, int(self._parent[node]))]
        across = np.cross(along, self._direction())
        norm = float(np.linalg.norm(across))
        if norm == 0.0:
            return
        across /= norm
        start = self._occupancy.position[node] + across * max(0.0, self._occupancy.radius[node] - plan[0])
        positions, radii = walk(self._occupancy, self.bounds, start, across, plan, limits, own, self.rng)
        if len(positions) > 3:
            self._append(positions, radii, node, own)

    def _append(self, positions: Floats, radii: Floats, parent: int, own: int) -> None:
        """Keep a run whose first node is joined to ``parent``."""
        begin, end = self._count, self._count + len(positions)
        if end > len(self._parent):
            self._reserve(2 * end)
        held = self._occupancy
        held.position[begin:end] = positions
        held.radius[begin:end] = radii
        held.neurite[begin:end] = own
        self._parent[begin:end] = np.arange(begin - 1, end - 1)
        if end > begin:
            self._parent[begin] = parent
        insert(held, begin, end)
        self._count = end

    def _reserve(self, capacity: int) -> None:
        held = self._occupancy
        self._occupancy = held._replace(
            position=_enlarged(held.position, capacity),
            radius=_enlarged(held.radius, capacity),
            neurite=_enlarged(held.neurite, capacity),
            following=_enlarged(held.following, capacity),
        )
        self._parent = _enlarged(self._parent, capacity)

    def _branch_points(self, nodes: Integers, spacing: float) -> Integers:
        """Some nodes of a run, about one every ``spacing`` nm."""
        if len(nodes) < 4:
            return nodes[:0]
        steps = np.linalg.norm(np.diff(self._occupancy.position[nodes], axis=0), axis=1)
        chosen = self.rng.random(len(steps)) < np.minimum(steps, spacing) / spacing
        picked: Integers = nodes[1:][chosen]
        return picked

    def _direction(self) -> Floats:
        vector: Floats = self.rng.standard_normal(3)
        vector /= np.linalg.norm(vector)
        return vector

    def _spread(self, median: float) -> float:
        return median * float(np.exp(self.settings.radius_spread * np.clip(self.rng.standard_normal(), -2.0, 2.0)))

    def _trunk(self, radius: float, waviness: float) -> Floats:
        """Radius of a neurite, slowly varying along a length that crosses the bounds where these are not too far."""
        length = min(LONGEST_NM, 2.0 * float(np.linalg.norm(self.bounds[1] - self.bounds[0])))
        knots = np.arange(0.0, length + 1000.0, 400.0)
        values = radius * np.exp(waviness * self.rng.standard_normal(len(knots)))
        profile: Floats = np.interp(np.arange(0.0, length, PROFILE_STEP_NM), knots, values)
        return profile

    def _axon(self, radius: float) -> Floats:
        """Radius of an axon: thin, with a bouton now and then."""
        profile = self._trunk(radius, 0.2)
        along = np.arange(len(profile)) * PROFILE_STEP_NM
        number = self.rng.poisson(along[-1] / self.settings.bouton_spacing_nm)
        for centre in self.rng.uniform(0.0, along[-1], number):
            top = self._spread(self.settings.bouton_radius_nm)
            bump = np.exp(-(((along - centre) / (1.3 * top)) ** 2))
            profile = np.maximum(profile, profile + (top - profile) * bump)
        return profile

    def _spine(self) -> Floats:
        """Radius of a spine: a neck, then a head."""
        neck = np.full(int(self.rng.uniform(10, 40)), self.rng.uniform(45.0, 70.0))
        top = self.rng.uniform(110.0, 220.0)
        return np.concatenate([neck, np.linspace(neck[-1], top, 8), np.full(int(1.2 * top / PROFILE_STEP_NM), top)])


def _enlarged(array: NDArray[Scalar], capacity: int) -> NDArray[Scalar]:
    """A copy with room for ``capacity`` rows."""
    grown = np.empty((capacity, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
