import csv
import json

import numpy as np
import pytest
from PIL import Image
from toy_experiment import LABELS, change_voxel, make_toy, touch, toy, write_affinities

from ssns.commands.evaluate import evaluate_experiment
from ssns.commands.inputs import open_sources, parts
from ssns.commands.judging import judge
from ssns.commands.objects import ObjectRow, worst_first
from ssns.commands.run_folder import RunFolder
from ssns.commands.segment import segment_experiment
from ssns.errors import UserError
from ssns.metrics import components, score
from ssns.volume import open_volume, write_volume


@pytest.fixture
def path(tmp_path):
    return make_toy(tmp_path)


def segmented(experiment):
    folder = write_affinities(experiment)
    segment_experiment(experiment)
    return folder


def test_validation_and_test_are_scored_and_the_oracle_is_named(path):
    experiment = toy(path)
    folder = segmented(experiment)
    rows = evaluate_experiment(experiment)
    assert json.loads(folder.scores.read_text())["rows"] == rows
    chosen = json.loads(folder.choice.read_text())["value"]
    assert list(rows)[:2] == [f"a-validation, threshold {chosen:g}", f"a-test, threshold {chosen:g}"]
    oracle = next(row for name, row in rows.items() if name.startswith("a-test, oracle threshold"))
    row = rows[f"a-test, threshold {chosen:g}"]
    assert oracle["voi_sum"] <= row["voi_sum"]
    truth = components(LABELS[8:40], background=0)
    expected = score(open_volume(folder.segmentation("a-test")).read(), truth)
    run_length = {"erl_nm": pytest.approx(32 * 30, rel=0.1), "nerl": 1}
    assert row == expected.to_dict() | {"cremi": 0, **run_length, "threshold": chosen}


def test_another_voxel_size_makes_other_scores(path):
    segmented(toy(path))
    before = evaluate_experiment(toy(path))
    taller = toy(path, volumes__a__voxel_size_nm=[60, 6, 6])
    with pytest.raises(UserError, match="a change of voxel_size_nm: run `ssns segment` first"):
        evaluate_experiment(taller)
    segment_experiment(taller)
    after = evaluate_experiment(taller)
    lengths = [next(row["erl_nm"] for name, row in rows.items() if "a-test, th" in name) for rows in (before, after)]
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.05)
    assert open_volume(RunFolder.of(taller).segmentation("a-test")).voxel_size_nm == (60, 6, 6)


def test_after_a_sweep_of_methods_the_chosen_one_is_scored_and_the_page_shows_all(path):
    folder = segmented(toy(path, segmentation__sweep=True, segmentation__candidates=[{"type": "multicut"}]))
    content = json.loads(folder.choice.read_text())  # perfect affinities are the same to both methods
    content |= {"method": content["others"][0]["method"] | {"beta": 0.3}, "value": 0.3}
    folder.choice.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"agglomeration.* has not been chosen"):
        evaluate_experiment(toy(path, segmentation__candidates=[{"type": "multicut", "cleaning": {"minimum_size": 3}}]))
    experiment = toy(path, segmentation__candidates=[{"type": "multicut"}])  # the sweep was asked for beside it
    with pytest.raises(UserError, match="a-validation was made before a change of method"):
        evaluate_experiment(experiment)
    segment_experiment(toy(path, segmentation__sweep=True, segmentation__candidates=[{"type": "multicut"}]))
    evaluate_experiment(experiment)
    page = folder.report.read_text()
    assert "Methods on the validation regions" in page
    assert page.count("<td>multicut, distance_transform_watershed, mean, kernighan_lin</td>") == 1


def write_segmentation(folder, part, segmentation) -> None:
    """In place of what `segment` has written."""
    before = open_volume(folder.segmentation(part))
    write_volume(folder.segmentation(part), segmentation.astype(before.dtype), origin=before.origin)


def with_errors(folder) -> np.ndarray:
    """Neurons 2 and 3 of the test part merged, and neuron 6 cut in its 24th section; sections of the volume."""
    wrong = LABELS[8:40].copy()
    wrong[wrong == 3] = 2
    wrong[16:][wrong[16:] == 6] = 60
    write_segmentation(folder, "a-test", wrong)
    return wrong


def test_the_table_of_objects_names_the_worst_and_adds_up_to_the_scores(path, capsys):
    experiment = toy(path)
    folder = segmented(experiment)
    with_errors(folder)
    rows = evaluate_experiment(experiment)
    row = next(row for name, row in rows.items() if name.startswith("a-test, threshold"))
    with folder.objects.open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["part"] == "a-test"]
    for kind in ("neuron", "segment"):
        found = [line for line in lines if line["kind"] == kind]
        assert [float(line["voi_sum"]) for line in found] == sorted(float(line["voi_sum"]) for line in found)[::-1]
        for name in ("voi_split", "voi_merge", "voi_sum"):
            assert sum(float(line[name]) for line in found) == pytest.approx(row[name], rel=1e-4)
    first, second, third, fourth = lines[:4]
    assert {first["id"], second["id"], third["id"]} == {"2", "3", "6"}
    by_id = {line["id"]: line for line in lines[:3]}
    assert (by_id["2"]["merged_with"], by_id["3"]["merged_with"], by_id["6"]["merged_with"]) == ("3", "2", "")
    assert (by_id["2"]["pieces"], by_id["6"]["pieces"]) == ("1", "2")
    assert float(fourth["voi_sum"]) == 0
    for line in lines[:12]:
        assert LABELS[int(line["z"]), int(line["y"]), int(line["x"])] == int(line["id"])
    told = capsys.readouterr().out
    assert "a-test: neuron 6 costs" in told
    assert "cut into 2 segments; see z" in told
    assert "The worst neurons" in folder.report.read_text()


def test_many_blocks_judge_as_one(path, monkeypatch):
    experiment = toy(path, volumes__a__ignored=7)
    folder = segmented(experiment)
    with_errors(folder)
    part = next(part for part in parts(experiment, open_sources(experiment)) if part.name == "a-test")
    segmentation = open_volume(folder.segmentation("a-test"))
    one = judge(part, segmentation, "skimage", [0, 20])
    monkeypatch.setattr("ssns.commands.judging.BLOCK", (7, 20, 19))
    many = judge(part, segmentation, "skimage", [0, 20])
    assert many.scores == one.scores
    assert 0 < one.scores["nerl"] < 1
    places = {"z": 0, "y": 0, "x": 0}
    assert [row._replace(**places) for row in worst_first(many.objects)] == [
        row._replace(**places) for row in worst_first(one.objects)
    ]
    for found in (one, many):
        assert np.array_equal(found.sections[1] > 0, (LABELS[28] > 0) & (LABELS[28] != 7))


def swc(path, neurons: dict[str, list[tuple[int, int, int]]]) -> None:
    """Lines through voxels (z, y, x), in nm."""
    path.mkdir()
    for name, voxels in neurons.items():
        lines = [f"{i + 1} 0 {x * 6} {y * 6} {z * 30} 1 {i or -1}" for i, (z, y, x) in enumerate(voxels)]
        (path / f"{name}.swc").write_text("\n".join(lines))


def test_skeletons_are_enough(path):
    """Without labels: one neurite is followed through, one is cut in the middle of its 30 edges of the test part."""
    swc(path.with_name("traced"), {"right": [(z, 6, 8) for z in range(40)], "cut": [(z, 18, 40) for z in range(8, 40)]})
    changes = {"volumes__a__labels": "none", "volumes__a__labelled": [], "volumes__a__validation": []}
    experiment = toy(path, volumes__a__skeletons="traced", **changes)
    folder = segmented(experiment)
    with_errors(folder)
    assert LABELS[8, 18, 40] == 6
    (row,) = evaluate_experiment(experiment).values()
    assert row == {
        "erl_nm": pytest.approx(30 * (31**2 + 15**2 + 15**2) / 62),
        "nerl": pytest.approx((31**2 + 15**2 + 15**2) / (2 * 31**2)),
        "threshold": 0.6,
    }
    assert (folder.path / "a-test" / "segments.png").exists()
    assert folder.objects.read_text().splitlines() == [",".join(ObjectRow._fields)]


def test_traced_skeletons_come_before_those_of_labels(path, capsys):
    swc(path.with_name("traced"), {"a": [(20, 6, 8), (24, 6, 8)]})
    experiment = toy(path, volumes__a__skeletons="traced")
    segmented(experiment)
    rows = evaluate_experiment(experiment)
    assert [row.get("erl_nm") for row in rows.values()] == [None, 120, None]
    assert "a-validation: no edge of" in capsys.readouterr().out
    (path.with_name("traced") / "a.swc").write_text("1 0 48 36 600 1 -1\n2 0 48 36 900 1 1\n")
    rows = evaluate_experiment(experiment)
    assert [row.get("erl_nm") for row in rows.values()] == [None, 300, None]
    assert "because of the data of parts.a-test.skeletons.a.swc" in capsys.readouterr().out


def test_without_a_voxel_size_there_are_fewer_scores(path):
    experiment = toy(path, volumes__a__voxel_size_nm="none")
    segmented(experiment)
    row = next(iter(evaluate_experiment(experiment).values()))
    assert "ap" in row
    assert not {"cremi", "nerl"} & row.keys()


def test_the_report_shows_scores_pictures_and_curves(path):
    experiment = toy(path)
    folder = segmented(experiment)
    folder.training.mkdir()
    history = [
        {"step": 2, "loss/labelled": 0.5, "lr": 0.1},
        {"step": 2, "validation/voi_sum": 1.5, "validation/arand": 0.2},
        {"step": 4, "loss/labelled": 0.4, "lr": 0.1},
    ]
    folder.history.write_text(json.dumps(history))
    baseline = score(LABELS, np.ones_like(LABELS)).to_dict()
    evaluate_experiment(experiment, more={"baseline": baseline})
    report = folder.report.read_text()
    assert report.count("data:image/png") == 5
    assert "baseline" in report
    assert "training in train" in report


def test_a_second_run_skips_and_tells_the_same(path, capsys):
    experiment = toy(path)
    folder = segmented(experiment)
    rows = evaluate_experiment(experiment)
    table = capsys.readouterr().out.splitlines()[-4:-1]
    written = folder.report.stat().st_mtime_ns
    assert evaluate_experiment(experiment) == rows
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("evaluate: skipped")
    assert told[-3:] == table
    assert folder.report.stat().st_mtime_ns == written


@pytest.mark.parametrize("change", [{"scoring": "singletons"}, {"segmentation__thresholds": [0.3, 0.5, 0.6]}])
def test_a_change_of_settings_scores_again(path, change, capsys):
    segmented(toy(path))
    evaluate_experiment(toy(path))
    segment_experiment(toy(path, **change))
    capsys.readouterr()
    evaluate_experiment(toy(path, **change))
    assert "evaluate: again, because of" in capsys.readouterr().out


def test_what_another_version_wrote_is_scored_again(path, capsys, monkeypatch):
    segmented(toy(path))
    evaluate_experiment(toy(path))
    monkeypatch.setattr("ssns.commands.evaluate.FORMAT", 0)
    evaluate_experiment(toy(path))
    assert "evaluate: again, because of format" in capsys.readouterr().out


def test_other_labels_score_again_and_copied_ones_do_not(path, capsys):
    segmented(toy(path))
    evaluate_experiment(toy(path))
    touch(path.with_name("labels.tif"))
    evaluate_experiment(toy(path))
    assert "evaluate: skipped" in capsys.readouterr().out
    change_voxel(path.with_name("labels.tif"))
    evaluate_experiment(toy(path))
    told = "because of the data of parts.a-test.labels, the data of parts.a-validation.labels"
    assert told in capsys.readouterr().out


def test_a_target_is_shown_and_not_scored(path):
    experiment = toy(path, volumes__a__test=[], volumes__a__target="8:12")
    folder = segmented(experiment)
    assert [name.partition(",")[0] for name in evaluate_experiment(experiment)] == ["a-validation"]
    assert np.asarray(Image.open(folder.path / "a-target" / "segments.png")).shape == (48, 96, 3)


def test_nothing_to_score_is_said(path, capsys):
    experiment = toy(path, volumes__a__test=[], volumes__a__validation=[])
    segmented(experiment)
    assert evaluate_experiment(experiment) == {}
    assert "nothing is scored: set volumes.NAME.test" in capsys.readouterr().out


def test_a_test_without_labels_is_shown_and_said(path, capsys):
    experiment = toy(path, volumes__a__labels="none", volumes__a__labelled=[], volumes__a__validation=[])
    segmented(experiment)
    assert evaluate_experiment(experiment) == {}
    assert "a-test: volumes.a has no labels, so it is not scored" in capsys.readouterr().out


def test_a_part_without_neurons_is_left_out(tmp_path, capsys):
    labels = LABELS.copy()
    labels[4:8] = 0
    experiment = toy(make_toy(tmp_path, labels=labels))
    segmented(experiment)
    assert not any(name.startswith("a-validation") for name in evaluate_experiment(experiment))
    assert "a-validation: no voxel there is of a neuron" in capsys.readouterr().out


class TestErrors:
    def test_nothing_segmented_where_segment_0_does_not_count(self, path):
        experiment = toy(path, scoring="excluded")
        folder = segmented(experiment)
        write_segmentation(folder, "a-test", np.zeros_like(LABELS[8:40]))
        with pytest.raises(UserError, match="the segmentation is 0 wherever there are labels"):
            evaluate_experiment(experiment)

    def test_skeletons_that_are_not_there(self, path):
        with pytest.raises(UserError, match=r"skeletons: wanted an SWC file or a folder of them, got .*traced"):
            evaluate_experiment(toy(path, volumes__a__skeletons="traced"))

    def test_skeletons_without_a_voxel_size(self, path):
        swc(path.with_name("traced"), {"a": [(20, 6, 8)]})
        with pytest.raises(UserError, match=r"volumes\.a\.skeletons: wanted the size of voxels beside them"):
            evaluate_experiment(toy(path, volumes__a__skeletons="traced", volumes__a__voxel_size_nm="none"))

    def test_no_segmentation_names_the_verb(self, path):
        write_affinities(toy(path))
        with pytest.raises(UserError, match=r"none of a-validation in .*run `ssns segment` first"):
            evaluate_experiment(toy(path))

    def test_a_segmentation_by_another_method(self, path):
        segmented(toy(path))
        with pytest.raises(UserError, match=r"multicut, .* has not been chosen in .*run `ssns segment` first"):
            evaluate_experiment(toy(path, segmentation__method={"type": "multicut"}))

    def test_a_segmentation_with_other_settings(self, path):
        segmented(toy(path, segmentation__method={"type": "agglomeration"}))
        with pytest.raises(UserError, match=r"minimum_size 7 has not been chosen in .*run `ssns segment` first"):
            evaluate_experiment(
                toy(path, segmentation__method={"type": "agglomeration", "cleaning": {"minimum_size": 7}})
            )

    def test_a_segmentation_of_other_affinities(self, path):
        folder = segmented(toy(path))
        affinities = open_volume(folder.affinities("a-test"))
        other = np.zeros_like(affinities.read())
        write_volume(folder.affinities("a-test"), other, origin=affinities.origin)
        with pytest.raises(UserError, match="a-test was made before a change of affinities: run `ssns segment` first"):
            evaluate_experiment(toy(path))

    def test_an_unfinished_segmentation(self, path):
        folder = segmented(toy(path))
        (folder.path / "a-test" / "segmentation.stamp.json").unlink()
        with pytest.raises(UserError, match="a-test is unfinished: run `ssns segment` first"):
            evaluate_experiment(toy(path))
