import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_experiment import LABELS, make_toy, toy

from ssns.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssns.commands.inputs import open_sources
from ssns.commands.run import run_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.taught import BOX, taught_parts, taught_volumes, teachers_experiment
from ssns.commands.teach import _tell, teach_experiment
from ssns.commands.train import train_experiment, untrained_offsets
from ssns.errors import UserError
from ssns.segmentation import DEFAULT_METHOD
from ssns.segmentation.pseudo_labels import pseudo_labels
from ssns.space import Box
from ssns.volume import open_volume
from ssns.volume.normalization import IntensityRange

TAUGHT = {
    "volumes__a__unlabelled": "8:24",
    "volumes__a__test": "24:40",
    "objective": {"type": "pseudo_labels", "teacher_steps": 30},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The file of an experiment whose pseudo-labels are made."""
    path = make_toy(tmp_path_factory.mktemp("taught"))
    teach_experiment(toy(path, **TAUGHT))
    return path


def test_what_is_taught_is_told(taught, capsys):
    affinities = np.full((3, 4, 48, 48), 255, np.uint8)
    affinities[2, :, :, 24] = 0
    found, picture = pseudo_labels(affinities, DEFAULT_METHOD), Path("p.png")
    part = SimpleNamespace(name="a-target")
    _tell(part, found, picture)
    assert capsys.readouterr().out == (
        "teach a-target: 2 cautious segments in 2 bold ones, 100% of the voxels; p.png shows them\n"
    )
    merged = np.full((3, 4, 48, 48), 255, np.uint8)
    _tell(part, pseudo_labels(merged, DEFAULT_METHOD), picture)
    assert "warning: a-target: one cautious segment holds 100% of the voxels, so neurons" in capsys.readouterr().out
    _tell(part, pseudo_labels(np.zeros((3, 4, 48, 48), np.uint8), DEFAULT_METHOD), picture)
    told = " ".join(capsys.readouterr().out.split())
    assert "teach a-target: 0 cautious segments in 0 bold ones, 0% of the voxels; p.png shows them" in told
    assert "warning: a-target: 100% of the voxels are in no segment, and would teach that all is background" in told


def test_unlabelled_regions_are_segmented(taught):
    folder = RunFolder.of(toy(taught))
    ids, bold = open_volume(folder.pseudo_labels("a-target")), np.load(folder.certainty)["bold"]
    assert (ids.shape, ids.origin) == ((16, *LABELS.shape[1:]), (8, 0, 0))
    voxels = ids.read()
    assert voxels.max() == len(bold) - 1
    assert 1 < bold.max() <= voxels.max()


def test_it_is_skipped_until_something_it_depends_on_changes(taught, capsys):
    teach_experiment(toy(taught, **TAUGHT, volumes__a__background=0, training__steps=9))
    assert "teach: skipped" in capsys.readouterr().out
    teach_experiment(toy(taught, **TAUGHT | {"objective": TAUGHT["objective"] | {"margin": 0.2}}))
    told = capsys.readouterr().out
    assert "teach: again, because of objective.margin" in told
    assert "train: skipped" in told
    teach_experiment(toy(taught, **TAUGHT))


def test_a_teaching_that_was_left_for_another_is_taken_up_again(taught, tmp_path, monkeypatch, capsys):
    path = make_toy(tmp_path)
    teach_experiment(toy(path, **TAUGHT))

    def gone(*_, **__):
        raise UserError("gone")

    with monkeypatch.context() as patched:
        patched.setattr("ssns.commands.teach.predict_experiment", gone)
        with pytest.raises(UserError, match="gone"):
            teach_experiment(toy(path, **TAUGHT | {"objective": TAUGHT["objective"] | {"teacher_steps": 2}}))
    with pytest.raises(UserError, match=r"which are not done: run `ssns teach` first"):
        train_experiment(toy(path, **TAUGHT))
    teach_experiment(toy(path, **TAUGHT))
    assert load_checkpoint(RunFolder.of(toy(path)).best_teacher.with_name("last.pt")).step == 30


def test_what_a_student_takes_over_is_no_concern_of_its_teacher(taught, capsys):
    teach_experiment(toy(taught, **TAUGHT, transfer__parts="all"))
    assert "teach: skipped" in capsys.readouterr().out


def test_another_start_or_way_of_scoring_makes_others(taught, tmp_path):
    start = tmp_path / "start.pt"
    start.write_bytes((RunFolder.of(toy(taught)).teaching / "train" / "best.pt").read_bytes())
    for changes, told in [
        ({"scoring": "excluded"}, "scoring"),
        ({"transfer__checkpoint": str(start)}, "transfer.checkpoint, start"),
    ]:
        with pytest.raises(UserError, match=rf"objective: {told} changed since pseudo-labels"):
            train_experiment(toy(taught, **TAUGHT, **changes))


@pytest.mark.parametrize("sections", ["0:1", [{"z": [0, 1]}, {"z": [3, 4]}]])
def test_isolated_sections_teach_nothing_along_z(tmp_path, capsys, sections):
    experiment = toy(make_toy(tmp_path), **TAUGHT | {"volumes__a__labelled": sections})
    sources = open_sources(experiment)
    assert untrained_offsets(experiment, sources) == ((-1, 0, 0),)
    teach_experiment(experiment)
    assert "nor tell which segments of two sections are one neuron" in " ".join(capsys.readouterr().out.split())
    ids = open_volume(RunFolder.of(experiment).pseudo_labels("a-target")).read()
    in_sections = [set(np.unique(section)) - {0} for section in ids]
    assert len(set().union(*in_sections)) == sum(map(len, in_sections)) > 0  # no segment is in two
    train_experiment(experiment)


@pytest.mark.parametrize(
    ("known", "untrained"),
    [({}, ()), ({"untrained": ((-1, 0, 0),)}, ((-1, 0, 0),)), ({"offsets": ((0, 0, 0),)}, ((-1, 0, 0),))],
)
def test_weights_that_know_a_channel_teach_it(tmp_path, known, untrained):
    changes = {"volumes__a__labelled": "0:1", "transfer": {"checkpoint": str(tmp_path / "a.pt"), "parts": "all"}}
    experiment = toy(make_toy(tmp_path), **TAUGHT | changes)
    start = Checkpoint(experiment.network, {}, experiment.offsets, experiment.normalization, {})
    save_checkpoint(tmp_path / "a.pt", replace(start, **known))
    assert untrained_offsets(experiment, open_sources(experiment)) == untrained


def test_training_learns_from_them(taught, capsys):
    run_experiment(toy(taught, **TAUGHT))
    assert "teach: skipped" in capsys.readouterr().out
    train_experiment(toy(taught, **TAUGHT))
    assert "train: skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, r"objective: wanted pseudo-labels in .*teach, which are not done: run `ssns teach` first"),
        ({"volumes__a__unlabelled": ()}, "as objective.type is pseudo_labels, got none: set volumes.NAME.unlabelled"),
    ],
)
def test_training_without_them_is_refused(tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        train_experiment(toy(make_toy(tmp_path), **TAUGHT | changes))


def test_training_with_those_of_other_settings_is_refused(taught):
    with pytest.raises(UserError, match=r"objective: seed changed since pseudo-labels in .*teach: run"):
        train_experiment(toy(taught, **TAUGHT, seed=3))


def test_another_objective_needs_none(tmp_path):
    with pytest.raises(UserError, match=r"objective.type: wanted pseudo_labels, got supervised"):
        teach_experiment(toy(make_toy(tmp_path)))


def test_of_large_regions_boxes_are_taken(tmp_path):
    shape = (65, 600, 600)
    path = make_toy(tmp_path, np.zeros(shape, np.uint8), np.ones(shape, np.uint16))
    for voxels, count in [(1e9, 1), (shape[0] * 600 * 600 / 2, 6), (10, 1)]:
        changes = {"volumes__a__unlabelled": "0:65", "volumes__a__validation": (), "volumes__a__labelled": "0:4"}
        objective = TAUGHT["objective"] | {"voxels": voxels}
        experiment = toy(path, **TAUGHT | changes | {"volumes__a__test": (), "objective": objective})
        sources = open_sources(experiment)
        boxes = [part.box for part in taught_parts(teachers_experiment(experiment, sources), sources)]
        assert len(boxes) == count
        assert all(not first.overlaps(second) for first in boxes for second in boxes if first is not second)
        if count > 1:
            assert all(extent <= largest for box in boxes for extent, largest in zip(box.shape, BOX, strict=True))
            assert min(box.shape[0] for box in boxes) > 20  # none is a thin rest


def test_boxes_are_drawn_where_labels_are_not(tmp_path):
    shape = (64, 600, 600)
    path = make_toy(tmp_path, np.zeros(shape, np.uint8), np.ones(shape, np.uint16))
    changes = {"volumes__a__unlabelled": "0:64", "volumes__a__validation": (), "volumes__a__test": ()}
    objective = TAUGHT["objective"] | {"voxels": 1e6}
    for seed in range(8):
        experiment = toy(path, **TAUGHT | changes | {"objective": objective}, volumes__a__labelled="0:40", seed=seed)
        sources = open_sources(experiment)
        (part,) = taught_parts(teachers_experiment(experiment, sources), sources)
        assert part.box.stop[0] == 64


def test_where_there_are_labels_they_are_learned_in_the_place_of_pseudo_labels(taught):
    experiment = toy(taught, **TAUGHT | {"volumes__a__labelled": "8:12"})
    sources = open_sources(experiment)
    volumes, *_ = taught_volumes(experiment, sources, {"a": IntensityRange(0, 255)})
    assert [str(box) for volume in volumes for box in volume.boxes] == ["z 12..24, y 0..48, x 0..48"]


def test_what_is_held_out_is_not_taught(taught):
    quarter, rest = {"z": [8, 24], "y": [0, 24]}, {"z": [8, 10], "y": [24, 48]}
    experiment = toy(taught, **TAUGHT | {"volumes__a__validation": quarter, "volumes__a__labelled": rest})
    sources = open_sources(experiment)
    volumes, *_ = taught_volumes(experiment, sources, {"a": IntensityRange(0, 255)})
    assert [str(box) for volume in volumes for box in volume.boxes] == ["z 10..24, y 24..48, x 0..48"]


def test_another_entry_of_the_same_raw_may_have_the_labels_and_what_is_held_out(taught):
    raw, labels = (str(taught.parent / name) for name in ("raw.tif", "labels.tif"))
    other = {"raw": raw, "labels": labels, "labelled": "8:10", "validation": "10:12"}
    experiment = toy(taught, **TAUGHT, volumes__a__validation=(), volumes__b=other)
    ranges = dict.fromkeys("ab", IntensityRange(0, 255))
    volumes, *_ = taught_volumes(experiment, open_sources(experiment), ranges)
    assert [str(box) for volume in volumes for box in volume.boxes] == ["z 12..24, y 0..48, x 0..48"]


def test_where_labels_may_be_unknown_pseudo_labels_are_learned_too(taught):
    experiment = toy(taught, **TAUGHT | {"volumes__a__labelled": "8:12", "volumes__a__ignored": int(LABELS.max())})
    (volume,), *_ = taught_volumes(experiment, open_sources(experiment), {"a": IntensityRange(0, 255)})
    assert [str(box) for box in volume.boxes] == ["z 8..24, y 0..48, x 0..48"]
    _, valid = volume.read_labels(Box((6, 0, 0), (14, 48, 48)))
    assert not valid[:2].any()
    np.testing.assert_array_equal(valid[2:6], LABELS[8:12] == LABELS.max())
    assert valid[6:].all()


def test_pseudo_labels_that_were_removed_are_made_again(tmp_path):
    path = make_toy(tmp_path)
    experiment = toy(path, **TAUGHT)
    teach_experiment(experiment)
    pseudo_labels = RunFolder.of(experiment).pseudo_labels("a-target")
    before = open_volume(pseudo_labels).read()
    shutil.rmtree(pseudo_labels)
    with pytest.raises(UserError, match=r"objective: wanted pseudo-labels in .*teach, which are not done: run `ssns"):
        train_experiment(experiment)
    teach_experiment(experiment)
    np.testing.assert_array_equal(open_volume(pseudo_labels).read(), before)


def test_unlabelled_regions_that_are_all_labelled_are_refused(taught):
    with pytest.raises(UserError, match="wanted unlabelled regions that reach beyond the labelled ones, got none"):
        teach_experiment(toy(taught, **TAUGHT | {"volumes__a__labelled": "8:24"}))


def test_what_could_not_learn_is_refused_before_the_first_network_does(tmp_path):
    frozen = {"transfer__parts": "all", "transfer__learning_rate": 0}
    with pytest.raises(UserError, match="nothing of the first network would learn"):
        teach_experiment(toy(make_toy(tmp_path), **TAUGHT, **frozen))


@pytest.mark.parametrize(("start", "near"), [("teacher", True), ("anew", False)])
def test_what_learns_begins_with_the_weights_of_the_first_network_or_anew(taught, start, near):
    objective = TAUGHT["objective"] | {"start": start}
    changes = {"objective": objective, "training__steps": 1, "transfer__parts": "all"}
    experiment = toy(taught, **TAUGHT | changes)
    run_experiment(experiment)
    folder = RunFolder.of(experiment)
    last, first = map(load_checkpoint, (folder.best, folder.best_teacher))
    pairs = [(last.weights[name], tensor) for name, tensor in first.weights.items() if tensor.dim() > 1]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in pairs) == near


def test_the_report_shows_pseudo_labels(taught):
    experiment = toy(taught, **TAUGHT)
    run_experiment(experiment)
    folder = RunFolder.of(experiment)
    assert folder.pseudo_labels_picture("a-target").is_file()
    assert "a-target, pseudo-labels: raw, cautious and bold segments" in folder.report.read_text()
