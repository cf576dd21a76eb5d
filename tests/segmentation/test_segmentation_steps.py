import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from toy_affinities import blurred_noise, boxes, perfect

from ssns.errors import UserError
from ssns.metrics import score
from ssns.segmentation import (
    CANDIDATES,
    PRESETS,
    Agglomeration,
    Cleaning,
    FusionMoves,
    GraphDistance,
    MeanScore,
    Method,
    Multicut,
    MutexClustering,
    QuantileAffinity,
    QuantileScore,
    SeededWatershed,
    learn_affinity,
    resolve_method,
    segment,
    sweep,
    sweep_methods,
    with_value,
)
from ssns.segmentation.graph import RegionGraph

WIDTHS = st.lists(st.integers(16, 20), min_size=1, max_size=2)
METHODS = [
    *(pytest.param(name, id=name) for name in ("default", "paper-waterz", "paper-multicut")),
    pytest.param(Agglomeration(score=MeanScore(), queue="exact", cleaning=Cleaning(minimum_size=5)), id="mean"),
    pytest.param(Multicut(fragments=SeededWatershed()), id="multicut of the paper's fragments"),
    pytest.param(Multicut(lifted=GraphDistance(), weighting="xyz", solver=FusionMoves()), id="lifted multicut"),
    pytest.param(Multicut(affinity=QuantileAffinity(), solver=MutexClustering()), id="mutex clustering"),
]


@hypothesis_settings(max_examples=10)
@given(st.tuples(st.lists(st.integers(1, 2), min_size=1, max_size=2), WIDTHS, WIDTHS))
@pytest.mark.parametrize("method", METHODS)
def test_perfect_affinities_give_the_labels_back(method, cuts):
    labels = boxes(cuts)
    scores = score(segment(perfect(labels), method, threads=1), labels)
    assert (scores.arand, scores.voi_sum) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_ids_are_dense_small_and_0_only_where_masked(method):
    affinities = blurred_noise((3, 40, 50))
    mask = np.ones(affinities.shape[1:], dtype=bool)
    mask[:, :, 20:23] = False
    segments = segment(affinities, method, mask=mask)
    assert segments.dtype == np.uint8
    assert np.array_equal(segments > 0, mask)
    assert np.array_equal(np.unique(segments), np.arange(segments.max() + 1))
    assert not set(segments[:, :, :20].ravel()) & set(segments[:, :, 23:].ravel())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 5, 6), (3, 1, 6), (3, 5, 1), (1, 1, 1)], ids=str)
def test_volumes_without_contrast_have_the_trivial_answer(method, shape):
    joined = segment(np.full((3, *shape), 255, dtype=np.uint8), method)
    assert joined.tolist() == np.ones(shape).tolist()
    if isinstance(method, str) or method.cleaning == Cleaning():
        apart = segment(np.zeros((3, *shape), dtype=np.float16), method)
        assert apart.tolist() == np.broadcast_to(np.arange(1, shape[0] + 1)[:, None, None], shape).tolist()
    nothing = segment(np.zeros((3, *shape), dtype=np.uint8), method, mask=np.zeros(shape, dtype=bool))
    assert nothing.tolist() == np.zeros(shape).tolist()


def test_more_than_255_segments_take_a_larger_type():
    labels = np.zeros((300, 5, 5), dtype=int) + np.arange(1, 301)[:, None, None]
    segments = segment(perfect(labels), "paper-waterz")
    assert (segments.dtype, segments.max()) == (np.uint16, 300)


def test_channels_of_other_offsets_are_not_used():
    affinities = blurred_noise((3, 30, 30))
    offsets = [(0, 0, -1), (-1, 0, 0), (0, -9, 0), (0, -1, 0)]
    shuffled = np.stack([affinities[2], affinities[0], affinities[0] * 0, affinities[1]])
    assert np.array_equal(segment(shuffled, "paper-waterz", offsets=offsets), segment(affinities, "paper-waterz"))


@pytest.mark.parametrize("name", ["paper-waterz", "paper-multicut"])
def test_minimum_size_leaves_no_small_segment(name):
    affinities = blurred_noise((3, 60, 60), seed=3)
    strict = {"threshold": 0.1} if name == "paper-waterz" else {"beta": 0.9}
    method = PRESETS[name].model_copy(update=strict)
    with_small = segment(affinities, method)
    without = segment(affinities, method.model_copy(update={"cleaning": Cleaning(minimum_size=150)}))
    assert np.bincount(with_small.ravel())[1:].min() < 150 <= np.bincount(without.ravel())[1:].min()
    assert (without > 0).all()


def test_methods_that_are_compared_give_what_each_gives_alone():
    affinities = blurred_noise((3, 40, 50))
    mask = np.ones(affinities.shape[1:], dtype=bool)
    mask[:, :, 20:23] = False
    strange = CANDIDATES[1].model_copy(update={"score": QuantileScore(quantile=75, start="all"), "minimum_size": 30})
    methods = [with_value(method, value) for method in (*CANDIDATES, strange) for value in (0.7, 0.3, 0.3)]
    found = {}
    for fragments, partitions in sweep_methods(affinities, methods, mask=mask):
        found |= {method: segments[fragments] for method, segments in partitions}
    assert found.keys() == set(methods)
    for method, segmentation in found.items():
        assert np.array_equal(segmentation, segment(affinities, method, mask=mask))


def test_fragments_graphs_and_trees_are_shared(monkeypatch):
    calls = []

    def watch(owner, name):
        kept = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **how: calls.append(name) or kept(*given, **how))

    for kind in {type(method.fragments) for method in CANDIDATES}:
        watch(kind, "flood")
    watch(RegionGraph, "of")
    watch(Agglomeration, "tree")
    methods = [with_value(method, value) for value in (0.3, 0.7) for method in CANDIDATES]
    for _, partitions in sweep_methods(blurred_noise((2, 30, 30)), methods):
        assert len(list(partitions)) == len(methods) / 2
    assert calls == ["flood", "of", "tree", "tree"] * 2


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_own_fragments_can_be_given_whatever_their_ids(method):
    affinities = blurred_noise((3, 40, 50))
    mask = np.ones(affinities.shape[1:], dtype=bool)
    mask[:, :, 20:23] = False
    fragments, partitions = next(sweep_methods(affinities, [with_value(resolve_method(method), 0.5)], mask=mask))
    wanted = next(partitions)[1][fragments]
    unmasked = np.where(mask, fragments, 3)
    names = np.random.default_rng(0).permutation(np.arange(1, 1 + fragments.max())).astype(np.uint64) << np.uint64(40)
    for ids in (unmasked, unmasked.astype(np.int16), names[unmasked - 1]):
        ((_, found),) = sweep(affinities, method, [0.5], mask=mask, fragments=ids)
        assert np.array_equal(found > 0, mask)
        assert ids is not unmasked or np.array_equal(found, wanted)


def test_where_fragments_are_0_segments_are_0():
    fragments = np.array([[[5, 5, 0, 7, 7]]])
    found = segment(np.ones((3, 1, 1, 5), np.float32), "waterz", fragments=fragments)
    assert found.tolist() == [[[1, 1, 0, 2, 2]]]


@pytest.mark.parametrize(
    ("fragments", "message"),
    [
        (
            np.ones((1, 2, 3), int),
            r"fragments: wanted integer ids of the shape of the affinities, \(1, 2, 2\), got int64",
        ),
        (np.ones((1, 2, 2)), "fragments: wanted integer ids .* got float64"),
        (np.full((1, 2, 2), -1), "fragments: wanted ids from 0 on, got -1"),
    ],
)
def test_impossible_fragments_are_told(fragments, message):
    with pytest.raises(UserError, match=message):
        segment(np.ones((3, 1, 2, 2), dtype=np.float32), fragments=fragments)


def test_presets_are_the_papers_and_the_default_is_one_of_them():
    assert PRESETS["paper-waterz"].model_dump() == {
        "type": "agglomeration",
        "fragments": {
            "type": "seeded_watershed",
            "seeds": {"type": "maxima_distance", "boundary": 0.5},
            "dimensions": 2,
            "mask_fragments": None,
        },
        "score": {"type": "quantile", "quantile": 50, "start": "maximum"},
        "queue": "bins",
        "threshold": 0.5,
        "cleaning": {"holes": False, "islands": False, "minimum_size": 0},
    }
    assert PRESETS["paper-multicut"].model_dump() == {
        "type": "multicut",
        "fragments": {
            "type": "distance_transform_watershed",
            "dimensions": 2,
            "boundary": 0.25,
            "sigma_seeds": 2,
            "sigma_weights": 2,
            "alpha": 0.9,
            "minimum_size": 100,
        },
        "affinity": {"type": "mean"},
        "weighting": "all",
        "lifted": {"type": "none"},
        "solver": {"type": "kernighan_lin", "iterations": 100},
        "beta": 0.5,
        "cleaning": {"holes": False, "islands": False, "minimum_size": 0},
    }
    affinities = blurred_noise((2, 30, 30))
    assert np.array_equal(segment(affinities), segment(affinities, PRESETS["default"]))


@pytest.mark.parametrize("name", ["waterz", "multicut"])
def test_a_method_by_its_short_name_is_that_of_the_paper(name):
    assert PRESETS[name] == PRESETS[f"paper-{name}"]
    affinities = blurred_noise((2, 30, 30))
    assert np.array_equal(segment(affinities, name), segment(affinities, f"paper-{name}"))


@pytest.mark.parametrize("method", PRESETS.values(), ids=PRESETS)
def test_methods_survive_being_written_and_read(method):
    assert TypeAdapter(Method).validate_python(method.model_dump()) == method


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "paper-watrz",
            r"method: wanted one of .*paper-multicut, got 'paper-watrz' \(did you mean paper-waterz\?\)",
        ),
        (7, "method: wanted a component .* got int"),
    ],
)
def test_unknown_methods_are_told(method, message):
    with pytest.raises(UserError, match=message):
        segment(np.ones((3, 1, 2, 2), dtype=np.float32), method)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_told(threads):
    affinities = np.ones((3, 1, 2, 2), dtype=np.float32)
    with pytest.raises(UserError, match=f"threads: wanted 1 or more, got {threads}"):
        segment(affinities, threads=threads)
    with pytest.raises(UserError, match=f"threads: wanted 1 or more, got {threads}"):
        learn_affinity(affinities, np.ones((1, 2, 2), int), threads=threads)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "paper-waterz",
            [0.5, 1.5],
            "values: wanted a threshold for agglomeration, got 1.5: .* less than or equal to 1",
        ),
        ("paper-multicut", [0], "values: wanted a beta for multicut, got 0: .* greater than 0"),
        ("paper-waterz", [], "values: wanted at least one threshold, got none"),
    ],
)
def test_impossible_sweeps_are_told_before_any_work(name, values, message):
    with pytest.raises(UserError, match=message):
        sweep(np.ones((3, 1, 2, 2), dtype=np.float32), name, values)


def test_segmenting_and_scoring_work_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, ssns.metrics as m, ssns.segmentation as s\n"
        "a = np.ones((3, 1, 4, 4), dtype=np.float32)\n"
        "r = s.segment(a, 'paper-waterz')\n"
        "assert m.score(r, np.ones_like(r)).voi_sum == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
