"""One finished run, copied for each test that needs one."""

import shutil

import pytest
from toy_experiment import make_toy, toy


@pytest.fixture(autouse=True)
def _nothing_told_yet(monkeypatch):
    monkeypatch.setattr("ssns.commands.terminal._told", set())


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """The folder of an experiment that has been run."""
    from ssns.commands.run import run_experiment

    folder = tmp_path_factory.mktemp("finished")
    run_experiment(toy(make_toy(folder)))
    return folder


@pytest.fixture
def finished(finished_run, tmp_path):
    """The experiment file of a copy of it, times of files included."""
    shutil.copytree(finished_run, tmp_path / "finished")
    return tmp_path / "finished" / "experiment.toml"
