"""The README's commands and its Python run as they are written, on small files of the names that it uses."""

import re
import shlex
import tomllib
from pathlib import Path
from textwrap import dedent

import h5py
import numpy as np
import pytest
import tifffile
import tomlkit

from ssns.experiment import load_experiment

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = [(kind, text) for kind, text in re.findall(r"^ *```(\w*)\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)]
COMMANDS = [shlex.split(line, comments=True) for _, text in BLOCKS for line in text.splitlines() if "ssns " in line]
COMMANDS = [words[1:] for words in COMMANDS if words[0] == "ssns"]
SMALL = [
    "--training.steps", "2", "--training.patch", "[4, 32, 32]", "--training.validate_every", "2",
    "--network.filters", "[4, 8]", "--objective.teacher_steps", "2",
]  # fmt: skip


@pytest.fixture
def _files(tmp_path, monkeypatch):
    """raw.tif with labels, pages of three of its sections, labels.h5 of sections 100 to 105 of raw.h5."""
    monkeypatch.chdir(tmp_path)
    rows, columns = np.indices((64, 64)) // 16
    section = (1 + 4 * rows + columns).astype(np.uint16)
    section[::16], section[:, ::16] = 0, 0
    labels = np.stack([section] * 110)
    raw = np.where(labels > 0, 200, 40).astype(np.uint8)
    raw += np.random.default_rng(0).integers(0, 30, raw.shape, dtype=np.uint8)
    tifffile.imwrite("raw.tif", raw[:80])
    tifffile.imwrite("labels.tif", labels[:80])
    Path("pages").mkdir()
    for z in (3, 40, 77):
        tifffile.imwrite(f"pages/{z}.tif", labels[z])
    with h5py.File("raw.h5", "w") as file:
        file["main"] = raw
    with h5py.File("labels.h5", "w") as file:
        file["main"] = labels[100:105]


def ssns(*words):
    from ssns.cli import main

    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code


def test_there_are_commands():
    assert {words[0] for words in COMMANDS} >= {"init", "run"}


@pytest.mark.usefixtures("_files")
def test_its_way_from_data_to_report():
    pytest.importorskip("torch")
    for words in COMMANDS:
        if words[0] == "init":
            Path("experiment.toml").unlink(missing_ok=True)
            ssns(*words)
    Path("experiment.toml").unlink()
    tifffile.imwrite("labels.tif", tifffile.imread("labels.tif")[:5])
    ssns("init", "raw.tif", "--labels", "labels.tif")
    for words in COMMANDS:
        if words[0] in ("run", "segment"):
            ssns(*words, *SMALL)
    assert Path("runs/raw/report.html").is_file()
    (snippet,) = (text for kind, text in BLOCKS if kind == "python")
    exec(compile(snippet, "README.md", "exec"), {})


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "toml"])
def test_its_settings_exist(text, tmp_path):
    (tmp_path / "base.toml").write_text('[volumes.raw]\nraw = "raw.tif"\n')
    (tmp_path / "experiment.toml").write_text(f'base = "base.toml"\n{dedent(text)}')
    load_experiment(tmp_path / "experiment.toml")


def test_every_verb_of_its_table_exists():
    from typer.main import get_command

    from ssns.cli import app

    named = set(re.findall(r"^\| `ssns (\w+)", README, re.MULTILINE))
    assert named == set(get_command(app).commands)


@pytest.mark.usefixtures("_files")
def test_the_blocks_about_unlabelled_sections_take_the_place_of_tables():
    page = (Path(__file__).parents[1] / "docs" / "unlabelled.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    ssns("init", "raw.tif", "--labels", "labels.tif", "--sections", "0:5", "--voxel-size-nm", "30", "6", "6")
    written = tomllib.loads(Path("experiment.toml").read_text(encoding="utf-8"))
    found = []
    for block in blocks:
        table = block if "preset" in block else written | block
        Path("changed.toml").write_text(tomlkit.dumps(table), encoding="utf-8")
        found.append(load_experiment("changed.toml"))
    assert [experiment.objective.type for experiment in found] == [
        "pseudo_labels", "consistency", "consistency", "pseudo_labels",
    ]  # fmt: skip
    assert found[0].pretraining is not None
    assert found[2].preset == "paper-ws"
    assert found[2].normalization.type == "dtype"
