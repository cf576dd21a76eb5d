"""Against the definition (reference 8.5), pair by pair."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.malis import malis_weights

shapes = st.tuples(*[st.integers(1, 4)] * 3)


def ids(shape, seed, neurons=3):
    """Random ids, each a connected piece of at least two voxels, and 0."""
    drawn = np.random.default_rng(seed).integers(0, neurons, shape)
    pieces = np.zeros(shape, int)
    for neuron in range(1, neurons):
        pieces += np.where(drawn == neuron, label(drawn == neuron)[0] + pieces.max(), 0)
    return np.where(np.bincount(pieces.ravel())[pieces] > 1, pieces, 0)


def by_pairs(affinities, ids, *, within):
    """Shares of pairs of voxels by the edge at which a maximum spanning tree first joins them, ids compared."""
    target, known = labels_to_affinities(ids, NEAREST)
    joined = np.minimum(affinities, target) if within else np.maximum(affinities, target)
    trees = {voxel: {voxel} for voxel in np.ndindex(ids.shape)}
    counts = np.zeros(affinities.shape)
    flat = [tuple(map(int, index)) for index in np.argwhere(known)]
    for channel, *voxel in sorted(flat, key=lambda index: -joined[index]):
        before = tuple(a + b for a, b in zip(voxel, NEAREST[channel], strict=True))
        first, second = trees[tuple(voxel)], trees[before]
        if first is second:
            continue
        for a in first:
            for b in second:
                counts[(channel, *voxel)] += ids[a] > 0 and ids[b] > 0 and (ids[a] == ids[b]) == within
        first |= second
        for voxel_of in second:
            trees[voxel_of] = first
    pairs = [(a, b) for a, b in combinations(ids[ids > 0].tolist(), 2) if (a == b) == within]
    return counts / max(1, len(pairs))


@given(shape=shapes, seed=st.integers(0, 999))
def test_they_are_those_of_the_definition(shape, seed):
    labels = ids(shape, seed)
    target, known = labels_to_affinities(labels, NEAREST)
    order = np.random.default_rng(seed).permutation(target.size).reshape(target.shape)
    affinities = (1 + order) / (2 + target.size)
    within, between = malis_weights(affinities, target > 0.5, known)
    np.testing.assert_allclose(within, by_pairs(affinities, labels, within=True), atol=1e-12)
    np.testing.assert_allclose(between, by_pairs(affinities, labels, within=False), atol=1e-12)


def row(*values):
    """Affinities of a row of voxels along x; the first leaves the patch."""
    affinities = np.zeros((3, 1, 1, 1 + len(values)))
    affinities[2, 0, 0, 1:] = values
    return affinities


@pytest.mark.parametrize(
    ("predicted", "target", "within", "between"),
    [
        # a a a b b: the weaker edge within a decides two of its three pairs, the edge of b its only one
        ((0.9, 0.2, 0.7, 0.8), (1, 1, 0, 1), (1 / 4, 2 / 4, 0, 1 / 4), (0, 0, 1, 0)),
        # a a - b b: of the two edges of the membrane the weaker one decides whether a and b merge
        ((0.9, 0.6, 0.4, 0.8), (1, 0, 0, 1), (1 / 2, 0, 0, 1 / 2), (0, 0, 1, 0)),
        # a a - b b - c c: a and b merge first, then both with c
        ((1, 0.9, 0.8, 1, 0.3, 0.4, 1), (1, 0, 0, 1, 0, 0, 1), (1 / 3, 0, 0, 1 / 3, 0, 0, 1 / 3),
         (0, 0, 4 / 12, 0, 8 / 12, 0, 0)),
    ],
)  # fmt: skip
def test_of_a_row(predicted, target, within, between):
    everything = np.ones((3, 1, 1, 1 + len(target)), bool)
    found = malis_weights(row(*predicted), row(*target) > 0, everything)
    np.testing.assert_allclose(found[0], row(*within))
    np.testing.assert_allclose(found[1], row(*between))


def test_an_unknown_edge_is_no_edge():
    known = np.ones((3, 1, 1, 5), bool)
    known[2, 0, 0, 3] = False
    within, between = malis_weights(row(0.9, 0.2, 0.7, 0.8), row(1, 1, 0, 1) > 0, known)
    np.testing.assert_allclose(within, row(1 / 4, 2 / 4, 0, 1 / 4))
    assert not between.any()


def test_nothing_is_decided_where_there_is_no_neuron():
    affinities = np.random.default_rng(0).random((3, 2, 4, 4))
    within, between = malis_weights(affinities, affinities > 2, affinities < 2)
    assert not within.any()
    assert not between.any()
