import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_affinities import drawn, graph_of, letters, with_contacts

from ssns.segmentation import Cleaning
from ssns.segmentation.cleaning import Extent, fill_holes, merge_small
from ssns.segmentation.relabelling import relabel

REGIONS = arrays(np.int64, (3, 4, 4), elements=st.integers(0, 6)).map(relabel)


def cleaned(fragments: np.ndarray, contacts: dict[str, float], minimum_size: int) -> tuple[str, ...]:
    graph = graph_of(fragments, with_contacts(fragments, contacts))
    segments = merge_small(np.arange(fragments.max() + 1), graph, minimum_size)
    return letters(segments[fragments])


def test_a_small_segment_joins_its_strongest_neighbour():
    strip = drawn("aaabccc")
    assert cleaned(strip, {"ab": 0.2, "bc": 0.6}, 2) == ("aaabbbb",)
    assert cleaned(strip, {"ab": 0.6, "bc": 0.2}, 2) == ("aaaabbb",)
    assert cleaned(strip, {"ab": 0.6, "bc": 0.2}, 1) == ("aaabccc",)


def test_large_segments_are_not_joined_through_a_small_one():
    assert cleaned(drawn("aaabccc"), {"ab": 0.9, "bc": 0.9}, 3) == ("aaabbbb",)


def test_small_ones_gather_until_they_suffice():
    assert cleaned(drawn("abcdefff"), {"ab": 0.9, "bc": 0.1, "cd": 0.9, "de": 0.1, "ef": 0.2}, 2) == ("aabbcccc",)
    assert cleaned(drawn("abcd"), {"ab": 0.9, "bc": 0.1, "cd": 0.9}, 9) == ("aaaa",)


def test_mean_counts_before_area():
    assert cleaned(drawn("aaa bbc"), {"ab": 0.5, "ac": 0.5, "bc": 0.6}, 2) == ("aaa bbb",)
    assert cleaned(drawn("aab dab"), {"ad": 0.5, "ab": 0.0}, 2) == ("aab aab",)


def test_what_touches_nothing_stays():
    assert cleaned(drawn("a.bb"), {}, 5) == ("a.bb",)


def clean(fragments: np.ndarray, contacts: dict[str, float], **settings) -> tuple[str, ...]:
    graph = graph_of(fragments, with_contacts(fragments, contacts))
    segments = Cleaning(**settings).clean(np.arange(fragments.max() + 1), graph, Extent.of(fragments))
    return letters(segments[fragments])


def test_what_one_segment_encloses_joins_it():
    whole, holed = "aaaaa aaaaa aaaaa aaaaa aaaaa", "aaaaa abbba abcba abbba aaaaa"
    assert clean(drawn(whole, holed, whole), {}, holes=True) == (whole,) * 3
    assert clean(drawn(whole, holed, whole), {}) == (whole, holed, whole)


def test_what_may_go_on_elsewhere_is_no_hole():
    whole, holed, masked = "aaa aaa aaa", "aaa aba aaa", "aaa a.a aaa"
    for stack in [(whole, holed), (holed, whole), (whole, holed, masked), (whole, "aaa aab aaa", whole)]:
        assert clean(drawn(*stack), {}, holes=True) == stack
    two_beside_it = (whole, "aca aba aaa", whole)
    assert clean(drawn(*two_beside_it), {}, holes=True) == two_beside_it


@given(REGIONS)
def test_holes_are_what_is_parted_from_the_outside_by_one_segment(regions):
    graph, extent = graph_of(regions, np.ones((3, *regions.shape), np.uint8)), Extent.of(regions)
    found, count = fill_holes(np.arange(regions.max() + 1), graph, extent), int(regions.max())
    enclosed = set()
    for node in range(1, count + 1):
        reached, ends = set(), [each for each in range(1, count + 1) if extent.open[each] and each != node]
        while ends:
            each = ends.pop()
            if each not in reached:
                reached.add(each)
                ends += [int(pair.sum() - each) for pair in graph.pairs if each in pair and node not in pair]
        inner = set(range(1, count + 1)) - reached - {node}
        assert all(found[other] == found[node] for other in inner)
        enclosed |= inner
    assert found.max() == count - len(enclosed)


def test_an_island_joins_the_best_neighbour_along_z():
    stack = drawn("aaaab", "aaccb", "aaddd", "aaddd")
    contacts = {"ac": 0.2, "cd": 0.3, "bc": 0.9}
    assert clean(stack, contacts, islands=True) == ("aaaab", "aaccb", "aaccc", "aaccc")
    assert clean(stack, {"ac": 0.4, "cd": 0.3, "bc": 0.9}, islands=True) == ("aaaab", "aaaab", "aaccc", "aaccc")


def test_segments_of_the_first_and_the_last_section_are_no_islands():
    stack = ("aab", "aaa", "aac")
    assert clean(drawn(*stack), {"ab": 0.9, "ac": 0.9}, islands=True) == stack
    assert clean(drawn("abc"), {"ab": 0.9, "bc": 0.9}, islands=True) == ("abc",)


@given(REGIONS, st.data())
def test_the_extent_of_merged_regions_is_that_of_the_merged_volume(regions, data):
    merged = relabel(np.array([0, *(data.draw(st.integers(1, 3)) for _ in range(int(regions.max())))]))
    ours, wanted = Extent.of(regions).contracted(merged), Extent.of(merged[regions])
    for name in ("first", "last", "open"):
        assert getattr(ours, name)[1:].tolist() == getattr(wanted, name)[1:].tolist()


@given(REGIONS, st.booleans(), st.booleans(), st.sampled_from([0, 3]))
def test_cleaning_loses_no_voxel(fragments, holes, islands, minimum_size):
    nearest = np.random.default_rng(0).random((3, *fragments.shape), dtype=np.float32)
    cleaning = Cleaning(holes=holes, islands=islands, minimum_size=minimum_size)
    graph = graph_of(fragments, nearest)
    once = cleaning.clean(np.arange(fragments.max() + 1), graph, Extent.of(fragments))
    assert np.array_equal(once[fragments] > 0, fragments > 0)
    assert np.array_equal(once, relabel(once))


@given(arrays(np.int64, (2, 3, 4), elements=st.integers(0, 6)), st.integers(1, 8))
def test_no_voxel_is_lost_and_none_is_left_small_beside_another(ids, minimum_size):
    fragments = relabel(ids)
    nearest = np.random.default_rng(0).random((3, *ids.shape), dtype=np.float32)
    graph = graph_of(fragments, nearest)
    segments = merge_small(np.arange(fragments.max() + 1), graph, minimum_size)[fragments]
    assert np.array_equal(segments > 0, fragments > 0)
    after = graph_of(segments, nearest)
    assert (after.voxels[after.pairs] >= minimum_size).all()
