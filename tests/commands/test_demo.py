import json

import pytest

from ssns.commands import demo


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(demo, "SHAPE", (12, 96, 96))
    for name, sections in {"LABELLED": "0:4", "VALIDATION": "4:8", "UNLABELLED": "0:8", "TEST": "8:12"}.items():
        monkeypatch.setattr(demo, name, sections)
    loop = {"steps": 3, "patch": [4, 32, 32], "batch": 1, "optimizer": {"type": "adamw", "lr": 3e-3}}
    recipe = {
        "network": {"type": "residual_unet", "filters": [4, 8], "unshuffle": 2},
        "pretraining": {"training": loop},
        "objective": {"type": "consistency", "warmup": 1},
        "training": loop,
    }
    monkeypatch.setattr(demo, "RECIPE", recipe)
    monkeypatch.setattr(demo, "SUPERVISED", demo.SUPERVISED | {"training": {"steps": 4}})


@pytest.mark.usefixtures("_small")
def test_it_goes_the_whole_way_and_skips_what_is_done(tmp_path, capsys):
    demo.run_demo(tmp_path)
    rows = json.loads((tmp_path / "runs" / "demo" / "scores.json").read_text())["rows"]
    names = " | ".join(rows)
    assert "synthetic-test" in names
    assert "oracle" in names
    assert "supervised, 0:4 alone" in names
    assert "baseline, watershed on raw" in names
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    told = capsys.readouterr().out
    assert "neurites" in told
    assert "from 0:4 of 12 sections, VOI sum and ARAND on 8:12: learned " in told

    demo.run_demo(tmp_path)
    told = capsys.readouterr().out
    assert "skipped the volume" in told
    assert told.count("pretrain: skipped") == 1
    assert told.count(" train: skipped") + told.count("\ntrain: skipped") == 2
    assert json.loads((tmp_path / "runs" / "demo" / "scores.json").read_text())["rows"] == rows


def test_raw_affinities_follow_the_darker_end(tmp_path):
    from types import SimpleNamespace

    import numpy as np

    raw = np.full((2, 8, 8), 200, np.uint8)
    raw[:, :, 4] = 20
    box = object()
    part = SimpleNamespace(source=SimpleNamespace(raw=SimpleNamespace(read=lambda _: raw)), box=box)
    affinities = demo._raw_affinities(part, 0.01)
    assert affinities.shape == (3, 2, 8, 8)
    assert (affinities[2, :, :, 4:6] == 0).all()
    assert (affinities[2, :, :, 1:4] == 1).all()
    assert (affinities[0, 0] == 0).all()
