import zlib

import bioimage_cpp
import numpy as np
import pytest
from toy_affinities import blurred_noise, boxes, drawn, graph_of, letters, perfect, same_partition, with_contacts

from ssns.affinities import NEAREST
from ssns.errors import UserError
from ssns.segmentation import (
    FusionMoves,
    GraphDistance,
    GreedyAdditive,
    KernighanLin,
    LearnedAffinity,
    LongRange,
    MeanAffinity,
    Multicut,
    MutexClustering,
    NoneLifted,
    QuantileAffinity,
    SeededWatershed,
    learn_affinity,
    segment,
    sweep,
)
from ssns.segmentation.contacts import AREA_XY, COLUMNS, TOTAL
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.learning import known_contacts
from ssns.segmentation.relabelling import relabel

SOLVERS = [KernighanLin(), GreedyAdditive(), FusionMoves(), MutexClustering()]
SQUARES = drawn("aabb aabb ccdd ccdd")


def partition(fragments: np.ndarray, contacts: dict[str, float], **settings) -> tuple[str, ...]:
    fragments = relabel(fragments)
    method = Multicut(**settings)
    (segments,) = method.partitions(graph_of(fragments, with_contacts(fragments, contacts)), [method.beta])
    return letters(segments[fragments])


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_attraction_joins_and_repulsion_parts(solver):
    contacts = {"ab": 0.9, "cd": 0.8, "ac": 0.1, "bd": 0.2}
    assert partition(SQUARES, contacts, solver=solver) == ("aaaa aaaa bbbb bbbb",)


@pytest.mark.parametrize("solver", SOLVERS[:3], ids=str)
def test_a_chain_of_attraction_is_cut_where_it_costs_least(solver):
    """A ring a-b-d-c: three contacts attract and one repels more, so the weakest of the three is cut."""
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.6, "cd": 0.8, "ac": 0.01}, solver=solver) == ("aaaa aaaa bbbb bbbb",)
    assert partition(SQUARES, {"ab": 0.6, "bd": 0.9, "cd": 0.8, "ac": 0.01}, solver=solver) == ("aabb aabb bbbb bbbb",)
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.9, "cd": 0.9, "ac": 0.4}, solver=solver) == ("aaaa aaaa aaaa aaaa",)


def test_in_a_mutex_clustering_the_strongest_edge_decides():
    """As above, but the weakest attraction is cut only where it comes after what repels."""
    mutex = {"solver": MutexClustering(), "weighting": "none"}
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.6, "cd": 0.8, "ac": 0.2}, **mutex) == ("aaaa aaaa bbbb bbbb",)
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.8, "cd": 0.8, "ac": 0.3}, **mutex) == ("aaaa aaaa aaaa aaaa",)


def far_apart(fragments: np.ndarray, contacts: dict[str, float], apart: float) -> tuple[np.ndarray, list]:
    """Affinities with a channel of the offset (0, 0, -4), which is of one value; and the offsets."""
    nearest = with_contacts(fragments, contacts)
    return np.concatenate([nearest, np.full_like(nearest[:1], apart)]), [*NEAREST, (0, 0, -4)]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_what_repels_from_afar_parts_a_chain_where_it_attracts_least(solver):
    strip = drawn("aaabbbccc")
    method = Multicut(lifted=LongRange(strength=2), solver=solver)
    for contacts, wanted in [({"ab": 0.6, "bc": 0.9}, "aaabbbbbb"), ({"ab": 0.9, "bc": 0.6}, "aaaaaabbb")]:
        for apart, whole in [(0.05, wanted), (0.9, "aaaaaaaaa")]:
            affinities, offsets = far_apart(strip, contacts, apart)
            assert letters(segment(affinities, method, offsets=offsets, fragments=strip)) == (whole,)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_attraction_from_afar_joins_nothing_that_does_not_hang_together(solver):
    strip = drawn("aaabccc")
    affinities, offsets = far_apart(strip, {"ab": 0.1, "bc": 0.1}, 0.99)
    method = Multicut(lifted=LongRange(strength=0.1), solver=solver)
    assert letters(segment(affinities, method, offsets=offsets, fragments=strip)) == ("aaabccc",)


def test_lifted_edges_of_long_range_are_those_that_are_not_in_contact():
    affinities, offsets = far_apart(drawn("aabbcc"), {}, 0.2)
    graph = RegionGraph.of(drawn("aabbcc"), AffinityVolume.checked(affinities, offsets, None), far=True)
    edges = LongRange().edges(graph, graph.mean)
    assert (edges.pairs.tolist(), edges.size.tolist()) == ([[1, 3]], [2])
    assert edges.affinity == pytest.approx([0.2], abs=1e-4)


def test_lifted_edges_by_distance_take_the_best_path():
    stack = drawn("abcd eeee")
    contacts = {"ab": 0.5, "bc": 0.8, "cd": 0.9, "ae": 0.5, "be": 0.1, "ce": 0.9, "de": 0.1}
    graph = graph_of(stack, with_contacts(stack, contacts))
    for hops in (2, 3):
        edges = GraphDistance(hops=hops).edges(graph, graph.mean)
        found = dict(zip(map(tuple, edges.pairs.tolist()), edges.affinity.tolist(), strict=True))
        ad = 0.5 * 0.1 if hops == 2 else 0.5 * 0.9 * 0.9
        assert found == pytest.approx({(1, 3): 0.5 * 0.9, (1, 4): ad, (2, 4): 0.8 * 0.9}, rel=1e-3)
        assert edges.size.tolist() == [1, 1, 1]


def test_lifted_edges_by_distance_equal_the_librarys_and_the_products_of_plain_matrices():
    affinities = blurred_noise((3, 40, 50))
    fragments = SeededWatershed().flood(AffinityVolume.checked(affinities, NEAREST, None))
    graph = graph_of(fragments, affinities)
    count = len(graph.voxels)
    direct = np.eye(count)
    direct[tuple(graph.pairs.T)] = direct[tuple(graph.pairs.T[::-1])] = graph.mean
    best = direct
    library = bioimage_cpp.graph.UndirectedGraph.from_unique_edges(count, graph.pairs.astype(np.uint64))
    for hops in (2, 3):
        best = np.max(best[:, :, None] * direct[None], axis=1)
        edges = GraphDistance(hops=hops).edges(graph, graph.mean)
        order = np.lexsort(edges.pairs.T[::-1])
        wanted = bioimage_cpp.graph.lifted_multicut.lifted_edges_from_node_labels(library, np.zeros(count, int), hops)
        assert edges.pairs[order].tolist() == wanted.tolist()
        assert edges.affinity == pytest.approx(best[tuple(edges.pairs.T)])


def test_a_radius_leaves_out_what_is_far():
    row = drawn("aabbccddee")
    graph = graph_of(row, with_contacts(row, {}))
    # Centres of surfaces along x: 1.5, 2.5, 4.5, 6.5, 7.5
    found = GraphDistance(hops=4, radius=(1, 1, 4)).edges(graph, graph.mean).pairs
    assert sorted(found.tolist()) == [[1, 3], [2, 4], [3, 5]]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_the_energy_of_no_solver_is_above_that_of_all_apart_or_all_joined(solver):
    affinities = blurred_noise((3, 60, 70), level=0.5)
    fragments = SeededWatershed().flood(AffinityVolume.checked(affinities, NEAREST, None))
    for lifted in (NoneLifted(), GraphDistance(strength=0.2)):
        method = Multicut(solver=solver, weighting="none", lifted=lifted)
        (problem,) = method.problems(graph_of(fragments, affinities), [0.5])
        labels = solver.solve(problem)
        trivial = [problem.energy(np.arange(problem.nodes)), problem.energy(np.zeros(problem.nodes))]
        assert problem.energy(labels) < min(trivial)
        assert problem.lifted == (lifted != NoneLifted())


def test_no_better_solver_has_a_higher_energy():
    affinities = blurred_noise((3, 60, 70), level=0.5)
    fragments = SeededWatershed().flood(AffinityVolume.checked(affinities, NEAREST, None))
    for method in (Multicut(weighting="none"), Multicut(weighting="none", lifted=GraphDistance(strength=0.2))):
        (problem,) = method.problems(graph_of(fragments, affinities), [0.5])
        greedy, moved, fused = (
            problem.energy(solver.solve(problem)) for solver in (GreedyAdditive(), KernighanLin(), FusionMoves())
        )
        assert greedy >= moved - 1e-9 >= fused - 2e-9


def test_sections_are_joined_and_region_0_joins_nothing():
    stack = drawn("aa.b aa.b", "cc.d cc.d")
    assert partition(stack, {"ac": 0.9, "bd": 0.3}) == ("aa.b aa.b", "aa.c aa.c")
    assert partition(drawn("a.b"), {}) == ("a.b",)
    assert partition(drawn("..."), {}) == ("...",)


def test_higher_beta_gives_more_segments():
    contacts = {"ab": 0.7, "bd": 0.5, "cd": 0.7, "ac": 0.5}
    assert partition(SQUARES, contacts, beta=0.2) == ("aaaa aaaa aaaa aaaa",)
    assert partition(SQUARES, contacts, beta=0.6) == ("aaaa aaaa bbbb bbbb",)
    assert partition(SQUARES, contacts, beta=0.8) == ("aabb aabb ccdd ccdd",)


def test_costs_are_log_odds_weighed_by_area():
    contacts = np.zeros((3, COLUMNS), np.int64)
    contacts[:, AREA_XY], contacts[:, TOTAL] = (4, 2, 2), (4 * 65535, 0, 65535)
    graph = RegionGraph(voxels=np.array([0, 4, 4, 4]), contacts=contacts)
    even, biased = (problem.costs for problem in Multicut().problems(graph, [0.5, 0.8]))
    assert even == pytest.approx([np.log(999), -np.log(999) / 2, 0])
    assert biased == pytest.approx([np.log(999 / 4), -np.log(999 * 4) / 2, -np.log(4) / 2])


ELF = {
    0: (
        3807558017,
        {
            "all": (-7.412024, -25.432935, 1284894630),
            "xyz": (-76.300282, -96.426495, 2716394248),
            "z": (-209.561794, -251.691316, 1033763284),
            "none": (-209.258655, -354.48734, 4038856979),
        },
    ),
    1: (
        4109596744,
        {
            "all": (-29.026486, -43.018593, 584407815),
            "xyz": (-98.563944, -113.738637, 2911520784),
            "z": (-327.823588, -361.34523, 4147721841),
            "none": (-381.965142, -500.417536, 2813382547),
        },
    ),
}
"""What python-elf 0.9.2 (bioimage-cpp 0.10.0) makes of ``blurred_noise((4, 60, 70), seed, level=1)`` with beta 0.6.

By seed: the digest of the fragments, then by weighting scheme the sum of all costs, the energy of
``multicut_kernighan_lin`` and the digest of its segments, as reference 8.2 chains them. Sums differ by
as much as levels of 16 bits do from floats.
"""


def digest(ids: np.ndarray) -> int:
    """Of a partition, whatever the names of its parts."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return zlib.crc32(np.argsort(np.argsort(first))[inverse.ravel()].astype(np.uint16).tobytes())


@pytest.mark.parametrize("seed", ELF)
def test_equals_python_elf(seed):
    volume = AffinityVolume.checked(blurred_noise((4, 60, 70), seed, 1.0), NEAREST, None)
    fragments = Multicut().fragments.flood(volume)
    wanted, schemes = ELF[seed]
    assert digest(fragments) == wanted
    graph = RegionGraph.of(fragments, volume)
    for weighting, (total, energy, partition) in schemes.items():
        method = Multicut(weighting=weighting, beta=0.6)
        (problem,) = method.problems(graph, [0.6])
        (segments,) = method.partitions(graph, [0.6])
        theirs = bioimage_cpp.graph.multicut.KernighanLinMulticut().optimize(problem.objective())
        assert problem.costs.sum() == pytest.approx(total, rel=1e-3)
        assert problem.energy(theirs) == pytest.approx(energy, rel=3e-4)
        assert digest(theirs[fragments]) == partition
        assert problem.energy(segments) <= problem.energy(theirs) + 1e-9


def test_quantiles_are_those_of_the_voxel_pairs():
    regions = drawn("aaaaa bbbbb")
    affinities = np.zeros((3, *regions.shape), np.uint8)
    affinities[1, 0, 1] = [10, 20, 30, 40, 250]
    graph = graph_of(regions, affinities, histograms=True)
    for quantile, level in [(0, 10), (50, 30), (80, 250), (100, 250)]:
        assert QuantileAffinity(quantile=quantile).of(graph) == pytest.approx([(level + 0.5) / 256])


def test_what_is_learned_tells_neurons_where_the_mean_does_not():
    """Affinities along z are at most 0.4, so that the mean of no contact between sections says that it is inside."""
    labels = boxes(([3, 3], [16, 16], [16, 16]))
    noise = np.random.default_rng(0).random((3, *labels.shape), dtype=np.float32)
    affinities = (0.7 * perfect(labels) + 0.3 * noise) * np.float32([0.4, 1, 1])[:, None, None, None]
    z, y, x = np.indices(labels.shape)
    fragments = 1 + (z * 8 + y // 4) * 8 + x // 4
    graph = graph_of(fragments, affinities, histograms=True)
    learned = learn_affinity(affinities, labels, fragments=fragments)
    known, same = known_contacts(graph, fragments, labels)
    rows = graph.between & known
    assert 0 < same[rows].mean() < 1
    assert not (graph.mean[rows] > 0.5).any()
    assert ((learned.of(graph)[rows] > 0.5) == same[rows]).all()
    found = [segment(affinities, Multicut(affinity=each), fragments=fragments) for each in (learned, MeanAffinity())]
    assert [len(np.unique(segments[labels > 0])) for segments in found] == [8, 24]
    assert LearnedAffinity.model_validate_json(learned.model_dump_json()) == learned


@pytest.mark.parametrize("first", [2**62, 864691135000000000])
def test_ids_of_64_bits_are_told_apart(first):
    labels = boxes(([3, 3], [16, 16], [16, 16])).astype(np.uint64)
    affinities = blurred_noise(labels.shape)
    large = np.where(labels > 0, labels + np.uint64(first), np.uint64(0))
    assert learn_affinity(affinities, large) == learn_affinity(affinities, labels)


def test_scattered_sections_teach_contacts_within_sections_alone():
    labels = boxes(([3, 3], [16, 16], [16, 16]))
    affinities = blurred_noise(labels.shape)
    z, y, x = np.indices(labels.shape)
    fragments = 1 + (z * 8 + y // 4) * 8 + x // 4
    scattered = np.where(z % 2, 0, labels)
    with pytest.warns(UserWarning, match=r"contacts between sections .* 0 of 0 inside; the mean affinity is taken"):
        learned = learn_affinity(affinities, scattered, fragments=fragments)
    graph = graph_of(fragments, affinities, histograms=True)
    rows = graph.between
    np.testing.assert_allclose(learned.of(graph)[rows], graph.mean[rows].clip(0.001, 0.999), atol=1e-6)
    assert np.abs(learned.of(graph) - graph.mean)[~rows].max() > 0.01


def test_an_affinity_that_is_not_learned_yet_is_refused():
    with pytest.raises(UserError, match="affinity: wanted weights, which learn_affinity gives, got none"):
        segment(blurred_noise((2, 8, 8)), Multicut(affinity=LearnedAffinity()))


def test_labels_know_contacts_of_fragments_that_lie_in_a_neuron_by_half():
    fragments = drawn("aabbccdd")
    graph = graph_of(fragments, blurred_noise(fragments.shape))
    known, same = known_contacts(graph, fragments, np.array([[[7, 7, 7, 0, 0, 0, 9, 7]]]))
    assert (known.tolist(), same[known].tolist()) == ([True, False, False], [True])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.ones((2, 3, 3), int),
            r"labels: wanted integer ids of the shape of the affinities, \(2, 4, 4\), got .*3, 3\)",
        ),
        (np.ones((2, 4, 4)), "labels: wanted integer ids .* got float64"),
        (
            np.ones((2, 4, 4), int),
            "labels: wanted contacts between sections inside of neurons and between two, got 1 of 1 inside: label more",
        ),
    ],
)
def test_labels_that_teach_nothing_are_told(labels, message):
    with pytest.raises(UserError, match=message):
        learn_affinity(np.ones((3, 2, 4, 4), np.float32), labels)


def test_equals_the_papers_chain_on_the_same_fragments():
    """Features of boundaries and of affinities by the library, costs and Kernighan-Lin as reference 8.2 lists them."""
    affinities = blurred_noise((4, 60, 70))
    fragments = Multicut().fragments.flood(AffinityVolume.checked(affinities, NEAREST, None))
    inverted = 1 - affinities
    rag = bioimage_cpp.graph.region_adjacency_graph(fragments)
    boundary = np.maximum(inverted[1], inverted[2])
    features = bioimage_cpp.graph.features
    p = features.affinity_features(rag, fragments, inverted, [list(o) for o in NEAREST])[:, 0]
    size = features.edge_map_features(rag, fragments, boundary)[:, 1]
    p = 0.998 * p + 0.001
    costs = np.log((1 - p) / p) * size / size.max()
    objective = bioimage_cpp.graph.multicut.MulticutObjective(rag, costs)
    nodes = bioimage_cpp.graph.multicut.KernighanLinMulticut().optimize(objective)
    segments = segment(affinities, "paper-multicut")
    assert 1 < segments.max() < fragments.max()
    assert same_partition(segments, nodes[fragments])


def test_a_sweep_equals_single_runs():
    affinities = blurred_noise((3, 40, 50))
    method = Multicut(fragments=SeededWatershed())
    found = dict(sweep(affinities, method, [0.7, 0.3]))
    assert list(found) == [0.3, 0.7]
    assert found[0.3].max() < found[0.7].max()
    for beta, segments in found.items():
        assert np.array_equal(segments, segment(affinities, method.model_copy(update={"beta": beta})))
