"""Which contacts are inside of one neuron, learned from labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_array

from ssns.segmentation.graph import RegionGraph

_QUANTILES = (10, 25, 50, 75, 90)

FEATURES = (
    "mean",
    "maximum",
    *(f"quantile {percent}" for percent in _QUANTILES),
    "area",
    "smaller region",
    "larger region",
)
"""Statistics of a contact: affinities as log odds, sizes as logarithms."""

DECAY = 1e-3
"""Strength of the ridge that keeps weights of statistics that say the same finite."""


def edge_features(graph: RegionGraph) -> NDArray[np.float64]:
    """The `FEATURES` of each contact.

    Args:
        graph: With histograms.

    Returns:
        Shape (e, 10).
    """
    affinities = [graph.mean, graph.maximum / 65535, *(graph.quantile(percent) for percent in _QUANTILES)]
    clipped = np.stack(affinities, axis=1).clip(0.001, 0.999)
    sizes = np.column_stack([graph.area, np.sort(graph.voxels[graph.pairs], axis=1)])
    return np.hstack([np.log(clipped / (1 - clipped)), np.log(sizes)])


def known_contacts(
    graph: RegionGraph, fragments: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which contacts the labels know, and which of all lie within one neuron.

    A fragment is of the neuron that covers most of it, where that is half of its voxels or more.

    Args:
        graph: The graph of the fragments.
        fragments: Dense ids (z, y, x).
        labels: Ids of neurons (z, y, x); 0 where there is none, or where it is not known.

    Returns:
        Two arrays, (e,).
    """
    names, neurons = np.unique(np.append(labels, labels.dtype.type(0)), return_inverse=True)
    overlaps = coo_array(
        (np.ones(labels.size), (fragments.ravel(), neurons[:-1])), shape=(len(graph.voxels), len(names) + 1)
    ).tocsr()[:, 1:]
    overlaps.sum_duplicates()
    most = overlaps.argmax(axis=1).ravel() + 1
    most[2 * overlaps.max(axis=1).toarray().ravel() < graph.voxels] = 0
    first, second = most[graph.pairs].T
    return (first > 0) & (second > 0), first == second


def logistic_weights(features: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[float, ...]:
    """Weights of a logistic regression, and its constant.

    Args:
        features: Shape (n, f).
        same: What is told, (n,): some are, and some are not.
    """
    centre, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread == 0] = 1
    design = np.column_stack([(features - centre) / spread, np.ones(len(features))])
    sign = np.where(same, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (design @ weights)
        slope = -sign / (1 + np.exp(margin.clip(-500, 500))) / len(design)
        ridge = DECAY * np.append(weights[:-1], 0)
        return float(np.logaddexp(0, -margin).mean() + 0.5 * ridge @ weights), slope @ design + ridge

    found = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x
    scaled = found[:-1] / spread
    return (*scaled.tolist(), float(found[-1] - scaled @ centre))
