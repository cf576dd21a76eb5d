import json

import numpy as np
import pytest
from toy_experiment import make_toy, toy, typed

from ssns.checkpoint import load_checkpoint
from ssns.commands.run_folder import RunFolder
from ssns.volume import open_volume
from ssns.zoo import FOLDERS, weights_named


@pytest.fixture
def zoo(finished, tmp_path, monkeypatch):
    """The finished run, published; its experiment file."""
    words = ("--name", "toy", "--summary", "straight neurites", "--data", "boxes", "--citation", "nobody")
    publish(finished, tmp_path / "zoo", *words)
    monkeypatch.setenv(FOLDERS, str(tmp_path / "zoo"))
    return finished


def publish(finished, folder, *words, code=0):
    typed("publish", RunFolder.of(toy(finished)).path, folder, *words, code=code)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_published_weights_are_the_best_ones_without_what_only_training_needs(zoo):
    weights, best = weights_named("toy"), load_checkpoint(RunFolder.of(toy(zoo)).best)
    published = load_checkpoint(weights.verified())
    assert same(published.weights, best.weights)
    assert published.state == {}
    assert published.step == best.step == weights.card.step


def test_the_card_has_the_scores_of_the_run_and_a_recipe_without_its_places(zoo):
    card, folder = weights_named("toy").card, RunFolder.of(toy(zoo))
    rows = json.loads(folder.scores.read_text())["rows"]
    assert card.scores.keys() == rows.keys()
    assert all(row[key] == value for part, row in rows.items() for key, value in card.scores[part].items())
    assert card.recipe["volumes"]["a"]["raw"] == "raw.tif"
    assert str(zoo.parent) not in str(card.recipe)


def test_weights_by_name_predict_as_their_file_does(zoo, tmp_path):
    fresh = make_toy(tmp_path)
    typed("predict", fresh, "--checkpoint", "zoo:toy")
    typed("predict", fresh, "--checkpoint", weights_named("toy").path, "--name", "other")
    one, other = (
        open_volume(RunFolder.of(toy(fresh, name=name)).affinities("a-test")).read() for name in ("toy", "other")
    )
    assert np.array_equal(one, other)


def test_training_goes_on_from_weights_with_their_network_and_normalization(zoo, tmp_path, capsys):
    fresh = make_toy(tmp_path)
    fresh.write_text(fresh.read_text().replace("filters = [4, 8]", "filters = [6, 8]"))
    typed("train", fresh, "--from", "zoo:toy", "--training.optimizer.lr", "1e-30")
    assert "tensors taken over" in capsys.readouterr().out
    start, ended = load_checkpoint(weights_named("toy").path), load_checkpoint(RunFolder.of(toy(fresh)).best)
    assert (ended.network, ended.normalization) == (start.network, start.normalization)
    for name in start.weights:
        if "running" not in name and "num_batches" not in name:
            assert np.allclose(start.weights[name], ended.weights[name], rtol=0, atol=1e-20), name


def test_what_is_typed_comes_before_what_weights_bring(zoo, tmp_path):
    fresh = make_toy(tmp_path)
    typed("train", fresh, "--from", "zoo:toy", "--transfer.parts", "encoder")
    assert 'parts = "encoder"' in (RunFolder.of(toy(fresh)).path / "experiment.toml").read_text()


@pytest.mark.parametrize(("missing", "verb"), [("train/best.pt", "train"), ("scores.json", "evaluate")])
def test_an_unfinished_run_is_not_published(finished, tmp_path, capsys, missing, verb):
    (RunFolder.of(toy(finished)).path / missing).unlink()
    publish(finished, tmp_path / "zoo", "--name", "a", "--summary", "b", "--data", "c", "--citation", "d", code=1)
    assert f"`ssns {verb}` first" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


def test_published_weights_are_not_overwritten(zoo, tmp_path, capsys):
    publish(zoo, tmp_path / "zoo", "--name", "toy", "--summary", "b", "--data", "c", "--citation", "d", code=1)
    assert "is there already" in capsys.readouterr().err
