"""Which edges decide whether voxels are joined: the weights of the MALIS loss (Turaga et al. 2009, arXiv:0911.5372).

A threshold joins two voxels if all edges of a path between them reach it. So one edge decides: the weakest one of the
path whose weakest edge is strongest. Such edges make up a maximum spanning tree. Where Kruskal's algorithm takes one,
two trees become one, and the pairs of voxels that it decides are those of a voxel of either.

Constrained as by Funke et al. 2018 (arXiv:1709.02974), in two passes over one forest:

1. Edges within neurons, the strongest first, count the pairs of voxels of a neuron. The trees are then the neurons.
2. Edges between neurons, the strongest first, count the pairs of voxels of two neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.kernels import compiled

Weights = NDArray[np.float64]
"""Of edges (3, z, y, x)."""


def malis_weights(
    affinities: NDArray[np.floating[Any]], target: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[Weights, Weights]:
    """Shares of the pairs of voxels that each edge decides.

    Neurons are what the known edges within neurons join: the pieces of a neuron that are apart in the patch are two.
    Voxels without such an edge (membrane) belong to no pair, though paths may go through them.

    Args:
        affinities: Of each voxel to that before it along z, y and x (3, z, y, x).
        target: True within a neuron (3, z, y, x).
        known: False where an edge does not exist for the loss (3, z, y, x); no edge that leaves the patch does.

    Returns:
        Shares of the pairs of one neuron, on edges within neurons, and of the pairs of two neurons, on edges between
        them (3, z, y, x); each sums to 1, or to 0 where there is no such pair.
    """
    shape = affinities.shape[1:]
    inside = known.copy()
    for axis in range(3):
        np.moveaxis(inside[axis], axis, 0)[0] = False
    steps = np.array([shape[1] * shape[2], shape[2], 1])
    parent, size = np.arange(np.prod(shape)), np.ones(np.prod(shape), np.int64)

    def share(chosen: NDArray[np.bool_]) -> Weights:
        edges = np.flatnonzero(chosen)
        order = edges[np.argsort(-affinities.reshape(-1)[edges], kind="stable")]
        counts = np.zeros(affinities.size)
        _join(order, steps, parent, size, counts)
        counts /= max(counts.sum(), 1.0)
        return counts.reshape(affinities.shape)

    within = share(inside & target)
    size[size == 1] = 0  # what no edge has joined is no neuron
    return within, share(inside & ~target)


@compiled
def _join(
    order: NDArray[np.int64],
    steps: NDArray[np.int64],
    parent: NDArray[np.int64],
    size: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> None:
    """Join the ends of edges, one after the other, and count the pairs of voxels that each of them joins first."""
    for edge in order:
        channel, voxel = divmod(edge, len(parent))
        first, second = _root(parent, voxel), _root(parent, voxel - steps[channel])
        if first == second:
            continue
        counts[edge] = float(size[first]) * float(size[second])
        if size[first] < size[second]:
            first, second = second, first
        parent[second] = first
        size[first] += size[second]


@compiled
def _root(parent: NDArray[np.int64], voxel: int) -> int:
    while parent[voxel] != voxel:
        parent[voxel] = parent[parent[voxel]]
        voxel = parent[voxel]
    return voxel
