import os
import typing

import numpy as np
import pytest
import waterz
from toy_affinities import blurred_noise, drawn, letters, same_partition, with_contacts

from ssns.affinities import NEAREST
from ssns.segmentation import MeanScore, QuantileScore, Waterz, segment, sweep
from ssns.segmentation.agglomerate import Quantile
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.relabelling import relabel

AFFINITIES = blurred_noise((4, 40, 50), level=-2)
NAMES = {
    "paper": (Waterz(), "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>", 256),
    "all": (
        Waterz(score=QuantileScore(quantile=75, start="all"), queue=0),
        "OneMinus<HistogramQuantileAffinity<RegionGraphType, 75, ScoreValue, 256, false>>",
        0,
    ),
    "mean": (Waterz(score=MeanScore()), "OneMinus<MeanAffinity<RegionGraphType, ScoreValue>>", 256),
}


@pytest.mark.parametrize(("method", "name", "queue"), NAMES.values(), ids=NAMES)
def test_equals_waterz_called_by_itself(method, name, queue):
    fragments = method.fragments.flood(AffinityVolume.checked(AFFINITIES, NEAREST, None))
    thresholds = [0.2, 0.5, 0.8]
    wanted = [
        result.copy()
        for result in waterz.agglomerate(
            AFFINITIES, thresholds, fragments=fragments.astype(np.uint64), scoring_function=name, discretize_queue=queue
        )
    ]
    found = list(sweep(AFFINITIES, method, thresholds))
    assert [value for value, _ in found] == thresholds
    assert all(same_partition(segments, result) for (_, segments), result in zip(found, wanted, strict=True))
    counts = [int(segments.max()) for _, segments in found]
    assert counts[0] > counts[1] > counts[2] >= 1


@pytest.mark.parametrize("method", [method for method, *_ in NAMES.values()], ids=NAMES)
def test_a_sweep_equals_single_runs_in_any_order(method):
    found = dict(sweep(AFFINITIES, method, [0.7, 0.3, 0.3, 0.5]))
    assert list(found) == [0.3, 0.5, 0.7]
    for threshold, segments in found.items():
        alone = segment(AFFINITIES, method.model_copy(update={"threshold": threshold}))
        assert np.array_equal(segments, alone)


def test_every_score_is_compiled_already(monkeypatch):
    monkeypatch.setattr(waterz._agglomerate, "_jit_compile", lambda *_: pytest.fail("wanted a prebuilt score"))
    fragments = drawn("aabb")
    volume = AffinityVolume.checked(with_contacts(fragments, {"ab": 0.8}), NEAREST, None)
    scores = [QuantileScore(quantile=q, start=s) for q in typing.get_args(Quantile) for s in ("maximum", "all")]
    for score in [*scores, MeanScore()]:
        for queue in (0, 256):
            split, joined = Waterz(score=score, queue=queue).partitions(relabel(fragments), volume, [0.1, 0.5])
            assert (split.tolist(), joined[1] == joined[2]) == ([0, 1, 2], True)


def test_maximum_ignores_weak_pairs_where_all_do_not():
    """One strong pair among four between a and b."""
    fragments = relabel(drawn("aaaa bbbb"))
    affinities = with_contacts(fragments, {"ab": 0.1})
    affinities[1, 0, 1, 2] = 0.9
    volume = AffinityVolume.checked(affinities, NEAREST, None)
    (joined,) = Waterz().partitions(fragments, volume, [0.5])
    (apart,) = Waterz(score=QuantileScore(start="all")).partitions(fragments, volume, [0.5])
    assert joined[1] == joined[2]
    assert apart[1] != apart[2]


def test_nothing_merges_through_region_0():
    fragments = relabel(drawn("a.b"))
    volume = AffinityVolume.checked(np.ones((3, 1, 1, 3), dtype=np.float32), NEAREST, None)
    (segments,) = Waterz().partitions(fragments, volume, [1.0])
    assert letters(segments[fragments]) == ("a.b",)


def test_input_is_left_as_it_is_and_nothing_is_printed(capfd):
    affinities = AFFINITIES.copy()
    affinities.flags.writeable = False
    fragments = Waterz().fragments.flood(AffinityVolume.checked(affinities, NEAREST, None))
    kept = fragments.copy()
    list(Waterz().partitions(fragments, AffinityVolume.checked(affinities, NEAREST, None), [0.5]))
    assert np.array_equal(fragments, kept)
    assert np.array_equal(affinities, AFFINITIES)
    assert capfd.readouterr() == ("", "")
    os.write(1, b"heard again")
    assert capfd.readouterr().out == "heard again"
