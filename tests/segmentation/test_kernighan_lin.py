from collections.abc import Sequence
from functools import partial
from itertools import product

import bioimage_cpp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_kernighan_lin import plainly_moved
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ssns.segmentation import GreedyAdditive, KernighanLin
from ssns.segmentation.kernighan_lin import moved
from ssns.segmentation.solvers import CutProblem

ROUNDS = 100


def problem(nodes: int, pairs: np.ndarray, costs: np.ndarray) -> CutProblem:
    return CutProblem(nodes, pairs, costs.astype(float), np.empty((0, 2), np.int64), np.empty(0))


def random_problem(seed: int, nodes: int, share: float, bias: float = 0, whole: bool = True) -> CutProblem:
    """Edges between a share of all pairs, with whole numbers for costs if they are to add up exactly."""
    rng = np.random.default_rng(seed)
    pairs = np.stack(np.triu_indices(nodes, 1), axis=1)
    pairs = pairs[rng.random(len(pairs)) < share]
    costs = rng.normal(bias, 1, len(pairs))
    return problem(nodes, pairs, (10 * costs).round() if whole else costs)


def grid_problem(seed: int, shape: tuple[int, ...], bias: float = 0, whole: bool = True) -> CutProblem:
    nodes = np.arange(np.prod(shape)).reshape(shape)
    lines = [np.moveaxis(nodes, axis, 0) for axis in range(len(shape))]
    pairs = np.concatenate([np.stack([line[:-1].ravel(), line[1:].ravel()], axis=1) for line in lines])
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    costs = np.random.default_rng(seed).normal(bias, 1, len(pairs))
    return problem(nodes.size, pairs, (10 * costs).round() if whole else costs)


def cliques(names: str) -> CutProblem:
    """A node for each letter; the same letters attract, others repel."""
    pairs = np.stack(np.triu_indices(len(names), 1), axis=1)
    return problem(len(names), pairs, np.array([1 if names[a] == names[b] else -1 for a, b in pairs]))


def after(given: CutProblem, start: np.ndarray, rounds: int = ROUNDS) -> np.ndarray:
    return moved(given.pairs, given.costs, start, rounds)


problems = st.builds(
    random_problem,
    st.integers(0, 2**32),
    st.integers(2, 9),
    st.sampled_from([0.3, 0.6, 1]),
    st.sampled_from([-0.5, 0, 0.5]),
)
starts = st.integers(0, 2**32).map(np.random.default_rng)


@pytest.mark.parametrize("rounds", [1, 2, ROUNDS])
@pytest.mark.parametrize(
    "each",
    [
        *(random_problem(seed, 25, share) for seed, share in product(range(4), (0.1, 0.3, 1))),
        *(grid_problem(seed, (6, 7), bias) for seed, bias in product(range(2), (-0.4, 0.4))),
    ],
)
def test_equals_the_plain_one_which_tries_all_in_every_round(each, rounds):
    rng = np.random.default_rng(0)
    for start in (GreedyAdditive().solve(each), np.arange(each.nodes), rng.integers(0, 5, each.nodes)):
        wanted = plainly_moved(each.pairs, each.costs, start, rounds)
        assert after(each, start, rounds).tolist() == wanted.tolist()


@pytest.mark.parametrize("seed", [2, 3])
def test_patience_ends_as_the_plain_one_s(seed):
    """Two halves of a grid, each larger than it; with more of it both of these would go on to something better."""
    each = grid_problem(seed, (14, 20), 0.8)
    start = (np.arange(each.nodes) % 20 >= 10).astype(int)
    assert after(each, start, 1).tolist() == plainly_moved(each.pairs, each.costs, start, 1).tolist()


@given(problems, starts)
def test_the_energy_never_rises_and_nothing_simple_lowers_it(each, rng):
    start = rng.integers(0, each.nodes, each.nodes)
    energies = [each.energy(after(each, start, rounds)) for rounds in (1, 2, ROUNDS)]
    assert each.energy(start) >= energies[0] >= energies[1] >= energies[2]
    labels, energy = after(each, start).astype(int), energies[2]
    for node, label in product(range(each.nodes), range(labels.max() + 2)):
        assert each.energy(np.where(np.arange(each.nodes) == node, label, labels)) >= energy
    for one, other in product(range(labels.max() + 1), repeat=2):
        assert each.energy(np.where(labels == one, other, labels)) >= energy


@given(problems, starts)
def test_segments_are_connected(each, rng):
    labels = after(each, rng.integers(0, 3, each.nodes))
    kept = each.pairs[labels[each.pairs[:, 0]] == labels[each.pairs[:, 1]]]
    graph = coo_array((np.ones(len(kept)), tuple(kept.T)), (each.nodes, each.nodes))
    assert connected_components(graph, directed=False)[0] == labels.max() + 1


@given(problems, starts)
def test_neither_the_order_of_edges_nor_the_unit_of_costs_matters(each, rng):
    start, order = rng.integers(0, each.nodes, each.nodes), rng.permutation(len(each.pairs))
    wanted = after(each, start).tolist()
    assert moved(each.pairs[order], each.costs[order], start, ROUNDS).tolist() == wanted
    assert moved(each.pairs, each.costs / 1024, start, ROUNDS).tolist() == wanted


def test_cliques_are_found_whatever_it_starts_from():
    each = cliques("abacbcabcc")
    for seed in range(20):
        labels = after(each, np.random.default_rng(seed).integers(0, 6, each.nodes))
        assert first_seen(labels.tolist()) == first_seen("abacbcabcc")


def test_of_tiny_problems_the_best_solution_is_found_but_for_a_few():
    partitions = np.array(sorted(set(map(tuple, (first_seen(each) for each in product(range(6), repeat=6))))))
    found = 0
    for seed in range(60):
        each = random_problem(seed, 6, 0.7)
        best, energy = min(map(each.energy, partitions)), each.energy(KernighanLin().solve(each))
        assert energy >= best
        found += energy == best
    assert found >= 57


def first_seen(labels: Sequence[object]) -> list[int]:
    """Labels renamed 0, 1 ... in the order in which they come."""
    return [list(dict.fromkeys(labels)).index(label) for label in labels]


@pytest.mark.parametrize("make", [partial(random_problem, nodes=60, share=0.2), partial(grid_problem, shape=(6, 6, 6))])
@pytest.mark.parametrize("bias", [-0.3, 0, 0.3])
def test_energies_are_not_above_the_librarys_on_the_mean(make, bias):
    problems = [make(seed, bias=bias, whole=False) for seed in range(30)]
    library = bioimage_cpp.graph.multicut.KernighanLinMulticut()
    theirs = [each.energy(library.optimize(each.objective())) for each in problems]
    assert np.mean([each.energy(KernighanLin().solve(each)) for each in problems]) <= np.mean(theirs) + 1e-9


def test_what_has_no_edge_or_no_cost_stays_as_it_is():
    none = problem(3, np.empty((0, 2), np.int64), np.empty(0))
    assert sorted(after(none, np.array([5, 2, 2])).tolist()) == [0, 1, 2]
    free = problem(3, np.array([[0, 1], [1, 2]]), np.zeros(2))
    assert after(free, np.array([0, 0, 1])).tolist() == [0, 0, 1]
