import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter
from toy_experiment import LABELS, change_voxel, make_toy, touch, toy, write_affinities

import ssns.commands.segment
from ssns.affinities import NEAREST, labels_to_affinities
from ssns.commands.choosing import _around, chosen_method, method_name, untried_side, was_swept
from ssns.commands.inputs import open_sources, parts
from ssns.commands.memory import check_memory
from ssns.commands.run_folder import RunFolder
from ssns.commands.segment import segment_experiment
from ssns.commands.truth import known_ids
from ssns.errors import UserError
from ssns.experiment.models import SegmentationSettings
from ssns.metrics import components, score
from ssns.segmentation import (
    CANDIDATES,
    DEFAULT_METHOD,
    Agglomeration,
    Cleaning,
    GridSeeds,
    LearnedAffinity,
    Multicut,
    QuantileScore,
    SeededWatershed,
    learn_affinity,
)
from ssns.space import Box
from ssns.volume import open_volume, write_volume

MULTICUT = method_name(Multicut())


@pytest.fixture
def path(tmp_path):
    return make_toy(tmp_path)


def test_perfect_affinities_give_the_neurites_back_where_they_are(path):
    experiment = toy(path)
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    segmentation = open_volume(folder.segmentation("a-test"))
    assert score(segmentation.read(), LABELS[8:40]).voi_sum < 1e-9
    assert (segmentation.origin, segmentation.voxel_size_nm) == ((8, 0, 0), (30, 6, 6))


def test_the_threshold_is_the_best_of_the_sweep_on_validation(path):
    experiment = toy(path)
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    content = json.loads(folder.choice.read_text())
    sums = {float(value): row["voi_sum"] for value, row in content["validation"].items()}
    assert sums.keys() == {0.3, 0.6}
    assert sums[content["value"]] == min(sums.values())
    assert open_volume(folder.segmentation("a-test")).attributes["method"]["threshold"] == content["value"]


@pytest.mark.parametrize(("around", "chosen"), [(False, 0.6), (True, 0.3)])
def test_validation_inside_another_part_is_judged_as_a_piece_of_that(path, around, chosen, capsys):
    experiment = toy(path, volumes__a__test=[], volumes__a__target="0:40" if around else "8:40")
    folder = write_affinities(experiment)
    for part in ("a-validation", "a-target"):
        stored = open_volume(folder.affinities(part))
        affinities, first = stored.read(), stored.origin[0]
        affinities[0] = np.minimum(affinities[0], 128)  # sections hold together at 0.6 alone
        if part == "a-target":  # and so do all neurons, farther on
            there = affinities[1:, 20 - first : 24 - first]
            there[...] = np.maximum(there, 140)
        write_volume(
            folder.affinities(part),
            affinities,
            voxel_size_nm=(30, 6, 6),
            origin=stored.origin,
            attributes={"offsets": stored.attributes["offsets"]},
        )
    segment_experiment(experiment)
    assert json.loads(folder.choice.read_text())["value"] == chosen
    told = "segment a-validation within a-target, z 0..40, y 0..48, x 0..48: sweep"
    output = " ".join(capsys.readouterr().out.split())
    assert (told in output) == around
    assert (
        "(a-validation as a piece of a-target, unlike `ssns evaluate`, which scores it by itself)" in output
    ) == around
    within = json.loads(folder.choice.read_text())["within"]
    assert within == ({"a-validation": "a-target, z 0..40, y 0..48, x 0..48"} if around else {})


def test_scattered_validation_parts_are_judged_in_one_segmentation(path, capsys):
    regions = [{"z": [z, z + 1]} for z in (4, 6, 7)]
    experiment = toy(path, volumes__a__validation=regions, volumes__a__test=[], volumes__a__target="0:40")
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    names = [f"a-validation-{i}" for i in range(3)]
    assert f"segment {', '.join(names)} within a-target, z 0..40, y 0..48, x 0..48: sweep" in capsys.readouterr().out
    content = json.loads(folder.choice.read_text())
    assert content["within"].keys() == set(names)
    assert content["validation"][f"{content['value']:g}"]["voi_sum"] < 1e-9


@pytest.mark.parametrize("background", [0, 3, None])
def test_ids_of_the_truth_are_those_of_neurons(path, background):
    (part, *_) = parts(toy(path), open_sources(toy(path, volumes__a__background=background)))
    labels, (ids, known) = LABELS[part.box.slices], known_ids(part)
    assert known.all()
    assert ((ids == 0) == (labels == (-1 if background is None else background))).all()
    assert (
        len(np.unique(ids))
        == len(np.unique(labels))
        == len(np.unique(np.stack([ids, labels]).reshape(2, -1), axis=1).T)
    )


def test_around_a_validation_part_is_as_much_as_may_be(path):
    found = parts(experiment := toy(path, volumes__a__test=[], volumes__a__target="0:40"), open_sources(experiment))
    (part,) = [each for each in found if each.role == "validation"]
    for most, box in [(10**8, "z 0..40"), (20 * 48 * 48, "z 0..16"), (7 * 48 * 48, "z 3..9"), (48, "z 4..8")]:
        assert str(_around(part, found, most)[1]).startswith(f"{box},")


def test_without_validation_the_methods_own_threshold_stays(path, capsys):
    experiment = toy(path, volumes__a__validation=[], segmentation__method={"threshold": 0.25})
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    assert json.loads(folder.choice.read_text())["value"] == 0.25
    assert "nothing to validate on, so threshold stays at 0.25" in capsys.readouterr().out


def test_a_threshold_that_was_not_swept_is_the_experiments(path):
    without = {"volumes__a__validation": []}
    write_affinities(toy(path, **without))
    segment_experiment(toy(path, **without, segmentation__method={"threshold": 0.25}))
    folder = RunFolder.of(toy(path))
    assert chosen_method(toy(path, **without, segmentation__method={"threshold": 0.25}), folder).threshold == 0.25
    with pytest.raises(UserError, match="has not been chosen"):
        chosen_method(toy(path, **without, segmentation__method={"threshold": 0.5}), folder)


def test_validation_regions_without_neurons_choose_nothing(path, capsys):
    labels = LABELS.copy()
    labels[4:8] = 0
    tifffile.imwrite(path.with_name("labels.tif"), labels)
    write_affinities(toy(path))
    segment_experiment(toy(path))
    assert "nothing to validate on, so threshold stays at 0.6" in capsys.readouterr().out
    assert not was_swept(RunFolder.of(toy(path)))
    learned = [{"type": "multicut", "affinity": {"type": "learned"}}]
    with pytest.raises(UserError, match="labels: wanted neurons to learn contacts from, got none"):
        segment_experiment(toy(path, segmentation__sweep=True, segmentation__candidates=learned))


def test_where_no_method_segments_anything_nothing_is_chosen(path):
    masked = {"fragments": {"type": "seeded_watershed", "mask_fragments": 0.9}}
    experiment = toy(path, scoring="excluded", segmentation__method={"type": "agglomeration", **masked})
    folder = write_affinities(experiment)
    for name in ("a-validation", "a-test"):
        stored = open_volume(folder.affinities(name))
        write_volume(folder.affinities(name), np.zeros_like(stored.read()), origin=stored.origin, attributes={})
    with pytest.raises(UserError, match="wanted segments where validation labels are, got none with any method"):
        segment_experiment(experiment)
    assert not folder.choice.exists()


def test_other_offsets_of_affinities_of_ones_own_are_other_affinities(path, capsys):
    affinities = (255 * labels_to_affinities(LABELS, NEAREST)[0]).astype(np.uint8)
    write_volume(path.with_name("mine.zarr"), affinities, voxel_size_nm=(30, 6, 6))
    mine = {"volumes__a__affinities": "mine.zarr"}
    segment_experiment(toy(path, **mine))
    capsys.readouterr()
    segment_experiment(toy(path, **mine, offsets=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]))
    told = capsys.readouterr().out
    assert "segment a-test: again, because of affinities" in told
    assert "skipped" not in told


def test_a_second_run_skips_and_a_change_redoes_what_follows_from_it(path, capsys):
    folder = write_affinities(toy(path))
    segment_experiment(toy(path))
    capsys.readouterr()
    segment_experiment(toy(path))
    assert capsys.readouterr().out.count("skipped") == 3
    segment_experiment(toy(path, segmentation__thresholds=[0.3, 0.6, 0.9]))
    told = capsys.readouterr().out
    assert "the sweep: again, because of thresholds" in told
    assert told.count("skipped") == 2  # the same threshold was chosen
    segment_experiment(toy(path, segmentation__method={"type": "multicut"}))
    told = capsys.readouterr().out
    assert "segment a-test: again, because of method.type" in told
    assert open_volume(folder.segmentation("a-test")).attributes["method"]["type"] == "multicut"
    assert "skipped" not in told


@pytest.mark.parametrize("verify", [False, True])
def test_other_labels_are_swept_again_and_copied_ones_are_not(path, capsys, verify):
    write_affinities(toy(path))
    segment_experiment(toy(path))
    touch(path.with_name("labels.tif"))
    capsys.readouterr()
    segment_experiment(toy(path), verify=verify)
    assert capsys.readouterr().out.count("skipped") == 3
    change_voxel(path.with_name("labels.tif"))
    segment_experiment(toy(path), verify=verify)
    assert "because of the data of parts.a-validation.labels" in capsys.readouterr().out


def test_a_failure_in_the_middle_leaves_nothing_that_looks_done(path, capsys, monkeypatch):
    folder = write_affinities(toy(path))
    segment_experiment(toy(path))
    other = toy(path, segmentation__method={"type": "multicut"})

    def failing(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(ssns.commands.segment, "write_volume", failing)
        with pytest.raises(KeyboardInterrupt):
            segment_experiment(other)
    capsys.readouterr()
    segment_experiment(other)
    assert "segment a-validation: skipped" not in capsys.readouterr().out
    assert open_volume(folder.segmentation("a-validation")).attributes["method"]["type"] == "multicut"


class TestErrors:
    def test_no_affinities_name_the_verb(self, path):
        with pytest.raises(UserError, match=r"none of a-validation in .*run `ssns predict` first"):
            segment_experiment(toy(path))

    def test_affinities_of_another_box(self, path):
        write_affinities(toy(path))
        with pytest.raises(UserError, match=r"is not of z 10\.\.40, .* as a-test is now: run `ssns predict` first"):
            segment_experiment(toy(path, volumes__a__test="10:40"))

    def test_affinities_of_other_offsets(self, path):
        write_affinities(toy(path))
        with pytest.raises(UserError, match=r"has the offsets \[\[-1, 0, 0\].*run `ssns predict` first"):
            segment_experiment(toy(path, offsets=[[-1, 0, 0], [0, -1, 0], [0, 0, -3], [0, 0, -1]]))

    @pytest.mark.parametrize(
        ("changes", "needed"),
        [
            ({}, 40),
            (
                {"prediction__dtype": "float32", "offsets": [*map(list, NEAREST), [-2, 0, 0], [0, -9, 0], [0, 0, -9]]},
                54,
            ),
            ({"segmentation__method": "mutex-watershed", "offsets": [*map(list, NEAREST), [0, 0, -9]]}, 142),
        ],
    )
    def test_too_large_for_memory(self, path, changes, needed):
        source = SimpleNamespace(name="a", settings=SimpleNamespace(affinities=None))
        part = SimpleNamespace(name="a-target", role="target", box=Box.of_shape((10**4,) * 3), source=source)
        with pytest.raises(UserError, match=rf"about {needed}000\.0 GB .* set volumes\.a\.target to smaller boxes"):
            check_memory(toy(path, **changes), [part])


class TestSweepOfMethods:
    @pytest.fixture
    def noisy(self, path):
        """Affinities of which no method makes the neurites; the experiment compares what ssns knows."""
        experiment = toy(path, segmentation__sweep=True)
        folder = write_affinities(experiment)
        noise = np.random.default_rng(0).normal(0, 60, (3, 40, 48, 48))
        for part in ("a-validation", "a-test"):
            stored = open_volume(folder.affinities(part))
            blurred = gaussian_filter(stored.read().astype(float), (0, 0, 1, 1)) + noise[:, : stored.shape[0]]
            write_volume(
                folder.affinities(part),
                blurred.clip(0, 255).astype(np.uint8),
                origin=stored.origin,
                attributes=stored.attributes,
            )
        return experiment

    def test_the_best_of_all_is_chosen_and_written_alone(self, noisy, capsys):
        segment_experiment(noisy)
        folder = RunFolder.of(noisy)
        content = json.loads(folder.choice.read_text())
        rows = [content, *content["others"]]
        assert [row["name"] for row in rows[1:]] != []
        assert {row["name"] for row in rows} == {method_name(method) for method in CANDIDATES}
        sums = {(row["name"], value): row["validation"][value]["voi_sum"] for row in rows for value in ("0.3", "0.6")}
        assert min(sums, key=sums.get) == (content["name"], f"{content['value']:g}")
        assert len(set(sums.values())) > 6
        for part in ("a-validation", "a-test"):
            assert open_volume(folder.segmentation(part)).attributes["method"] == content["method"]
        told = capsys.readouterr().out
        assert all(name in told for name, _ in sums)
        assert (
            f"segment: {content['name']} with {content['swept']} = {content['value']:g} is best on validation" in told
        )

    def test_its_scores_are_those_of_each_method_alone(self, noisy):
        segment_experiment(noisy)
        folder = RunFolder.of(noisy)
        content = json.loads(folder.choice.read_text())
        together = {row["name"]: row["validation"] for row in [content, *content["others"]]}
        for method in CANDIDATES[2:4]:
            segment_experiment(
                noisy.model_copy(update={"segmentation": SegmentationSettings(method=method, thresholds=(0.3, 0.6))})
            )
            assert json.loads(folder.choice.read_text())["validation"] == together[method_name(method)]

    def test_what_is_compared_can_be_listed_and_a_second_run_skips(self, path, capsys):
        candidates = [
            {"type": "multicut"},
            {"type": "multicut", "beta": 0.1},
            {"type": "multicut", "cleaning": {"minimum_size": 5}},
        ]
        experiment = toy(path, segmentation__sweep=True, segmentation__candidates=candidates)
        folder = write_affinities(experiment)
        segment_experiment(experiment)
        content = json.loads(folder.choice.read_text())
        names = [row["name"] for row in [content, *content["others"]]]
        assert set(names) == {method_name(DEFAULT_METHOD), MULTICUT, f"{MULTICUT}, minimum_size 5"}
        capsys.readouterr()
        segment_experiment(experiment)
        assert capsys.readouterr().out.count("skipped") == 3
        segment_experiment(toy(path, segmentation__candidates=candidates))  # without the sweep
        assert "the sweep: again, because of candidates" in capsys.readouterr().out

    def test_costs_are_learned_on_the_validation_sections(self, noisy):
        plain = Multicut(affinity=LearnedAffinity(), fragments=SeededWatershed())
        settings = SegmentationSettings(sweep=True, candidates=(plain,), thresholds=(0.3, 0.6))
        experiment = noisy.model_copy(update={"segmentation": settings})
        segment_experiment(experiment)
        folder = RunFolder.of(experiment)
        content = json.loads(folder.choice.read_text())
        found = next(row["method"] for row in [content, *content["others"]] if row["method"]["type"] == "multicut")
        affinities = open_volume(folder.affinities("a-validation")).read()
        wanted = learn_affinity(affinities, components(LABELS[4:8], background=0), plain)
        assert found["affinity"] == wanted.model_dump(mode="json")
        chosen = chosen_method(experiment, folder)
        assert chosen.model_dump(mode="json") == content["method"]
        folder.choice.write_text(json.dumps(content | {"method": found, "value": found["beta"]}))
        assert chosen_method(experiment, folder).affinity == wanted

    def test_without_validation_the_experiments_own_method_stays(self, path):
        experiment = toy(
            path, volumes__a__validation=[], segmentation__sweep=True, segmentation__method={"type": "multicut"}
        )
        folder = write_affinities(experiment)
        segment_experiment(experiment)
        assert open_volume(folder.segmentation("a-test")).attributes["method"]["type"] == "multicut"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Multicut(beta=0.3), "multicut, distance_transform_watershed, mean, kernighan_lin"),
        (
            Agglomeration(cleaning=Cleaning(minimum_size=9), queue="exact"),
            "agglomeration, seeded_watershed, quantile, queue exact, minimum_size 9",
        ),
        (DEFAULT_METHOD, "agglomeration, distance_transform_watershed, mean, islands True"),
        (
            Multicut(affinity=LearnedAffinity(between=(0.1,) * 11, within=(0.2,) * 11)),
            "multicut, distance_transform_watershed, learned, kernighan_lin",
        ),
        (
            Agglomeration(fragments=SeededWatershed(seeds=GridSeeds(spacing=4)), score=QuantileScore(start="all")),
            "agglomeration, seeded_watershed, seeds grid, spacing 4, quantile, start all",
        ),
    ],
)
def test_methods_are_named_by_what_is_not_their_default(method, name):
    assert method_name(method) == name


@pytest.mark.parametrize("end", [0, 1])
def test_beyond_0_and_1_there_is_nothing_to_compare(end):
    compared = [Agglomeration(threshold=each) for each in (0, 0.5, 1)]
    assert untried_side(Agglomeration(threshold=end), compared) is None


@pytest.mark.parametrize(("value", "wanted"), [(0.1, "lower"), (0.5, None), (0.9, "higher")])
def test_a_best_threshold_is_told_to_be_the_last_of_those_compared(value, wanted):
    compared = [Agglomeration(threshold=each) for each in (0.1, 0.5, 0.9)]
    others = [Multicut(beta=0.01), Multicut(beta=0.99)]
    assert untried_side(Agglomeration(threshold=value), [*compared, *others]) == wanted
    assert untried_side(Agglomeration(threshold=value), [Agglomeration(threshold=value), *others]) is None


def test_affinities_that_cannot_be_segmented_are_named(path):
    experiment = toy(path)
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    stored = open_volume(folder.affinities("a-test"))
    broken = np.full(stored.read().shape, np.nan, np.float32)
    write_volume(folder.affinities("a-test"), broken, origin=stored.origin, attributes={})
    with pytest.raises(UserError, match=r"a-test.affinities\.zarr: affinities: wanted .* got NaN"):
        segment_experiment(experiment)


def test_unknown_voxels_do_not_judge(tmp_path):
    labels = LABELS.copy()
    labels[4:8, :24] = 99  # one wrong neuron over many, declared unknown
    path = make_toy(tmp_path, labels=labels)
    folder = write_affinities(toy(path))
    segment_experiment(toy(path))
    wrong = json.loads(folder.choice.read_text())["validation"]
    segment_experiment(toy(path, volumes__a__ignored=99))
    right = json.loads(folder.choice.read_text())["validation"]
    assert min(row["voi_sum"] for row in wrong.values()) > 0.1
    assert np.isclose(min(row["voi_sum"] for row in right.values()), 0)
