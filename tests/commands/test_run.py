import os
import re
import shutil

import numpy as np
import pytest
from toy_experiment import LABELS, change_voxel, make_toy, touch, toy

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.commands.run import run_experiment
from ssns.commands.run_folder import RunFolder
from ssns.errors import UserError
from ssns.metrics import score
from ssns.volume import open_volume, write_volume

STAGES = ("train", "predict", "sweep", "segment", "evaluate")


def stages_done(told):
    """Which stages did not say that they were skipped."""
    skipped = set(re.findall(r"^(train|predict|segment|evaluate).*: skipped", told, re.M))
    sweep = {"sweep"} if "the sweep: skipped" in told else set()
    return [stage for stage in STAGES if stage not in skipped | sweep]


def test_everything_is_there(finished_run):
    folder = RunFolder(finished_run / "runs" / "toy")
    for path in (folder.best, folder.history, folder.choice, folder.scores, folder.report):
        assert path.is_file()
    assert {part.name for part in folder.path.glob("a-*")} == {"a-validation", "a-test"}


def test_a_finished_run_is_skipped_without_torch_and_without_reading_data(finished, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setattr("ssns.volume.opening._hash", lambda volume: pytest.fail(f"{volume.path} is read"))
    run_experiment(toy(finished))
    assert stages_done(capsys.readouterr().out) == []


def test_a_device_that_is_not_there_is_told_before_training(tmp_path):
    path = make_toy(tmp_path)
    with pytest.raises(UserError, match=r"prediction.device: wanted a device of this machine, got 'cuda:77'"):
        run_experiment(toy(path, prediction__device="cuda:77"))
    assert not RunFolder.of(toy(path)).training.exists()


def test_a_finished_run_of_another_machine_is_read_without_its_device(finished, capsys):
    run_experiment(toy(finished, prediction__device="cuda:77"))
    assert stages_done(capsys.readouterr().out) == []


def test_a_copied_run_folder_is_as_valid_as_the_first_whatever_the_times_of_its_files(finished, capsys):
    runs = finished.with_name("runs")
    shutil.copytree(runs / "toy", runs / "copy", copy_function=shutil.copyfile)
    assert RunFolder(runs / "copy").best.stat().st_mtime_ns != RunFolder(runs / "toy").best.stat().st_mtime_ns
    run_experiment(toy(finished, name="copy"))
    assert stages_done(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("removed", "expected"),
    [
        ("a-test/affinities", ["predict", "segment", "evaluate"]),
        ("a-validation/affinities", ["predict", "sweep", "segment", "evaluate"]),
        ("a-test/segmentation", ["segment", "evaluate"]),
    ],
)
def test_what_is_made_again_is_followed_by_what_is_made_of_it(finished, capsys, removed, expected):
    shutil.rmtree(RunFolder.of(toy(finished)).path / f"{removed}.zarr")
    run_experiment(toy(finished))
    part, told = removed.partition("/")[0], capsys.readouterr().out
    names = {"train": "train", "sweep": "segment: the sweep", "evaluate": "evaluate"}
    skipped = [stage for stage in STAGES if f"{names.get(stage, f'{stage} {part}')}: skipped" in told]
    assert skipped == [stage for stage in STAGES if stage not in expected]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"training__log_every": 1, "training__validation_share": 0.5}, []),
        ({"prediction__batch": 1}, []),
        ({"scoring": "singletons"}, ["sweep", "evaluate"]),
        ({"segmentation__method": {"cleaning": {"minimum_size": 5}}}, ["sweep", "segment", "evaluate"]),
        ({"prediction__halo": [2, 16, 16]}, ["predict", "sweep", "segment", "evaluate"]),
        ({"training__optimizer": {"lr": 0.01}}, list(STAGES)),
        ({"volumes__a__labelled": "0:3"}, list(STAGES)),
    ],
)
def test_a_change_of_settings_redoes_what_follows_from_it(finished, capsys, change, expected):
    run_experiment(toy(finished, **change))
    assert stages_done(capsys.readouterr().out) == expected


@pytest.mark.parametrize("verify", [False, True])
def test_of_copied_inputs_the_data_count(finished, capsys, verify):
    for name in ("raw.tif", "labels.tif"):
        touch(finished.with_name(name))
    run_experiment(toy(finished), verify=verify)
    assert stages_done(capsys.readouterr().out) == []
    change_voxel(finished.with_name("raw.tif"))
    run_experiment(toy(finished), verify=verify)
    assert stages_done(capsys.readouterr().out) == ["train", "predict", "sweep", "segment", "evaluate"]


def test_of_inputs_too_large_to_be_hashed_the_time_counts(finished, capsys, monkeypatch):
    monkeypatch.setattr("ssns.commands.stamps.HASHED_BYTES", 1000)
    run_experiment(toy(finished, seed=2))
    capsys.readouterr()
    touch(finished.with_name("raw.tif"))
    run_experiment(toy(finished, seed=2))
    assert stages_done(capsys.readouterr().out) == ["train", "predict", "sweep", "segment", "evaluate"]


@pytest.mark.parametrize("name", ["raw", "labels"])
def test_one_other_voxel_is_seen_where_data_are_compared(finished, capsys, name):
    path = finished.with_name(f"{name}.tif")
    before = path.stat()
    change_voxel(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    run_experiment(toy(finished))
    assert stages_done(capsys.readouterr().out) == []
    run_experiment(toy(finished), verify=True)
    assert stages_done(capsys.readouterr().out) == list(STAGES)


def test_weights_given_are_not_trained(finished, tmp_path, capsys):
    checkpoint = RunFolder.of(toy(finished)).best
    other = tmp_path / "other"
    other.mkdir()
    experiment = toy(make_toy(other), volumes__a__labelled=[])
    run_experiment(experiment, checkpoint=checkpoint)
    assert RunFolder.of(experiment).report.is_file()
    assert not RunFolder.of(experiment).training.exists()


def test_what_cannot_be_segmented_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("ssns.commands.memory.BYTES_PER_VOXEL", 10**9)
    experiment = toy(make_toy(tmp_path))
    with pytest.raises(UserError, match=r"a-validation: segmenting .* needs about"):
        run_experiment(experiment)
    assert not RunFolder.of(experiment).path.exists()


class TestMala:
    """Its patches and tiles are larger than what it predicts of them, and of sizes of its own."""

    LOOP = {
        "steps": 2, "patch": [17, 34, 34], "batch": 1, "precision": "fp32", "device": "cpu", "threads": 1,
        "validate_every": 2,
    }  # fmt: skip

    def experiment(self, folder, **changes):
        settings = {
            "network": {"type": "mala", "features": 2, "growth": 2, "depth": 1},
            "volumes__a__unlabelled": "8:24",
            "pretraining": {"training": self.LOOP.copy()},
            "training": self.LOOP.copy(),
        }
        return toy(make_toy(folder), **settings | changes)

    @pytest.mark.parametrize("teacher", ["mean_teacher", "weight_sharing", "cross"])
    def test_it_goes_all_the_way(self, tmp_path, teacher, capsys):
        steps = [{"type": name} for name in ("quarter_turn", "misalign", "scale", "cut_out")]
        objective = {
            "type": "consistency",
            "warmup": 0,
            "teacher": {"type": teacher},
            "strong": {"type": "sequence", "steps": steps},
            "views": 2,
            "cut_mix": {"plane": 0.5, "depth": 0.5},
        }
        experiment = self.experiment(tmp_path, objective=objective)
        run_experiment(experiment)
        folder = RunFolder.of(experiment)
        assert "train: from" in (told := capsys.readouterr().out)
        assert re.search(r": 8 tensors taken over, \d+ of parts that transfer.parts does not name begin anew; ", told)
        assert open_volume(folder.affinities("a-test")).shape == (32, 48, 48)
        for path in (folder.best_pretrained, folder.best, folder.choice, folder.scores, folder.report):
            assert path.is_file()

    @pytest.mark.parametrize("stage", ["training", "pretraining__training"])
    def test_a_patch_that_it_cannot_take_is_told_before_anything_is_done(self, tmp_path, stage):
        experiment = self.experiment(tmp_path, **{f"{stage}__patch": [17, 32, 34]})
        name = re.escape(f"{stage.replace('__', '.')}.patch: wanted extents (z, y, x) that are (13, 22, 22) plus")
        with pytest.raises(UserError, match=rf"^{name}.*: take \(17, 34, 34\), or a larger one"):
            run_experiment(experiment)
        assert not RunFolder.of(experiment).path.exists()


def test_what_has_affinities_is_not_predicted(tmp_path):
    path = make_toy(tmp_path)
    given = (255 * np.asarray(labels_to_affinities(LABELS, NEAREST)[0])).astype(np.uint8)
    write_volume(tmp_path / "given.zarr", given, voxel_size_nm=(30, 6, 6))
    with path.open("a") as file:
        file.write("\n[volumes.b]\nraw = 'raw.tif'\naffinities = 'given.zarr'\ntarget = '0:8'\n")
    run_experiment(toy(path))
    folder = RunFolder.of(toy(path))
    assert folder.affinities("a-test").exists()
    assert not folder.affinities("b-target").exists()
    found = score(open_volume(folder.segmentation("b-target")).read(), LABELS[:8])
    assert found.voi_merge < 1e-9  # an untrained network merges all: 3.6 bits
