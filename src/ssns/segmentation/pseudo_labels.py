"""Pseudo-labels: what a segmentation of unlabelled raw is sure of, for another network to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.affinities import NEAREST
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import relabel
from ssns.segmentation.steps import Method, sweep_methods, value_of, with_value
from ssns.space import Triple


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """A cautious segmentation, and which of its segments a bold one joins.

    Two voxels of one cautious segment are taken to be of one neuron, and a voxel of background to be of none. Two
    cautious segments are taken to be two neurons if they are in different bold ones, or if the bold segmentation joins
    them through others alone: the mean affinity of their own contact would not. Of other pairs nothing is known.

    Attributes:
        ids: Cautious segments (z, y, x), uint32, 0 where a voxel is background.
        bold: The bold segment of each cautious one (n + 1,), uint32; that of 0 is 0.
        apart: Pairs of cautious segments in contact (m, 2), uint32, the smaller first, ascending, that are in one bold
            segment through others alone.
    """

    ids: NDArray[np.uint32]
    bold: NDArray[np.uint32]
    apart: NDArray[np.uint32]


def pseudo_labels(
    affinities: ArrayLike, method: Method, margin: float = 0.1, *, offsets: Sequence[Triple] = NEAREST
) -> PseudoLabels:
    """Segment twice, ``margin`` below and above the threshold of an agglomeration.

    Args:
        affinities: Shape (c, z, y, x), as in ``segment``.
        method: An agglomeration, whose threshold is the middle.
        margin: How far below it the cautious threshold is, and above it the bold one; both stay in [0, 1].
        offsets: Displacement of each channel.

    Raises:
        UserError: As in ``segment``.
    """
    volume = AffinityVolume.checked(affinities, offsets, None)
    middle = value_of(method)
    both = [with_value(method, max(0.0, middle - margin)), with_value(method, min(1.0, middle + margin))]
    ((fragments, partitions),) = sweep_methods(volume.values, both, offsets=offsets)
    cautious, bold = (np.asarray(segments, np.uint32) for _, segments in partitions)
    ids = cautious[fragments]
    joined = _joined(cautious, bold)
    graph = RegionGraph.of(ids, volume)
    together = joined[graph.pairs[:, 0]] == joined[graph.pairs[:, 1]]
    apart = together & (1 - graph.mean >= value_of(both[1]))
    ids[_background(volume)] = 0
    return PseudoLabels(ids, joined, graph.pairs[apart].astype(np.uint32))


def _joined(cautious: NDArray[np.uint32], bold: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The bold segment of each cautious one (n + 1,), from those of each fragment.

    Both are cuts of one tree, so that a cautious segment is of one bold one; but cleaning may give its parts to
    several, which count as one then.
    """
    count, pairs = int(cautious.max(initial=0)) + 1, np.flatnonzero((cautious > 0) & (bold > 0))
    nodes = count + int(bold.max(initial=0)) + 1
    edges = coo_array((np.ones(len(pairs)), (cautious[pairs], count + bold[pairs])), shape=(nodes, nodes))
    _, groups = connected_components(edges, directed=False)
    of_cautious = np.where(np.isin(np.arange(count), cautious[pairs]), groups[:count] + 1, 0)
    return relabel(of_cautious).astype(np.uint32)


def _background(volume: AffinityVolume) -> NDArray[np.bool_]:
    """Voxels none of whose edges in the plane is more likely inside a neuron than not: those of membranes."""
    background = np.ones(volume.shape, bool)
    for z, section in enumerate(background):
        for axis in (1, 2):
            apart = np.moveaxis(volume.section(axis, z) <= 0.5, axis - 1, 0)[1:]
            lines = np.moveaxis(section, axis - 1, 0)
            lines[1:] &= apart
            lines[:-1] &= apart
    return background
