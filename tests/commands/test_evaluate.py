import json

import imageio.v3
import numpy as np
import pytest
from toy_experiment import LABELS, make_toy, touch, toy, write_affinities

from ssns.commands.evaluate import evaluate_experiment
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
    assert row == expected.to_dict() | {"threshold": chosen}


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


def test_touched_labels_score_again(path, capsys):
    segmented(toy(path))
    evaluate_experiment(toy(path))
    touch(path.with_name("labels.tif"))
    evaluate_experiment(toy(path))
    assert "because of parts.a-test.labels, parts.a-validation.labels" in capsys.readouterr().out


def test_a_target_is_shown_and_not_scored(path):
    experiment = toy(path, volumes__a__test=[], volumes__a__target="8:12")
    folder = segmented(experiment)
    assert [name.partition(",")[0] for name in evaluate_experiment(experiment)] == ["a-validation"]
    assert imageio.v3.imread(folder.path / "a-target" / "segments.png").shape == (48, 96, 3)


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
        test = open_volume(folder.segmentation("a-test"))
        write_volume(folder.segmentation("a-test"), np.zeros_like(test.read()), origin=test.origin)
        with pytest.raises(UserError, match="the segmentation is 0 wherever there are labels"):
            evaluate_experiment(experiment)

    def test_no_segmentation_names_the_verb(self, path):
        write_affinities(toy(path))
        with pytest.raises(UserError, match=r"none of a-validation in .*run `ssns segment` first"):
            evaluate_experiment(toy(path))

    def test_a_segmentation_by_another_method(self, path):
        segmented(toy(path))
        with pytest.raises(UserError, match=r"no beta has been chosen in .*run `ssns segment` first"):
            evaluate_experiment(toy(path, segmentation__method={"type": "multicut"}))

    def test_a_segmentation_with_other_settings(self, path):
        segmented(toy(path, segmentation__method={"type": "waterz"}))
        with pytest.raises(UserError, match=r"before a change of method\.minimum_size: run `ssns segment` first"):
            evaluate_experiment(toy(path, segmentation__method={"type": "waterz", "minimum_size": 7}))

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
