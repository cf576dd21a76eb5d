import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_affinities import drawn, graph_of, letters, with_contacts

from ssns.segmentation.cleaning import merge_small
from ssns.segmentation.relabelling import relabel


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


@given(arrays(np.int64, (2, 3, 4), elements=st.integers(0, 6)), st.integers(1, 8))
def test_no_voxel_is_lost_and_none_is_left_small_beside_another(ids, minimum_size):
    fragments = relabel(ids)
    nearest = np.random.default_rng(0).random((3, *ids.shape), dtype=np.float32)
    graph = graph_of(fragments, nearest)
    segments = merge_small(np.arange(fragments.max() + 1), graph, minimum_size)[fragments]
    assert np.array_equal(segments > 0, fragments > 0)
    after = graph_of(segments, nearest)
    assert (after.voxels[after.pairs] >= minimum_size).all()
