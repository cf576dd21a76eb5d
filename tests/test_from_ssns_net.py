"""What docs/from-ssns-net.md names is there: settings, verbs, commands, experiments, tests and pages."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.main import get_command

from ssns.cli import app, split_arguments
from ssns.experiment import load_experiment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BASE = ROOT / "experiments" / "paper" / "ac3-5l-200u-ema.toml"
TEXT = (DOCS / "from-ssns-net.md").read_text(encoding="utf-8")
SPANS = dict.fromkeys(re.findall(r"`([^`\n]+)`", TEXT))
SETTINGS = [span for span in SPANS if re.match(r"[a-z_]\w*(\.\w+)* = ", span)]
OVERRIDES = [span for span in SPANS if re.match(r"--\w+\.", span) and not span.startswith("--a.b.c")]
COMMANDS = [span for span in SPANS if span.startswith("ssns ") and "experiments/" in span]

KEYS = """
    NAME model_type input_nc output_nc if_sigmoid init_mode_mala if_skip filters upsample_mode decode_ratio merge_mode
    pad_mode bn_mode relu_mode init_mode pre_train trained_gpus pre_train_mode trained_model_name trained_model_id
    resume if_valid min_valid_iters cache_path save_path pad loss_func loss_func_unlabel weight_unlabel
    weight_unlabel_fixed ema_decay opt_type total_iters warmup_iters decay_iters power base_lr end_lr display_freq
    valid_freq save_freq weight_decay batch_size num_workers if_cuda random_seed dataset_name valid_dataset
    unlabel_dataset unlabel_datalist train_split label_crop_size test_split unlabel_split data_folder if_norm_images
    scale_factor min_noise_std max_noise_std min_kernel_size max_kernel_size min_sigma max_sigma per_mode
    if_*_aug_unlabel if_*_aug_labeled TEST.pad model_name
"""
"""Of the YAML files (reference 1.6)."""


@pytest.fixture
def _data(monkeypatch):
    monkeypatch.setenv("SSNS_DATA", "/data")


def test_there_is_enough_to_look_at():
    assert len(SETTINGS) > 60
    assert OVERRIDES
    assert len(COMMANDS) > 8


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_is_one_of_an_experiment(setting, tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(f'base = "{BASE}"\n{setting}\n')
    load_experiment(path)


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("override", OVERRIDES)
def test_every_setting_of_a_command_line_is_too(override):
    path, changes = split_arguments([str(BASE), *shlex.split(override)])
    load_experiment(path, changes)


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_of_a_shipped_experiment(command):
    _, verb, path, *rest = shlex.split(command)
    load_experiment(ROOT / path)
    known = {option for parameter in get_command(app).commands[verb].params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_every_key_has_a_row():
    keys = TEXT.split("## Keys of the YAML files")[1].split("## Parity")[0]
    rows = [line.split("|")[1] for line in keys.splitlines() if line.startswith("| `")]
    networks = (DOCS / "networks.md").read_text(encoding="utf-8")
    assert set(KEYS.split()) <= set(re.findall(r"`([^`]+)`", " ".join(rows))) | set(re.findall(r"`(\w+)`", networks))


def test_affinities_of_the_papers_code_are_scored(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    labels = np.repeat([[[1, 1, 1, 1, 0, 2, 2, 2, 2]]], 60, axis=0).repeat(8, axis=1)
    affinities = np.ones((3, 50, 8, 9), np.float32)
    affinities[:, :, :, 4:6] = 0
    for name, array in {"affs.hdf": affinities, "AC3_labels.h5": labels.astype(np.uint16)}.items():
        with h5py.File(name, "w") as file:
            file["main"] = array
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "from-ssns-net.md", "exec"), {})
    assert capsys.readouterr().out.count("Scores(") == 2


def test_every_verb_exists_or_is_said_to_be_planned():
    design = (DOCS / "design.md").read_text(encoding="utf-8").splitlines()
    planned = [verb for line in design if "° |" in line for verb in re.findall(r"`(\w+)`", line)]
    named = {span.split()[1] for span in SPANS if span.startswith("ssns ")}
    assert named <= set(get_command(app).commands) | set(planned)


def test_every_file_exists():
    files = set(re.findall(r"(?:tests|experiments)/[\w/-]+\.\w+", TEXT))
    assert len(files) > 20
    assert all((ROOT / file).is_file() for file in files)
    assert all((DOCS / page).is_file() for page in re.findall(r"\]\((\w[\w-]*\.md)\)", TEXT))
