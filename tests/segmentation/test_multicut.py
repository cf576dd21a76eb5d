import bioimage_cpp
import numpy as np
import pytest
from toy_affinities import blurred_noise, drawn, graph_of, letters, same_partition, with_contacts

from ssns.affinities import NEAREST
from ssns.segmentation import GreedyAdditive, KernighanLin, Multicut, SeededWatershed, segment, sweep
from ssns.segmentation.contacts import AREA_XY, COLUMNS, TOTAL
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import relabel

SOLVERS = [KernighanLin(), GreedyAdditive()]
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


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_a_chain_of_attraction_is_cut_where_it_costs_least(solver):
    """A ring a-b-d-c: three contacts attract and one repels more, so the weakest of the three is cut."""
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.6, "cd": 0.8, "ac": 0.01}, solver=solver) == ("aaaa aaaa bbbb bbbb",)
    assert partition(SQUARES, {"ab": 0.6, "bd": 0.9, "cd": 0.8, "ac": 0.01}, solver=solver) == ("aabb aabb bbbb bbbb",)
    assert partition(SQUARES, {"ab": 0.9, "bd": 0.9, "cd": 0.9, "ac": 0.4}, solver=solver) == ("aaaa aaaa aaaa aaaa",)


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
