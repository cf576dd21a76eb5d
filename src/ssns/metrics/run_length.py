"""Expected run length: how far one gets along a neuron before the first error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.metrics.contingency import run_starts
from ssns.metrics.skeletons import Skeletons


@dataclass(frozen=True, slots=True)
class RunLength:
    """How far one gets.

    Attributes:
        erl_nm: Expected run length, nm.
        perfect_nm: That of a perfect segmentation: the mean length of trees, weighted by length.
    """

    erl_nm: float
    perfect_nm: float

    @property
    def nerl(self) -> float:
        """Normalised: the share of the perfect run length that is reached, 0 to 1."""
        return self.erl_nm / self.perfect_nm


def expected_run_length(skeletons: Skeletons, segments: NDArray[Any], *, tolerated: int = 0) -> RunLength:
    """The run from a random point of the skeletons, both ways, within one segment that is no merger.

    ``ERL = sum of r^2 / sum of l``, for the lengths l of trees and the lengths r of their edges with both ends in the
    same segment, for each tree and segment. Segment 0 is none. A segment on inner nodes of several neurons is a merger:
    its edges count nothing, those of the same neurons elsewhere do (Januszewski et al. 2018, doi
    10.1038/s41592-018-0049-4; as funlib.evaluate and, for ``nerl``, NISB do for neurons of one tree of inner nodes).

    Args:
        skeletons: With edges.
        segments: Segment id at each node, (n,).
        tolerated: Inner nodes of a neuron in a segment that do not make it a merger, as in NISB's ``nerl_5``.

    Raises:
        UserError: Segments do not fit the nodes, or the skeletons have no length.
    """
    if segments.shape != skeletons.neurons.shape:
        raise UserError(f"segments: wanted one for each of {len(skeletons.neurons)} nodes, got shape {segments.shape}")
    lengths = skeletons.lengths_nm
    if not lengths.sum() > 0:
        raise UserError(f"skeletons: wanted some length, got {len(skeletons.edges)} edges without: check box and size")
    mergers = _mergers(skeletons.neurons[skeletons.inner], segments[skeletons.inner], tolerated)
    first, second = segments[skeletons.edges].T
    right = (first == second) & (first != 0) & ~np.isin(first, mergers)
    trees = skeletons.trees[skeletons.edges[:, 0]]
    return RunLength(
        erl_nm=_squares(lengths[right], trees[right], first[right]) / float(lengths.sum()),
        perfect_nm=_squares(lengths, trees, trees) / float(lengths.sum()),
    )


def _mergers(neurons: NDArray[np.int64], segments: NDArray[Any], tolerated: int) -> NDArray[Any]:
    """Segments with more than the tolerated nodes of two or more neurons."""
    order = np.lexsort((neurons, segments))
    starts = run_starts(segments[order], neurons[order])
    nodes = np.diff(starts, append=len(order))
    found, owners = np.unique(segments[order][starts][nodes > tolerated], return_counts=True)
    mergers: NDArray[Any] = found[owners > 1]
    return mergers


def _squares(lengths: NDArray[np.float64], trees: NDArray[np.int32], segments: NDArray[Any]) -> float:
    """The sum of squared lengths of edges that share tree and segment."""
    order = np.lexsort((segments, trees))
    starts = run_starts(trees[order], segments[order])
    runs = np.add.reduceat(lengths[order], starts) if len(starts) else lengths
    return float(runs @ runs)
