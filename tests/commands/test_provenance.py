import json

from toy_experiment import make_toy, toy

from ssns.commands.provenance import keep_experiment, resolved_toml
from ssns.commands.run_folder import RunFolder
from ssns.experiment import load_experiment


def test_the_resolved_experiment_can_be_loaded_and_is_the_same(tmp_path):
    experiment = toy(make_toy(tmp_path), training__optimizer={"type": "adam"}, training__clip=1.5)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "resolved.toml").write_text(resolved_toml(experiment))
    assert load_experiment(elsewhere / "resolved.toml") == experiment


def test_each_stage_keeps_what_it_was_made_with(tmp_path):
    experiment = toy(make_toy(tmp_path), seed=7)
    folder = RunFolder.of(experiment)
    keep_experiment(experiment, folder, "train")
    keep_experiment(toy(tmp_path / "experiment.toml", seed=8), folder, "predict")
    kept = json.loads((folder.path / "provenance.json").read_text())
    assert {stage: row["seed"] for stage, row in kept.items()} == {"train": 7, "predict": 8}
    assert kept["train"]["versions"].keys() >= {"python", "numpy", "numba"}
    assert kept["train"]["processor"] == kept["predict"]["processor"] != ""
    assert load_experiment(folder.path / "experiment.toml").seed == 8
