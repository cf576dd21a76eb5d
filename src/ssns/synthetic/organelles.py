"""Organelles: rods, tubules and spheres that are laid inside the grown neurites, and synapses between them.

Each lies within the spheres of its own neurite's skeleton, hence within the neurite whatever its final shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ssns.synthetic.growth import Skeletons
from ssns.synthetic.render import MICROTUBULE, MITOCHONDRION, TUBULE, VESICLE
from ssns.synthetic.settings import Organelles
from ssns.synthetic.walking import Floats, Integers

CLEARANCE_NM = 22.0
"""Least distance from an organelle to the sphere that holds it."""
SAMPLING_NM = 60.0
"""Length of the pieces of rods and tubules."""


class Capsules(NamedTuple):
    """Cones with round ends, the pieces of everything drawn; in small types, since a large volume has millions.

    Attributes:
        ends: Both ends (n, 2, 3), z, y, x in nm.
        radii: Radius at both ends (n, 2) in nm.
        owner: Id of the neurite it belongs to (n,).
        kind: What it is (n,): ``render.MITOCHONDRION`` ... for organelles, 0 for neurites.
    """

    ends: NDArray[np.float32]
    radii: NDArray[np.float32]
    owner: NDArray[np.int32]
    kind: NDArray[np.int8]


class Synapses(NamedTuple):
    """Contacts with a post-synaptic density.

    Attributes:
        position: Middle of the contact (n, 3), z, y, x in nm.
        radius: Radius of the density (n,) in nm.
        before: Id of the neurite that holds the vesicles (n,).
        after: Id of the other (n,).
    """

    position: Floats
    radius: Floats
    before: Integers
    after: Integers


class Run(NamedTuple):
    """An unbranched part of a skeleton, ``along`` being the length up to each node in nm."""

    position: Floats
    radius: Floats
    along: Floats
    tangent: Floats
    neurite: int
    dendrite: bool


def skeleton_capsules(skeletons: Skeletons) -> Capsules:
    """The neurites themselves: one piece from each node to its parent."""
    nodes = np.flatnonzero(skeletons.parent >= 0)
    parents = skeletons.parent[nodes]
    radii = np.stack([skeletons.radius[parents], skeletons.radius[nodes]], 1)
    return _capsules(
        skeletons.position[parents],
        skeletons.position[nodes],
        np.minimum(radii, _side_radius(skeletons, nodes)),
        skeletons.neurite[nodes],
        0,
    )


def _capsules(begin: Floats, end: Floats, radii: Floats, owner: Integers | int, kind: int) -> Capsules:
    """Pieces of one kind; ``owner`` may be one for all."""
    count = len(begin)
    return Capsules(
        np.stack([begin, end], 1, dtype=np.float32, casting="same_kind"),
        radii.astype(np.float32),
        np.broadcast_to(owner, count).astype(np.int32),
        np.full(count, kind, np.int8),
    )


def _side_radius(skeletons: Skeletons, nodes: Integers) -> Floats:
    """Largest radius (n, 1) of a piece: a branch begins as thin as it goes on, inside the trunk that it leaves."""
    branches = skeletons.parent[nodes] != nodes - 1
    return np.where(branches, skeletons.radius[nodes], np.inf)[:, None]


def runs(skeletons: Skeletons) -> Iterator[Run]:
    """The unbranched parts of at least three nodes."""
    starts = np.flatnonzero(skeletons.parent != np.arange(len(skeletons.parent)) - 1)
    starts = np.union1d([0], starts)
    for begin, end in zip(starts, np.append(starts[1:], len(skeletons.parent)), strict=True):
        if end - begin < 3:
            continue
        position = skeletons.position[begin:end]
        steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
        tangent = np.gradient(position, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        neurite = int(skeletons.neurite[begin])
        yield Run(
            position,
            skeletons.radius[begin:end],
            np.concatenate([[0.0], np.cumsum(steps)]),
            tangent,
            neurite,
            bool(skeletons.dendrite[neurite]),
        )


class Placement:
    """Lays the organelles of a tissue.

    Args:
        settings: Sizes and densities.
        skeletons: The grown neurites.
        rng: Draws everything.
    """

    def __init__(self, settings: Organelles, skeletons: Skeletons, rng: np.random.Generator) -> None:
        self.settings = settings
        self.skeletons = skeletons
        self.rng = rng
        self._pieces: list[Capsules] = []
        self._synapses: list[tuple[Floats, float, int, int]] = []
        self._tree = cKDTree(skeletons.position)

    def run(self) -> tuple[Capsules, Synapses]:
        """Lay everything, run by run."""
        for run in runs(self.skeletons):
            self._mitochondria(run)
            self._tubules(run)
            if not run.dendrite:
                self._boutons(run)
        empty = _capsules(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 2)), 0, 0)
        pieces = Capsules(*(np.concatenate(parts) for parts in zip(empty, *self._pieces, strict=True)))
        position, radius, before, after = zip(*self._synapses, strict=True) if self._synapses else ([], [], [], [])
        synapses = Synapses(
            np.array(position).reshape(-1, 3),
            np.array(radius, float),
            np.array(before, np.int64),
            np.array(after, np.int64),
        )
        return pieces, synapses

    def _mitochondria(self, run: Run) -> None:
        at = float(self.rng.exponential(self.settings.mitochondrion_spacing_nm))
        while at < run.along[-1]:
            stop = at + self.settings.mitochondrion_length_nm * self.rng.uniform(0.4, 1.6)
            inside = (run.along >= at) & (run.along <= stop)
            room = float(run.radius[inside].min()) - CLEARANCE_NM if inside.any() else 0.0
            radius = min(room, self.settings.mitochondrion_radius_nm * self.rng.uniform(0.65, 1.0))
            if radius >= 45.0 and stop < run.along[-1]:
                sample = np.arange(at, stop, SAMPLING_NM)
                offset = (room - radius) * self._sideways(run, sample, 1000.0)
                taper = 1.0 + 0.1 * self.rng.standard_normal(len(sample)).clip(-1.5, 0.0)
                self._chain(run, sample, offset, radius * taper, MITOCHONDRION)
            at = stop + float(self.rng.exponential(self.settings.mitochondrion_spacing_nm))

    def _tubules(self, run: Run) -> None:
        typical = float(np.median(run.radius))
        reticulum = (TUBULE, 1 + int(self.rng.poisson(typical / 120.0)), 700.0, 180.0)
        filaments = (MICROTUBULE, int(self.rng.poisson(typical / 40.0)), 2500.0, 900.0)
        for kind, number, length, winding in (reticulum, filaments):
            for _ in range(number):
                at = float(self.rng.uniform(-length, length))
                while at < run.along[-1]:
                    stop = at + float(self.rng.exponential(length)) + 3.0 * SAMPLING_NM
                    sample = np.arange(max(0.0, at), min(stop, run.along[-1]), SAMPLING_NM)
                    if len(sample) > 1:
                        self._tubule(run, sample, kind, winding)
                    at = stop + float(self.rng.exponential(1.2 * length))

    def _tubule(self, run: Run, sample: Floats, kind: int, winding: float) -> None:
        if kind == TUBULE:
            radius = self.settings.reticulum_radius_nm * self.rng.choice([0.8, 1.0, 1.2, 2.2])
            radii = radius * np.exp(0.25 * self.rng.standard_normal(len(sample)).clip(-2.0, 2.0))
        else:
            radii = np.full(len(sample), self.settings.microtubule_radius_nm)
        room = np.interp(sample, run.along, run.radius) - CLEARANCE_NM - radii
        if room.min() <= 0.0:
            return
        self._chain(run, sample, room[:, None] * self._sideways(run, sample, winding), radii, kind)

    def _sideways(self, run: Run, sample: Floats, winding: float) -> Floats:
        """Vectors of length 1 at most, across the run, that change over ``winding`` nm along it: (n, 3)."""
        knots = np.arange(sample[0], sample[-1] + 2.0 * winding, winding)
        vectors = self.rng.standard_normal((len(knots), 3))
        vectors *= (self.rng.random((len(knots), 1)) ** 0.5) / np.linalg.norm(vectors, axis=1, keepdims=True)
        drift = np.stack([np.interp(sample, knots, vectors[:, axis]) for axis in range(3)], 1)
        tangent = np.stack([np.interp(sample, run.along, run.tangent[:, axis]) for axis in range(3)], 1)
        across: Floats = drift - (drift * tangent).sum(1, keepdims=True) * tangent
        return across

    def _chain(self, run: Run, sample: Floats, offset: Floats, radii: Floats, kind: int) -> None:
        centres = np.stack([np.interp(sample, run.along, run.position[:, axis]) for axis in range(3)], 1) + offset
        ends = np.stack([radii[:-1], radii[1:]], 1)
        self._pieces.append(_capsules(centres[:-1], centres[1:], ends, run.neurite, kind))

    def _boutons(self, run: Run) -> None:
        """Vesicles where an axon is thick, and the synapse beside them."""
        thick = run.radius > max(100.0, 1.25 * float(np.median(run.radius)))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], thick, [False]]).astype(int)))
        for begin, end in edges.reshape(-1, 2):
            peak = begin + int(np.argmax(run.radius[begin:end]))
            contact = self._contact(run.position[peak], float(run.radius[peak]), run.neurite)
            if contact is None:
                continue
            point, partner = contact
            self._synapses.append(
                (point, self.settings.synapse_radius_nm * self.rng.uniform(0.6, 1.4), run.neurite, partner)
            )
            self._vesicles(run, np.arange(begin, end), point)

    def _contact(self, centre: Floats, radius: float, own: int) -> tuple[Floats, int] | None:
        """Where a sphere comes nearest to another neurite, dendrites preferred, and that one's id."""
        distances, nodes = self._tree.query(centre, k=min(200, len(self.skeletons.radius)))
        partners = self.skeletons.neurite[nodes]
        gaps = distances - self.skeletons.radius[nodes] - radius
        reachable = (partners != own) & (gaps < 60.0)
        if not reachable.any():
            return None
        preference = np.where(reachable, gaps - 100.0 * self.skeletons.dendrite[partners], np.inf)
        best = int(np.argmin(preference))
        towards = (self.skeletons.position[nodes[best]] - centre) / distances[best]
        return centre + towards * (radius + 0.5 * gaps[best]), int(partners[best])

    def _vesicles(self, run: Run, nodes: Integers, synapse: Floats) -> None:
        """Spheres that keep apart, denser towards the synapse."""
        wanted = int(self.rng.poisson(self.settings.vesicles_per_bouton))
        radius = self.settings.vesicle_radius_nm
        weight = run.radius[nodes] ** 3
        chosen = self.rng.choice(nodes, 4 * wanted, p=weight / weight.sum())
        shift = self.rng.standard_normal((len(chosen), 3))
        shift *= self.rng.random((len(chosen), 1)) ** (1 / 3) / np.linalg.norm(shift, axis=1, keepdims=True)
        points = run.position[chosen] + shift * (run.radius[chosen] - radius - 10.0)[:, None]
        nearness = np.exp(-np.linalg.norm(points - synapse, axis=1) / 250.0)
        points = points[self.rng.random(len(points)) < 0.15 + nearness]
        crowded = cKDTree(points).query_pairs(1.9 * radius, output_type="ndarray") if len(points) else np.empty((0, 2))
        apart = np.ones(len(points), bool)
        for first, second in crowded.astype(int):
            if apart[first] and apart[second]:
                apart[second] = False
        points = points[apart][:wanted]
        radii = radius * np.exp(0.1 * self.rng.standard_normal(len(points)))
        self._pieces.append(_capsules(points, points, np.stack([radii, radii], 1), run.neurite, VESICLE))
