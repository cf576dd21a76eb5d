import json

import pytest

from ssns.commands import demo


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(demo, "SHAPE", (12, 96, 96))
    monkeypatch.setattr(demo, "LABELLED", "0:4")
    monkeypatch.setattr(demo, "VALIDATION", "4:8")
    monkeypatch.setattr(demo, "TEST", "8:12")
    recipe = {
        "network": {"type": "residual_unet", "filters": [4, 8], "unshuffle": 2, "batch_momentum": 0.05},
        "training": {"steps": 4, "patch": [4, 32, 32], "batch": 1, "optimizer": {"type": "adamw", "lr": 3e-3}},
    }
    monkeypatch.setattr(demo, "RECIPE", recipe)


@pytest.mark.usefixtures("_small")
def test_it_goes_the_whole_way_and_skips_what_is_done(tmp_path, capsys):
    demo.run_demo(tmp_path)
    rows = json.loads((tmp_path / "runs" / "demo" / "scores.json").read_text())["rows"]
    names = " | ".join(rows)
    assert "synthetic-test" in names
    assert "oracle" in names
    assert "baseline, watershed on raw" in names
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()
    told = capsys.readouterr().out
    assert "neurites" in told
    assert "learned from 0:4 of 12 sections" in told

    demo.run_demo(tmp_path)
    told = capsys.readouterr().out
    assert "skipped the volume" in told
    assert "train: skipped" in told
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
