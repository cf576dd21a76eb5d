from collections import defaultdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.metrics.run_length import RunLength, expected_run_length
from ssns.metrics.skeletons import Skeletons


def lines(*points: list[int], inner=None) -> Skeletons:
    """Skeletons along x, each through the points given."""
    parts = [
        Skeletons(
            np.array([(neuron, 0, x) for x in xs], float),
            np.array([(i, i + 1) for i in range(len(xs) - 1)], int).reshape(-1, 2),
            np.full(len(xs), neuron),
            np.ones(len(xs), bool),
        )
        for neuron, xs in enumerate(points)
    ]
    joined = Skeletons.joined(parts)
    return joined if inner is None else Skeletons(joined.nodes, joined.edges, joined.neurons, np.array(inner, bool))


@st.composite
def trees(draw) -> Skeletons:
    """One to four random trees."""
    parts = []
    for neuron in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 6))
        nodes = np.array(draw(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=n, max_size=n)), float)
        edges = [(i, draw(st.integers(0, i - 1))) for i in range(1, n)]
        inner = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        parts.append(Skeletons(nodes, np.array(edges, int).reshape(-1, 2), np.full(n, neuron), inner))
    skeletons = Skeletons.joined(parts)
    assume(skeletons.lengths_nm.sum() > 0)
    return skeletons


def edge_by_edge(skeletons: Skeletons, segments: np.ndarray, tolerated: int) -> float:
    """The definition of funlib.evaluate with NISB's tolerance, in dictionaries."""
    counts = defaultdict(lambda: defaultdict(int))
    for neuron, segment, inner in zip(skeletons.neurons, segments, skeletons.inner, strict=True):
        counts[segment][neuron] += bool(inner)
    mergers = {each for each, owners in counts.items() if sum(n > tolerated for n in owners.values()) > 1}
    total, runs = 0.0, defaultdict(float)
    for u, v in skeletons.edges:
        length = np.linalg.norm(skeletons.nodes[u] - skeletons.nodes[v])
        total += length
        if segments[u] == segments[v] != 0 and segments[u] not in mergers:
            runs[skeletons.neurons[u], segments[u]] += length
    return sum(run**2 for run in runs.values()) / total


@given(trees(), st.sampled_from([0, 1, 2]), st.data())
def test_equals_the_definition_edge_by_edge(skeletons, tolerated, data):
    n = len(skeletons.nodes)
    segments = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2, 2**40]), min_size=n, max_size=n)), np.uint64)
    found = expected_run_length(skeletons, segments, tolerated=tolerated)
    assert found.erl_nm == pytest.approx(edge_by_edge(skeletons, segments, tolerated))
    assert 0 <= found.nerl <= 1 + 1e-12


@given(trees())
def test_truth_reaches_the_length_weighted_mean(skeletons):
    found = expected_run_length(skeletons, skeletons.neurons + 5)
    lengths = np.bincount(skeletons.neurons[skeletons.edges[:, 0]], skeletons.lengths_nm)
    assert found.erl_nm == pytest.approx((lengths**2).sum() / lengths.sum())
    assert found.nerl == pytest.approx(1)


@given(trees())
def test_all_in_one_segment_gets_nowhere(skeletons):
    everywhere = Skeletons(skeletons.nodes, skeletons.edges, skeletons.neurons, np.ones(len(skeletons.nodes), bool))
    found = expected_run_length(everywhere, np.ones(len(skeletons.nodes), int))
    assert found.nerl == (1 if len(np.unique(skeletons.neurons)) == 1 else 0)


def test_a_split_halves_the_run():
    """One neurite of 4, cut in the middle of an edge of 2 ::

    0 -- 1 ---- 3 -- 4
    5    5      6    6
    """
    found = expected_run_length(lines([0, 1, 3, 4]), np.array([5, 5, 6, 6]))
    assert found == RunLength(erl_nm=(1 + 1) / 4, perfect_nm=4)


def test_a_merger_takes_its_edges_and_leaves_the_others():
    """Two neurites of 4; segment 7 is on both, 8 on the end of the first alone ::

    0 - 1 - 2 - 3 - 4        0 - 1 - 2 - 3 - 4
    8   8   8   7   7        7   7   9   9   9
    """
    segments = np.array([8, 8, 8, 7, 7, 7, 7, 9, 9, 9])
    skeletons = lines([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert expected_run_length(skeletons, segments).erl_nm == (2**2 + 2**2) / 8
    with_tolerance = expected_run_length(skeletons, segments, tolerated=2)
    assert with_tolerance.erl_nm == (2**2 + 1 + 1 + 2**2) / 8


def test_trees_of_a_neuron_are_run_through_one_by_one_and_make_no_merger():
    skeletons = lines([0, 1, 2, 3], [0, 1])
    one = Skeletons(skeletons.nodes, skeletons.edges, np.zeros(6, int), skeletons.inner)
    assert expected_run_length(one, np.full(6, 5)) == RunLength(erl_nm=(9 + 1) / 4, perfect_nm=(9 + 1) / 4)


def test_nodes_at_the_surface_make_no_merger():
    skeletons = lines([0, 1, 2], [0, 1, 2], inner=[1, 1, 0, 1, 1, 1])
    assert expected_run_length(skeletons, np.array([5, 5, 6, 6, 6, 6])).erl_nm == (1 + 4) / 4


def test_segment_0_is_none():
    assert expected_run_length(lines([0, 1, 2]), np.array([0, 0, 3])).erl_nm == 0


@pytest.mark.parametrize(
    ("skeletons", "segments", "message"),
    [
        (lines([0, 1]), np.ones(3, int), r"segments: wanted one for each of 2 nodes, got shape \(3,\)"),
        (lines([0], [3]), np.ones(2, int), "skeletons: wanted some length, got 0 edges"),
        (Skeletons.joined([]), np.ones(0, int), "skeletons: wanted some length"),
    ],
)
def test_mistakes_are_told(skeletons, segments, message):
    with pytest.raises(UserError, match=message):
        expected_run_length(skeletons, segments)
