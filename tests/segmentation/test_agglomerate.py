import numpy as np
import pytest
import waterz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from plain_agglomeration import plainly_merged
from toy_affinities import blurred_noise, drawn, graph_of, letters, same_partition, with_contacts

from ssns.affinities import NEAREST
from ssns.metrics import score
from ssns.segmentation import (
    DEFAULT_METHOD,
    Agglomeration,
    GridSeeds,
    MaximumScore,
    MeanScore,
    MinimaSeeds,
    QuantileScore,
    SeededWatershed,
    segment,
    sweep,
)
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import relabel

AFFINITIES = blurred_noise((4, 40, 50), level=-2)
THRESHOLDS = [0.11, 0.22, 0.33, 0.44, 0.5, 0.61, 0.72, 0.83, 0.94]
QUANTILES = [QuantileScore(quantile=q, start=start) for q in range(10, 100, 5) for start in ("maximum", "all")]
SCORES = [QuantileScore(), QuantileScore(quantile=75, start="all"), MeanScore(), MaximumScore()]
METHODS = [Agglomeration(score=score, queue=queue) for score in SCORES for queue in ("bins", "exact")]
WATERSHEDS = [SeededWatershed(), SeededWatershed(seeds=MinimaSeeds()), SeededWatershed(seeds=GridSeeds(spacing=4))]


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).random((3, *shape), dtype=np.float32)


VOLUMES = {
    "few merges": blurred_noise((2, 30, 40), level=-2),
    "some": blurred_noise((4, 40, 50), level=0),
    "many": blurred_noise((6, 60, 64), level=2),
    "bytes": (255 * blurred_noise((4, 40, 50), level=1)).round() / np.float32(255),
    "noise": noise((3, 30, 30)),
    "one section of noise": noise((1, 20, 30)),
}


def by_waterz(fragments: np.ndarray, affinities: np.ndarray, method: Agglomeration) -> list[np.ndarray]:
    """Segment of each fragment at each threshold, by waterz itself."""
    if isinstance(method.score, QuantileScore):
        start = "true" if method.score.start == "maximum" else "false"
        kind = f"HistogramQuantileAffinity<RegionGraphType, {method.score.quantile}, ScoreValue, 256, {start}>"
    else:
        kind = "MeanAffinity<RegionGraphType, ScoreValue>"
    found = []
    for segmentation in waterz.agglomerate(
        affinities,
        THRESHOLDS,
        fragments=fragments.astype(np.uint64),
        scoring_function=f"OneMinus<{kind}>",
        discretize_queue=256 if method.queue == "bins" else 0,
    ):
        segments = np.zeros(int(fragments.max()) + 1, np.int64)
        segments[fragments] = segmentation
        segments[0] = 0
        found.append(segments)
    return found


def ours(fragments: np.ndarray, affinities: np.ndarray, method: Agglomeration) -> list[np.ndarray]:
    graph = graph_of(fragments, affinities, histograms=method.histograms, running=method.running)
    return list(method.partitions(graph, THRESHOLDS))


@pytest.mark.parametrize("affinities", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("watershed", WATERSHEDS, ids=lambda watershed: watershed.seeds.type)
def test_quantiles_are_those_of_waterz(affinities, watershed):
    fragments = watershed.flood(AffinityVolume.checked(affinities, NEAREST, None), threads=1)
    for method in [Agglomeration(score=each) for each in QUANTILES]:
        for found, wanted in zip(
            ours(fragments, affinities, method), by_waterz(fragments, affinities, method), strict=True
        ):
            assert same_partition(found, wanted), method


@pytest.mark.parametrize("affinities", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("watershed", WATERSHEDS, ids=lambda watershed: watershed.seeds.type)
def test_means_rounded_as_by_waterz_are_those_of_waterz(affinities, watershed):
    fragments = watershed.flood(AffinityVolume.checked(affinities, NEAREST, None), threads=1)
    method = Agglomeration(score=MeanScore(rounding="waterz"))
    for found, wanted in zip(
        ours(fragments, affinities, method), by_waterz(fragments, affinities, method), strict=True
    ):
        assert same_partition(found, wanted)


@pytest.mark.parametrize("affinities", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("watershed", WATERSHEDS, ids=lambda watershed: watershed.seeds.type)
def test_exact_means_are_those_of_waterz(affinities, watershed):
    """But for rounding: waterz updates a float32 mean voxel by voxel, which a sum of whole numbers cannot repeat.

    A mean beside the edge of a bin may come into another one, and the order differs from there on; a mean that is the
    threshold may lie on either side of it.
    """
    fragments = watershed.flood(AffinityVolume.checked(affinities, NEAREST, None), threads=1)
    method = Agglomeration(score=MeanScore())
    assert_same_but_for_rounding(
        fragments, ours(fragments, affinities, method), by_waterz(fragments, affinities, method)
    )


def assert_same_but_for_rounding(fragments, found, wanted):
    """Of partitions at several thresholds, one may differ, and that hardly."""
    pairs = list(zip(found, wanted, strict=True))
    assert sum(same_partition(*pair) for pair in pairs) >= len(pairs) - 1
    assert max(score(ours[fragments], theirs[fragments]).arand for ours, theirs in pairs) < 0.001


@pytest.mark.parametrize("score", [*QUANTILES[::5], MeanScore()], ids=str)
def test_exact_order_is_that_of_waterz_where_no_two_scores_are_equal(score):
    """Its order of equal ones is that of std::priority_queue, which depends on all that was queued before.

    Quantiles have 256 values only, so ties are the rule, and the order within them decides: partitions of real volumes
    have adapted Rand errors of up to 0.4 against each other. Here every contact is of one bin of its own.
    """
    shape = (3, 4, 6)
    fragments = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    for seed in range(20):
        random = np.random.default_rng(seed)
        bins = random.permutation(256)[: 3 * fragments.size]
        affinities = ((bins + random.random(bins.shape)) / 256).astype(np.float32).reshape(3, *shape)
        method = Agglomeration(score=score, queue="exact")
        for found, wanted in zip(
            ours(fragments, affinities, method), by_waterz(fragments, affinities, method), strict=True
        ):
            assert same_partition(found, wanted)


@pytest.mark.real_data
def test_partitions_of_real_affinities_are_those_of_waterz(development_data):
    pytest.importorskip("torch", reason="affinities are predicted")
    from ssns import open_volume, predict
    from ssns.checkpoint import load_checkpoint
    from ssns.space import Box
    from ssns.zoo import weights_path

    checkpoint = load_checkpoint(weights_path("zoo:ac4-supervised-full"))
    raw = open_volume(development_data / "AC4_inputs.tif")
    box = Box.of_shape((6, 192, 192), start=(60, 300, 300))
    affinities = predict(raw, checkpoint, box=box)
    volume = AffinityVolume.checked(affinities, NEAREST, None)
    scaled = affinities / np.float32(255)
    for watershed in (SeededWatershed(), DEFAULT_METHOD.fragments):
        fragments = watershed.flood(volume, threads=1)
        for method in [Agglomeration(score=each) for each in (*QUANTILES, MeanScore(rounding="waterz"))]:
            for found, wanted in zip(
                ours(fragments, affinities, method), by_waterz(fragments, scaled, method), strict=True
            ):
                assert same_partition(found, wanted), method
        means = Agglomeration(score=MeanScore())
        assert_same_but_for_rounding(fragments, ours(fragments, affinities, means), by_waterz(fragments, scaled, means))


@given(arrays(np.int64, (2, 4, 5), elements=st.integers(0, 30)), st.sampled_from(METHODS), st.integers(1, 255))
def test_merges_are_those_of_the_plain_algorithm(ids, method, steps):
    fragments = relabel(ids)
    # Coarse steps make many scores equal.
    affinities = (noise(fragments.shape) * steps).round() / np.float32(steps)
    graph = graph_of(fragments, affinities, histograms=True)
    tree = method.tree(graph)
    merges, scores = plainly_merged(graph, method)
    assert tree.merges.tolist() == merges
    assert tree.scores.tolist() == scores


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_sweep_equals_single_runs_in_any_order(method):
    found = dict(sweep(AFFINITIES, method, [0.7, 0.3, 0.3, 0.5]))
    assert list(found) == [0.3, 0.5, 0.7]
    for threshold, segments in found.items():
        alone = segment(AFFINITIES, method.model_copy(update={"threshold": threshold}))
        assert np.array_equal(segments, alone)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_higher_threshold_only_merges(method):
    fragments = method.fragments.flood(AffinityVolume.checked(AFFINITIES, NEAREST, None))
    tree = method.tree(graph_of(fragments, AFFINITIES, histograms=method.histograms))
    assert len(tree.merges) == fragments.max() - 1
    assert (np.diff(tree.scores) >= 0).all()
    coarser = np.arange(tree.count + 1)
    for threshold in [0, *THRESHOLDS, 2]:
        finer, coarser = coarser, tree.cut(threshold)
        assert len(np.unique(np.stack([finer, coarser]), axis=1).T) == len(np.unique(finer))
    assert coarser.tolist() == [0] + [1] * tree.count


def test_maximum_ignores_weak_pairs_where_all_do_not():
    """One strong pair among four between a and b."""
    fragments = relabel(drawn("aaaa bbbb"))
    affinities = with_contacts(fragments, {"ab": 0.1})
    affinities[1, 0, 1, 2] = 0.9
    graph = graph_of(fragments, affinities, histograms=True)
    found = {}
    for each in (QuantileScore(), QuantileScore(start="all"), QuantileScore(quantile=100, start="all"), *SCORES[2:]):
        (segments,) = Agglomeration(score=each).partitions(graph, [0.5])
        found[str(each)] = bool(segments[1] == segments[2])
    assert list(found.values()) == [True, False, True, False, True]


def test_equal_scores_merge_by_the_order_of_ids():
    fragments = relabel(drawn("dda cba ccb"))
    graph = graph_of(fragments, np.full((3, *fragments.shape), 0.5, np.float32))
    assert graph.pairs.tolist() == [[1, 2], [1, 4], [2, 3], [2, 4], [3, 4]]
    assert Agglomeration(score=MaximumScore(), queue="exact").tree(graph).merges.tolist() == [[1, 2], [1, 3], [1, 4]]


def test_nothing_merges_through_region_0():
    fragments = relabel(drawn("a.b"))
    graph = graph_of(fragments, np.ones((3, 1, 1, 3), dtype=np.float32))
    (segments,) = Agglomeration().partitions(graph, [1.0])
    assert letters(segments[fragments]) == ("a.b",)


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(
    ("fragments", "wanted"),
    [
        (drawn("aaa aaa"), "aaa aaa"),
        (drawn("abc"), "aaa"),
        (drawn("a b c"), "a a a"),
        (drawn("a.b c.b"), "a.b a.b"),
        (drawn("zzm zzm"), "aaa aaa"),
        (drawn("... ..."), "... ..."),
    ],
)
def test_bad_fragments_have_the_trivial_answer(method, fragments, wanted):
    """One fragment; one voxel thick; holes; ids that are not dense; nothing."""
    for affinity, threshold in ((1, 0.5), (0, 1.0)):
        graph = graph_of(fragments, np.full((3, *fragments.shape), affinity, np.float32), histograms=True)
        segments = method.tree(graph).cut(threshold)
        if affinity == 1:
            assert letters(relabel(segments[fragments])) == (wanted,)
        elif method.score.type != "quantile":
            assert same_partition(segments[fragments], fragments)


def test_input_is_left_as_it_is_and_nothing_is_printed(capfd):
    affinities = AFFINITIES.copy()
    affinities.flags.writeable = False
    volume = AffinityVolume.checked(affinities, NEAREST, None)
    fragments = Agglomeration().fragments.flood(volume)
    fragments.flags.writeable = False
    graph = RegionGraph.of(fragments, volume, histograms=True)
    kept = graph.contacts.copy(), graph.histograms.counts.copy()
    for method in METHODS:
        list(method.partitions(graph, [0.5]))
    assert np.array_equal(graph.contacts, kept[0])
    assert np.array_equal(graph.histograms.counts, kept[1])
    assert np.array_equal(affinities, AFFINITIES)
    assert capfd.readouterr() == ("", "")
