"""Every experiment that ships is read, resolved, and trains for one step on synthetic EM in place of its volumes."""

import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest

from ssns.checkpoint import load_checkpoint
from ssns.cli import split_arguments
from ssns.commands.pretrain import pretrain_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.teach import teach_experiment
from ssns.commands.train import train_experiment
from ssns.experiment import Experiment, check_roles, load_experiment
from ssns.presets import merged
from ssns.space import Box
from ssns.synthetic import SyntheticSettings, synthesize
from ssns.volume import write_volume

FOLDER = Path(__file__).parents[1] / "experiments"
SHIPPED = sorted(FOLDER.glob("**/*.toml"))
DATA = ("SSNS_DEVELOPMENT_DATA", "SSNS_DATA")
STAND_IN = {"labelled": "0:6", "unlabelled": "6:14", "validation": "14:18", "test": "18:24"}

shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(FOLDER))[:-5])


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in DATA:
        monkeypatch.setenv(name, str(tmp_path / "data"))
    return tmp_path / "data"


@shipped
def test_it_is_valid_and_says_only_what_differs(path, data):
    experiment = load_experiment(path)
    for volume in experiment.volumes.values():
        assert Path(volume.raw).is_relative_to(data)
    bounds = {name: Box.of_shape((256, 1250, 1250)) for name in experiment.volumes}
    files = {name: volume.raw for name, volume in experiment.volumes.items()}
    warnings = check_roles(experiment, bounds, files)
    assert all("transductive" in warning for warning in warnings)
    assert not warnings or path.parent.name == "paper"  # the development benchmark is inductive
    table = tomllib.loads(path.read_text())
    plain = Experiment.model_validate({"volumes": {"a": {"raw": "a.tif"}}})
    for key in set(table) - {"name", "volumes", "base", "preset"}:
        below = load_experiment(table_path(path, table)) if "base" in table else plain
        assert getattr(experiment, key) != getattr(below, key)


@pytest.mark.parametrize(
    ("name", "volume", "role", "shape", "start", "stop"),
    [
        ("ac3-5l-200u-ws", "ac3", "labelled", (256, 1024, 1024), (0, 0, 0), (5, 1024, 1024)),
        ("ac3-5l-200u-ema", "ac3", "unlabelled", (256, 1024, 1024), (156, 0, 0), (256, 1024, 1024)),
        ("ac3-5l-200u-ema", "ac4", "unlabelled", (100, 1024, 1024), (0, 0, 0), (100, 1024, 1024)),
        ("ac3-5l-200u-ema", "ac3", "test", (256, 1024, 1024), (206, 0, 0), (256, 1024, 1024)),
        ("kasthuri15-10l", "ac4", "labelled", (100, 1024, 1024), (0, 0, 0), (10, 1024, 1024)),
        ("kasthuri15-50l-200u", "ac4", "labelled", (100, 1024, 1024), (0, 0, 0), (50, 1024, 1024)),
        ("kasthuri15-50l-200u", "ac3", "unlabelled", (256, 1024, 1024), (156, 0, 0), (256, 1024, 1024)),
        ("kasthuri15-100l", "ac4", "labelled", (100, 1024, 1024), (0, 0, 0), (100, 1024, 1024)),
        ("kasthuri15-100l-200u", "ac4", "unlabelled", (100, 1024, 1024), (0, 0, 0), (100, 1024, 1024)),
        ("cremi-c-10l-200u-ws", "c", "labelled", (125, 1024, 1024), (0, 256, 256), (10, 768, 768)),
        ("cremi-c-10l-200u-ema", "c_plus", "unlabelled", (125, 1024, 1024), (25, 0, 0), (125, 1024, 1024)),
        ("cremi-c-10l-200u-ema-ramp", "c", "test", (125, 1024, 1024), (75, 0, 0), (125, 1024, 1024)),
    ],
)
@pytest.mark.usefixtures("data")
def test_splits_of_the_paper(name, volume, role, shape, start, stop):
    # reference 2.4
    experiment = load_experiment(FOLDER / "paper" / f"{name}.toml")
    (region,) = getattr(experiment.volumes[volume], role)
    assert region.boxes(Box.of_shape(shape)) == (Box(start, stop),)


@pytest.mark.usefixtures("data")
def test_rows_of_the_benchmark_are_valid(monkeypatch):
    benchmarks = FOLDER.parent / "benchmarks"
    monkeypatch.syspath_prepend(benchmarks)
    rows = runpy.run_path(str(benchmarks / "semi.py"))["ROWS"]
    for row in rows.values():
        options = [word for key, value in row.changes.items() for word in (f"--{key}", value)]
        path, changes = split_arguments([str(FOLDER / "ac4" / row.file), *options])
        assert load_experiment(path, changes).training.steps <= 48_000
        assert set(row.beside) <= set(rows)


def table_path(path, table):
    return path.parent / table["base"]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """Raw and labels of a small synthetic volume."""
    folder = tmp_path_factory.mktemp("stand-in")
    raw, labels = synthesize(SyntheticSettings(shape=(24, 64, 64), seed=1))
    write_volume(folder / "raw.zarr", raw, voxel_size_nm=(30, 6, 6))
    write_volume(folder / "labels.zarr", labels.astype(np.uint32), voxel_size_nm=(30, 6, 6))
    return folder


@shipped
def test_it_trains_for_a_step(path, data, stand_in, tmp_path):
    experiment = on_stand_in(load_experiment(path), stand_in, tmp_path)
    folder = RunFolder.of(experiment)
    if experiment.pretraining is not None and experiment.transfer.checkpoint is None:
        pretrain_experiment(experiment)
        assert load_checkpoint(folder.best_pretrained).step == 1
    if experiment.objective.type == "pseudo_labels":
        teach_experiment(experiment)
    if experiment.objective.type == "consistency":
        assert experiment.objective.weight_at(0) > 0
    train_experiment(experiment)
    assert load_checkpoint(folder.best).step == 1


def on_stand_in(experiment, stand_in, tmp_path):
    """The experiment with the roles of its volumes on the small one, one step, small patches."""
    table = experiment.model_dump(mode="json")
    names = {"raw": str(stand_in / "raw.zarr"), "labels": str(stand_in / "labels.zarr")}
    roles = {}
    for volume in experiment.volumes.values():
        roles |= {role: where for role, where in STAND_IN.items() if getattr(volume, role)}
    step = {"steps": 1, "patch": [8, 32, 32], "batch": 1, "device": "cpu", "threads": 1, "preview_every": 10}
    changes = {
        "base": None, "preset": None, "runs": str(tmp_path / "runs"), "training": step,
        "transfer": {"checkpoint": None},
    }  # fmt: skip
    if table["pretraining"] is not None:
        changes["pretraining"] = {"training": step}
    if experiment.objective.type == "pseudo_labels":
        changes["objective"] = {"teacher_steps": 1}
    if experiment.objective.type == "consistency":
        changes["objective"] = {"warmup": 0}
    return Experiment.model_validate(merged(table, changes) | {"volumes": {"a": names | roles}})
