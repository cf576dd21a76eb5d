from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_affinities import blurred_noise, drawn, graph_of, with_contacts

from ssns.affinities import NEAREST, edge_ends
from ssns.segmentation import contacts
from ssns.segmentation.graph import RegionGraph, pairs_of
from ssns.segmentation.inputs import ONE, AffinityVolume
from ssns.segmentation.relabelling import relabel

SHAPES = st.tuples(*(st.integers(1, n) for n in (3, 4, 5)))
REGIONS = SHAPES.flatmap(lambda shape: arrays(np.int64, shape, elements=st.integers(0, 7))).map(relabel)


def noise(shape: tuple[int, ...], kind: type = np.uint8) -> np.ndarray:
    affinities = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    return affinities if kind is np.uint8 else (affinities / np.float32(255)).astype(kind)


FAR = [(0, 0, -2), (0, 2, -1), (1, 0, 3), (-2, 0, 0)]
"""Offsets beyond the nearest neighbours, among them one that goes forward and one that goes both ways."""


def twin(
    regions: np.ndarray, affinities: np.ndarray, offsets: Sequence[tuple[int, int, int]] = NEAREST
) -> dict[tuple[int, int], list[tuple[int, np.ndarray, int]]]:
    """Channel, sum of coordinates and level of each voxel pair, by their two regions."""
    found: dict = {}
    levels = (
        np.minimum(np.floor(affinities * 65536.0), ONE)
        if affinities.dtype != np.uint8
        else 257 * affinities.astype(int)
    )
    for axis, offset in enumerate(offsets):
        here, there = edge_ends(regions.shape, offset)
        places = np.argwhere(np.ones(regions[here].shape, bool)) + [part.start for part in here]
        for place, one, other in zip(places, regions[here].ravel(), regions[there].ravel(), strict=True):
            if one != other and one and other:
                pair = (int(min(one, other)), int(max(one, other)))
                found.setdefault(pair, []).append((axis, 2 * place + offset, int(levels[(axis, *place)])))
    return dict(sorted(found.items()))


def histograms(graph: RegionGraph) -> list[dict[int, int]]:
    assert graph.histograms is not None
    starts, bins, counts = graph.histograms
    return [dict(zip(bins[a:b].tolist(), counts[a:b].tolist(), strict=True)) for a, b in pairwise(starts)]


def assert_same(one: RegionGraph, other: RegionGraph) -> None:
    assert one.voxels.tolist() == other.voxels.tolist()
    assert one.contacts.tolist() == other.contacts.tolist()
    assert (one.far is None) == (other.far is None)
    if one.far is not None:
        assert one.far.tolist() == other.far.tolist()
    assert (one.histograms is None) == (other.histograms is None)
    if one.histograms is not None:
        assert histograms(one) == histograms(other)


@given(REGIONS, st.sampled_from([np.uint8, np.float32, np.float64]))
def test_statistics_are_those_of_the_voxel_pairs(regions, kind):
    affinities = noise(regions.shape, kind)
    graph = graph_of(regions, affinities, histograms=True)
    wanted = twin(regions, affinities)
    assert graph.voxels.tolist() == [0, *np.bincount(regions.ravel())[1:]]
    assert graph.pairs.tolist() == [list(pair) for pair in wanted]
    for i, pairs in enumerate(wanted.values()):
        axes, places, levels = zip(*pairs, strict=True)
        assert (graph.area_z[i], graph.area_xy[i]) == (axes.count(0), len(axes) - axes.count(0))
        assert (graph.area[i], graph.total[i], graph.maximum[i]) == (len(axes), sum(levels), max(levels))
        assert graph.mean[i] == pytest.approx(np.mean(levels) / ONE)
        assert graph.centre[i] == pytest.approx(np.mean(places, axis=0) / 2)
        bins = [level >> 8 for level in levels]
        assert histograms(graph)[i] == {each: bins.count(each) for each in sorted(set(bins))}


@given(REGIONS)
def test_bytes_and_their_quotients_have_the_same_graph(regions):
    graphs = [graph_of(regions, noise(regions.shape, kind), histograms=True) for kind in (np.uint8, np.float32)]
    assert_same(*graphs)


def far_noise(shape: tuple[int, ...], kind: type = np.uint8) -> AffinityVolume:
    """Noise in the three nearest channels and in those of `FAR`."""
    more = np.random.default_rng(1).integers(0, 256, (len(FAR), *shape), dtype=np.uint8)
    values = np.concatenate([noise(shape), more])
    if kind is not np.uint8:
        values = (values / np.float32(255)).astype(kind)
    return AffinityVolume.checked(values, [*NEAREST, *FAR], None)


@given(REGIONS, st.sampled_from([np.uint8, np.float32]))
def test_far_pairs_are_those_of_the_voxels(regions, kind):
    volume = far_noise(regions.shape, kind)
    graph = RegionGraph.of(regions, volume, far=True, threads=2)
    wanted = twin(regions, volume.values[3:], FAR)
    assert graph.far is not None
    assert pairs_of(graph.far).tolist() == [list(pair) for pair in wanted]
    for row, pairs in zip(graph.far, wanted.values(), strict=True):
        channels, places, levels = zip(*pairs, strict=True)
        along_z = sum(FAR[channel][0] != 0 for channel in channels)
        assert (row[contacts.AREA_Z], row[contacts.AREA_XY]) == (along_z, len(channels) - along_z)
        assert (row[contacts.TOTAL], row[contacts.MAXIMUM]) == (sum(levels), max(levels))
        assert row[contacts.POSITION : contacts.POSITION + 3].tolist() == np.sum(places, axis=0).tolist()
    assert_same(replace(graph, far=None), RegionGraph.of(regions, volume, threads=1))


@given(REGIONS, st.data())
def test_far_pairs_survive_contraction(regions, data):
    merged = relabel(np.array([0, *(data.draw(st.integers(1, 3)) for _ in range(int(regions.max())))]))
    volume = far_noise(regions.shape)
    ours = RegionGraph.of(regions, volume, far=True).contracted(merged)
    assert_same(ours, RegionGraph.of(merged[regions], volume, far=True))


@given(REGIONS, st.tuples(*(st.lists(st.integers(1, n), unique=True).map(sorted) for n in (2, 3, 4))))
def test_blocks_add_up_to_the_whole(regions, cuts):
    volume, reach = far_noise(regions.shape), np.abs(FAR).max(axis=0)
    parts = []
    for place in np.ndindex(*(len(cut) + 1 for cut in cuts)):
        edges = [[0, *(c for c in cut if c < n), n] for cut, n in zip(cuts, regions.shape, strict=True)]
        if any(i + 1 >= len(edge) for i, edge in zip(place, edges, strict=True)):
            continue
        # A block reads planes of the blocks before it, as many as offsets reach, whose pairs with it are its own.
        lead = tuple(min(int(far), edge[i]) for i, edge, far in zip(place, edges, reach, strict=True))
        start = tuple(edge[i] - planes for i, edge, planes in zip(place, edges, lead, strict=True))
        box = tuple(slice(a, edge[i + 1]) for a, i, edge in zip(start, place, edges, strict=True))
        part = AffinityVolume.checked(volume.values[:, *box], volume.offsets, None)
        parts.append(RegionGraph.of(regions[box], part, histograms=True, far=True, origin=start, lead=lead))
    assert_same(RegionGraph.merged(parts), RegionGraph.of(regions, volume, histograms=True, far=True))


@given(REGIONS, st.data())
def test_contraction_equals_the_graph_of_the_merged_volume(regions, data):
    count = int(regions.max())
    merged = relabel(np.array([0, *(data.draw(st.integers(1, 3)) for _ in range(count))]))
    affinities = noise(regions.shape)
    ours = graph_of(regions, affinities, histograms=True).contracted(merged)
    assert_same(ours, graph_of(merged[regions], affinities, histograms=True))


@settings(max_examples=10)
@given(st.integers(1, 9))
def test_threads_do_not_matter(threads):
    regions = np.random.default_rng(1).integers(0, 40, (5, 20, 30))
    volume = AffinityVolume.checked(noise(regions.shape), NEAREST, None)
    assert_same(RegionGraph.of(regions, volume, threads=threads), graph_of(regions, volume.values))


def test_a_full_tally_is_emptied_and_goes_on(monkeypatch):
    regions = np.random.default_rng(1).integers(0, 400, (3, 20, 30))
    whole = graph_of(regions, noise(regions.shape), histograms=True)
    monkeypatch.setattr(contacts, "CONTACTS", 1)
    assert_same(graph_of(regions, noise(regions.shape), histograms=True), whole)


def test_forward_offsets_give_the_same_graph():
    regions = np.random.default_rng(1).integers(0, 9, (3, 4, 5))
    backward = noise(regions.shape)
    forward = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(backward)])
    volume = AffinityVolume.checked(forward, [(1, 0, 0), (0, 1, 0), (0, 0, 1)], None)
    assert_same(RegionGraph.of(regions, volume), graph_of(regions, backward))


def test_nothing_touches_region_0_and_one_region_has_no_contact():
    assert graph_of(drawn("a.b"), blurred_noise((1, 1, 3)), histograms=True).pairs.tolist() == []
    lonely = graph_of(drawn("aa aa"), blurred_noise((1, 2, 2)), histograms=True)
    assert (lonely.voxels.tolist(), lonely.pairs.shape, histograms(lonely)) == ([0, 4], (0, 2), [])
    assert graph_of(drawn("..."), blurred_noise((1, 1, 3))).voxels.tolist() == [0]


def test_a_contact_by_hand():
    regions = drawn("aab", "bbb")
    graph = graph_of(regions, with_contacts(regions, {"ab": 1.0}))
    assert graph.voxels.tolist() == [0, 2, 4]
    assert (graph.area_z.tolist(), graph.area_xy.tolist(), graph.mean.tolist()) == ([2], [1], [1.0])
    # Between sections at x 0 and x 1, and within the first one between x 1 and x 2.
    assert graph.centre.tolist() == [pytest.approx([1 / 3, 0, 2.5 / 3])]
