import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from toy_experiment import LOOP, change_checkpoint, make_toy, touch, toy

from ssns.checkpoint import load_checkpoint
from ssns.commands.pretrain import pretrain_experiment
from ssns.commands.run import run_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.train import train_experiment
from ssns.errors import UserError

SEMI = {
    "volumes__a__unlabelled": "8:24",
    "pretraining": {"training": LOOP},
    "objective": {"type": "consistency", "warmup": 0},
}


@pytest.fixture(scope="module")
def semi(tmp_path_factory):
    """The file of an experiment that was pre-trained."""
    path = make_toy(tmp_path_factory.mktemp("semi"))
    pretrain_experiment(toy(path, **SEMI))
    return path


class TestPretrain:
    def test_a_network_without_skips_that_predicts_raw(self, semi):
        best = load_checkpoint(RunFolder.of(toy(semi)).best_pretrained)
        assert best.network.merge == "none"
        assert set(best.scores) == {"restoration"}
        network = best.network.build(1)
        network.load_state_dict(dict(best.weights))
        assert network(torch.zeros(1, 1, 4, 16, 16)).shape == (1, 1, 4, 16, 16)

    def test_it_is_skipped_until_something_it_depends_on_changes(self, semi, capsys):
        pretrain_experiment(toy(semi, **SEMI))
        assert "pretrain: skipped" in capsys.readouterr().out
        pretrain_experiment(toy(semi, **SEMI, loss={"type": "dice"}, volumes__a__labelled="0:3"))
        assert "pretrain: skipped" in capsys.readouterr().out

    def test_skips_can_stay(self, tmp_path):
        path = make_toy(tmp_path)
        changes = SEMI | {"pretraining": {"skips": "as_network", "training": LOOP | {"steps": 1}}}
        assert load_checkpoint(pretrain_experiment(toy(path, **changes))).network.merge == "cat"

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({}, r"pretraining: the experiment has none: add a table \[pretraining\]"),
            ({"pretraining": {}}, "wanted regions to pre-train on, got none: set volumes.NAME.unlabelled"),
        ],
    )
    def test_what_is_missing_is_told(self, tmp_path, changes, told):
        with pytest.raises(UserError, match=told):
            pretrain_experiment(toy(make_toy(tmp_path), **changes))


class TestTransfer:
    def test_training_starts_from_the_encoder_of_the_pre_training(self, tmp_path, capsys):
        path = make_toy(tmp_path)
        changes = SEMI | {"transfer": {"learning_rate": 0}, "objective": {"type": "supervised"}}
        pretrain_experiment(toy(path, **changes))
        train_experiment(toy(path, **changes))
        folder = RunFolder.of(toy(path))
        assert f"train: from {folder.best_pretrained}: " in capsys.readouterr().out
        start, end = (load_checkpoint(each).weights for each in (folder.best_pretrained, folder.training / "last.pt"))
        same = {name for name in end if name in start and np.array_equal(start[name], end[name])}
        assert {"embed_in.0.weight", "conv0.block1.1.running_mean", "center.block2.3.weight"} <= same
        assert not {"up0.0.weight", "out_put.0.weight"} & same
        told = json.loads((folder.training / "transfer.json").read_text())
        assert "embed_in.0.weight" in told["loaded"]
        assert (told["missing"], told["checkpoint"]) == ({}, str(folder.best_pretrained))

    def test_what_was_taken_over_may_learn_at_a_lower_rate(self, tmp_path):
        path = make_toy(tmp_path)
        changes = SEMI | {"transfer": {"learning_rate": 0.25}, "objective": {"type": "supervised"}}
        pretrain_experiment(toy(path, **changes))
        train_experiment(toy(path, **changes))
        groups = load_checkpoint(RunFolder.of(toy(path)).training / "last.pt").state["optimizer"]["param_groups"]
        assert sorted(group.get("share", 1.0) for group in groups) == [0.25, 1.0]
        rates = {group.get("share", 1.0): group["lr"] for group in groups}
        assert rates[0.25] == pytest.approx(0.25 * rates[1.0])

    def test_another_pre_training_is_trained_from_again(self, tmp_path, capsys):
        path = make_toy(tmp_path)
        changes = SEMI | {"objective": {"type": "supervised"}}
        pretrain_experiment(toy(path, **changes))
        train_experiment(toy(path, **changes))
        train_experiment(toy(path, **changes))
        assert "train: skipped" in capsys.readouterr().out
        touch(RunFolder.of(toy(path)).best_pretrained)
        train_experiment(toy(path, **changes))
        assert "train: skipped" in capsys.readouterr().out
        change_checkpoint(RunFolder.of(toy(path)).best_pretrained)
        train_experiment(toy(path, **changes))
        assert "train: the data of start changed" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            (SEMI, r"pretraining: wanted its weights in .*pretrain, which are not done: run `ssns pretrain` first"),
            ({"transfer": {"checkpoint": "gone.pt"}}, r"no file at .*gone.pt: name one that is there"),
            ({"objective": {"type": "consistency"}}, "regions to learn from without labels.*got none"),
        ],
    )
    def test_what_is_missing_is_told(self, tmp_path, changes, told):
        with pytest.raises(UserError, match=told):
            train_experiment(toy(make_toy(tmp_path), **changes))

    def test_a_pre_training_that_has_not_ended_or_is_another_one_is_not_taken(self, semi):
        changed = SEMI | {"pretraining": {"training": LOOP | {"steps": 4}}}
        with pytest.raises(UserError, match=r"pretraining: pretraining.training.steps changed since its weights in"):
            train_experiment(toy(semi, **changed))
        done = RunFolder.of(toy(semi)).pretraining / "done"
        done.unlink()
        with pytest.raises(UserError, match="which are not done"):
            train_experiment(toy(semi, **SEMI))
        done.touch()


def test_run_refuses_what_training_lacks_before_it_pre_trains(tmp_path):
    path = make_toy(tmp_path)
    with pytest.raises(UserError, match="wanted a volume with labelled regions"):
        run_experiment(toy(path, **SEMI, volumes__a__labelled=[]))
    assert not RunFolder.of(toy(path)).pretraining.exists()


class TestConsistency:
    @pytest.mark.parametrize(
        "objective",
        [
            {"teacher": {"type": "weight_sharing", "statistics": "batch"}, "cut_mix": {}},
            {"teacher": {"type": "mean_teacher"}, "strong": {"type": "one_of", "choices": [{"type": "mix_up"}]}},
            {"teacher": {"type": "cross"}, "views": 2},
        ],
        ids=["weight sharing, cut mix", "mean teacher, mix up", "cross, two views"],
    )
    def test_the_whole_walk(self, tmp_path, objective, capsys):
        path = make_toy(tmp_path)
        run_experiment(toy(path, **SEMI | {"objective": {"type": "consistency", "warmup": 0} | objective}))
        folder = RunFolder.of(toy(path))
        assert folder.scores.is_file()
        assert set(load_checkpoint(folder.best).weights) == set(
            load_checkpoint(folder.best).network.build(3).state_dict()
        )
        assert "volumes.a.test overlaps volumes.a.unlabelled" in capsys.readouterr().out
        run_experiment(toy(path, **SEMI | {"objective": {"type": "consistency", "warmup": 0} | objective}))
        told = capsys.readouterr().out
        assert "pretrain: skipped" in told
        assert "train: skipped" in told


def test_two_processes_of_torchrun_go_the_whole_way(tmp_path):
    path = make_toy(tmp_path)
    path.write_text(
        path.read_text().replace('test = "8:40"', 'test = "8:40"\nunlabelled = "8:24"')
        + '\n[objective]\ntype = "consistency"\nwarmup = 0\n'
        "[pretraining.training]\nsteps = 2\npatch = [4, 16, 16]\nbatch = 1\n"
        'precision = "fp32"\ndevice = "cpu"\nthreads = 1\n'
    )
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1",
        "--master-port", str(port), "-m", "ssns.cli", "run", str(path),
    ]  # fmt: skip
    for said in ("\ntrain: 4 of 4", "\ntrain: skipped"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.count(said) == 1, done.stdout
    assert RunFolder.of(toy(path)).scores.is_file()
