import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from toy_experiment import LABELS, make_toy, toy

from ssns.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssns.cli import main
from ssns.commands.inputs import open_sources
from ssns.commands.predict import predict_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.train import train_experiment
from ssns.commands.validation import Validation
from ssns.errors import UserError
from ssns.networks import Extents
from ssns.volume import open_volume
from ssns.volume.normalization import IntensityRange

KILLED = """
import os, signal, sys
from ssns.commands.train import train_experiment
from ssns.commands.validation import Validation
from ssns.experiment import load_experiment

scored = Validation.__call__
def killed(self, network, step):
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return scored(self, network, step)
Validation.__call__ = killed
train_experiment(load_experiment(sys.argv[1]))
"""


def weights(folder):
    return {name: tensor.numpy() for name, tensor in load_checkpoint(folder / "last.pt").weights.items()}


def test_killed_in_the_middle_and_gone_on_equals_uninterrupted(finished, tmp_path, capsys):
    path = make_toy(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, path], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    train_experiment(toy(path))
    assert "going on from step 3 of 4" in capsys.readouterr().out
    resumed, whole = (weights(RunFolder.of(toy(each)).training) for each in (path, finished))
    assert resumed.keys() == whole.keys()
    assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_request_to_stop_ends_with_a_message(tmp_path, capsys, monkeypatch, number):
    path = make_toy(tmp_path)
    scored = Validation.__call__

    def signalled(self, network, step):
        os.kill(os.getpid(), number)
        return scored(self, network, step)

    monkeypatch.setattr(Validation, "__call__", signalled)
    with pytest.raises(SystemExit, match="1"):
        main(["train", str(path)])
    assert "stopped at step 2 of 4" in capsys.readouterr().err
    monkeypatch.setattr(Validation, "__call__", scored)
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(path)])
    assert "going on from step 2 of 4" in capsys.readouterr().out


def test_a_changed_setting_sets_the_old_training_aside(finished, capsys):
    folder = RunFolder.of(toy(finished))
    before = folder.best.read_bytes()
    train_experiment(toy(finished, training__optimizer={"lr": 0.5}))
    told = capsys.readouterr().out
    assert "train: training.optimizer.lr changed since the last time, which is kept in" in told
    assert (folder.path / "train-1" / "best.pt").read_bytes() == before
    assert folder.best.read_bytes() != before
    train_experiment(toy(finished, training__optimizer={"lr": 0.25}))
    assert (folder.path / "train-2").is_dir()


def test_checkpoints_of_unknown_settings_are_not_gone_on_from(finished, capsys):
    folder = RunFolder.of(toy(finished))
    (folder.training / "stamp.json").unlink()
    train_experiment(toy(finished))
    told = capsys.readouterr().out
    assert "there is no record of its settings" in told
    assert "training from step 0 of 4" in told


def test_a_best_checkpoint_that_is_gone_is_trained_again(finished):
    folder = RunFolder.of(toy(finished))
    folder.best.unlink()
    train_experiment(toy(finished))
    assert folder.best.is_file()


def test_malis_trains_what_another_loss_has_begun(finished):
    changes = {"name": "malis", "loss": {"type": "malis"}, "training__steps": 2}
    begun = {"checkpoint": str(RunFolder.of(toy(finished)).best), "parts": "all"}
    best = load_checkpoint(train_experiment(toy(finished, **changes, transfer=begun)))
    assert best.step > 0


def test_a_further_volume_to_segment_trains_nothing(finished, capsys):
    experiment = toy(finished, volumes__b={"raw": "raw.tif", "target": "0:4"})
    train_experiment(experiment)
    assert "train: skipped" in capsys.readouterr().out


class Thresholded(nn.Module):
    """Affinities read off the brightness of both ends."""

    extents = Extents()

    def forward(self, raw):
        bright = (raw > 0.5).float()
        ends = [torch.minimum(bright, torch.roll(bright, 1, axis)) for axis in (2, 3, 4)]
        return 20 * torch.cat(ends, dim=1) - 10


def test_validation_segments_and_scores(tmp_path):
    experiment = toy(make_toy(tmp_path))
    validation = Validation.of(experiment, open_sources(experiment), {"a": IntensityRange(0, 255)})
    scores = validation(Thresholded(), 0)
    assert scores["voi_sum"] < 1e-9
    assert scores["threshold"] in (0.3, 0.6)


def test_validation_joins_nothing_along_what_is_untrained(tmp_path):
    experiment, ranges = toy(make_toy(tmp_path)), {"a": IntensityRange(0, 255)}
    validation = Validation.of(experiment, open_sources(experiment), ranges, untrained=((-1, 0, 0),))
    scores = validation(Thresholded(), 0)
    assert scores["voi_merge"] < 1e-9
    assert scores["voi_split"] == pytest.approx(2)  # each neuron is one in each of the four sections


@pytest.mark.parametrize("convention", ["excluded", "reference"])
def test_where_nothing_is_segmented_training_goes_on(tmp_path, convention, monkeypatch):
    def no_affinity(_network, _raw, box, *_settings, **_more):
        return np.zeros((3, *box.shape), np.uint8)

    monkeypatch.setattr("ssns.prediction.predict_box", no_affinity)
    fragments = {"type": "seeded_watershed", "mask_fragments": 1.0}
    changes = {"scoring": convention, "segmentation__method": {"type": "agglomeration", "fragments": fragments}}
    experiment = toy(make_toy(tmp_path), **changes)
    validation = Validation.of(experiment, open_sources(experiment), {"a": IntensityRange(0, 255)})
    scores = validation(Thresholded(), 0)
    assert (scores["voi_sum"], scores["arand"], scores["threshold"]) == (np.inf, 1, 0.3)
    best = train_experiment(experiment)
    assert load_checkpoint(best).scores["voi_sum"] == np.inf
    history = json.loads(RunFolder.of(experiment).history.read_text(), parse_constant=pytest.fail)
    assert [row["validation/arand"] for row in history if "validation/arand" in row] == [1, 1]


def test_only_the_first_process_keeps_the_books(finished, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        train_experiment(toy(finished, training__optimizer={"lr": 0.5}))
    assert not (RunFolder.of(toy(finished)).path / "train-1").exists()


class TestWarnings:
    def test_validation_regions_without_neurons(self, tmp_path, capsys):
        labels = LABELS.copy()
        labels[4:8] = 0
        train_experiment(toy(make_toy(tmp_path, labels=labels), training__steps=1))
        assert "warning: nothing is labelled in the validation regions: the last" in capsys.readouterr().out

    def test_isolated_sections_cannot_teach_z(self, tmp_path, capsys):
        experiment = toy(make_toy(tmp_path), volumes__a__labelled={"sections": [0, 2]}, training__steps=1)
        train_experiment(experiment)
        told = " ".join(capsys.readouterr().out.split())
        assert "offset [-1, 0, 0]: no labels hold both ends of such an edge, so this channel is not trained" in told
        assert "offset [0, -1, 0]" not in told
        predict_experiment(experiment)
        told = " ".join(capsys.readouterr().out.split())
        assert told.count("warning: offset [-1, 0, 0]: nothing has trained this channel of") == 1
        along_z, *in_plane = open_volume(RunFolder.of(experiment).affinities("a-test")).read()
        assert not along_z.any()
        assert all(channel.any() for channel in in_plane)

    def test_but_weights_that_know_it_keep_it(self, finished, tmp_path, capsys):
        start = {"checkpoint": str(RunFolder.of(toy(finished)).best), "parts": "all"}
        labelled = {"sections": [0, 2]}
        experiment = toy(make_toy(tmp_path), volumes__a__labelled=labelled, transfer=start, training__steps=1)
        train_experiment(experiment)
        told = " ".join(capsys.readouterr().out.split())
        assert "offset [-1, 0, 0]: no labels hold both ends of such an edge, so this channel stays as it was" in told
        predict_experiment(experiment)
        assert open_volume(RunFolder.of(experiment).affinities("a-test")).read()[0].any()

    def test_neighbouring_sections_teach_z_one_by_one_too(self, tmp_path, capsys):
        changes = {"volumes__a__labelled": ["0:1", "1:2"], "training__steps": 1}
        train_experiment(toy(make_toy(tmp_path), **changes))
        assert "offset" not in capsys.readouterr().out

    @pytest.mark.parametrize(("outside", "warned"), [("masked", True), ("replicate", False)])
    def test_patches_have_to_hold_both_ends(self, tmp_path, capsys, outside, warned):
        far = [[0, -15, 0], [0, 0, -16]]
        train_experiment(toy(make_toy(tmp_path), auxiliary_offsets=far, outside=outside, training__steps=1))
        told = " ".join(capsys.readouterr().out.split())
        assert ("offset [0, 0, -16]: no patch holds both ends of such an edge, so this channel" in told) == warned
        assert told.count("offset [") == warned

    @pytest.mark.parametrize(
        ("changes", "warned"),
        [
            ({}, True),
            ({"objective__teacher": {"type": "weight_sharing"}, "objective__warmup": 500}, True),
            ({"objective__warmup": 600}, False),
            ({"objective__warmup": 250, "training__accumulate": 2}, False),
            ({"objective__teacher__statistics": "batch"}, False),
            ({"network__batch_momentum": 0.05}, False),
            ({"network__normalization": "group"}, False),
            ({"objective": {"type": "supervised"}}, False),
            ({"transfer": {"checkpoint": "seen.pt", "parts": "all"}}, False),
            ({"transfer": {"checkpoint": "seen.pt", "parts": "encoder"}}, True),
        ],
    )
    def test_a_teacher_whose_statistics_have_hardly_moved(self, tmp_path, capsys, changes, warned):
        path = make_toy(tmp_path)
        consistency = {
            "volumes__a__unlabelled": "8:24", "objective__type": "consistency", "objective__warmup": 0,
        }  # fmt: skip
        experiment = toy(path, **consistency | {"network__batch_momentum": 0.001, "training__steps": 1} | changes)
        seen = {
            name: torch.full_like(tensor, 600) if name.endswith("num_batches_tracked") else tensor
            for name, tensor in experiment.network.build(3).state_dict().items()
        }
        ranges = {"a": IntensityRange(0, 255)}
        start = Checkpoint(experiment.network, seen, experiment.offsets, experiment.normalization, ranges)
        save_checkpoint(tmp_path / "seen.pt", start)
        train_experiment(experiment)
        told = "100 steps into the consistency, its running statistics are still by"
        assert (told in capsys.readouterr().out) == warned

    @pytest.mark.parametrize(("warmup", "warned"), [(0, False), (1, True)])
    def test_a_warmup_as_long_as_the_training(self, tmp_path, capsys, warmup, warned):
        objective = {"type": "consistency", "warmup": warmup}
        train_experiment(toy(make_toy(tmp_path), volumes__a__unlabelled="8:24", objective=objective, training__steps=1))
        assert ("nothing is learned from unlabelled raw" in capsys.readouterr().out) == warned

    def test_without_validation_the_last_checkpoint_is_the_best(self, tmp_path, capsys):
        experiment = toy(make_toy(tmp_path), volumes__a__validation=[], training__steps=1)
        best = train_experiment(experiment)
        assert "no validation regions" in capsys.readouterr().out
        assert load_checkpoint(best).step == 1


class TestErrors:
    def test_nothing_to_learn_from(self, tmp_path):
        with pytest.raises(UserError, match=r"wanted a volume with labelled regions .*--checkpoint FILE"):
            train_experiment(toy(make_toy(tmp_path), volumes__a__labelled=[]))

    def test_a_patch_that_the_network_cannot_take(self, tmp_path):
        with pytest.raises(UserError, match=r"training\.patch: wanted .* multiples of \(1, 2, 2\), got \(4, 15, 16\)"):
            train_experiment(toy(make_toy(tmp_path), training__patch=[4, 15, 16]))


def test_validation_that_cannot_fit_is_refused_before_training(tmp_path, monkeypatch):
    import psutil

    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(UserError, match=r"a-validation: segmenting .* set volumes\.a\.validation to smaller boxes"):
        train_experiment(toy(make_toy(tmp_path)))
