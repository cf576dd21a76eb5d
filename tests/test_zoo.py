import os
import re
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from ssns.cli import main
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.zoo import FOLDERS, all_weights, read_card, scores_on_test, weights_named, weights_path, write_card

PACKAGE = Path(str(files("ssns").joinpath("weights")))
NAME = "ac4-supervised-full"


def typed(*arguments):
    with pytest.raises(SystemExit, match="0"):
        main(list(arguments))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of one's own, named by the environment, with weights of another name."""
    for suffix in (".pt", ".toml"):
        shutil.copy(PACKAGE / f"{NAME}{suffix}", tmp_path / f"mine{suffix}")
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a-validation, threshold 0.6", "a-test, oracle threshold 0.7", "a-test, threshold 0.6"], 2),
        (["my-test-validation, threshold 0.6", "my-test-test-0, threshold 0.6"], 1),
        (["oracle-test, threshold 0.6"], 0),
        (["a-validation, threshold 0.6", "supervised, 0:5 alone"], None),
    ],
)
def test_the_scores_on_test_are_those_of_the_test_part(names, expected):
    rows = {name: {"row": index} for index, name in enumerate(names)}
    assert scores_on_test(rows).get("row") == expected


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.toml")), ids=lambda path: path.stem)
def test_every_card_of_the_package_tells_of_its_file(path):
    weights = weights_named(path.stem)
    assert weights.verified() == path.with_suffix(".pt")
    assert weights.card.size == weights.path.stat().st_size < 10_000_000
    assert weights.card.test_scores["voi_sum"] > 0
    assert weights.card.recipe["network"]


def test_all_weights_of_the_package_have_a_card():
    assert {path.stem for path in PACKAGE.glob("*.pt")} == {path.stem for path in PACKAGE.glob("*.toml")}


def test_a_name_or_a_path_stands_for_a_file():
    assert weights_path(f"zoo:{NAME}") == PACKAGE / f"{NAME}.pt"
    assert weights_path("some/file.pt") == Path("some/file.pt")


def test_folders_of_ones_own_come_first(folder):
    assert list(all_weights()) == ["mine", *sorted(path.stem for path in PACKAGE.glob("*.toml"))]
    for suffix in (".pt", ".toml"):
        shutil.copy(PACKAGE / f"{NAME}{suffix}", folder)
    assert weights_path(f"zoo:{NAME}") == folder / f"{NAME}.pt"


def test_a_card_comes_back_as_it_was_written(tmp_path):
    card = read_card(PACKAGE / f"{NAME}.toml")
    write_card(tmp_path / "card.toml", card)
    assert read_card(tmp_path / "card.toml") == card


def test_another_file_than_that_of_the_card_is_refused(folder):
    with (folder / "mine.pt").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"mine\.pt is not the file of its card .*: fetch it again"):
        weights_path("zoo:mine")
    (folder / "mine.pt").unlink()
    with pytest.raises(UserError, match=r"the card of zoo:mine is there, but no .*mine\.pt"):
        weights_path("zoo:mine")


def test_a_name_without_the_word_is_no_file():
    with pytest.raises(UserError, match=rf"no file at {NAME}: for the weights of that name write zoo:{NAME}"):
        weights_path(NAME)


def test_an_unknown_name_lists_what_there_is(folder):
    with pytest.raises(UserError, match=rf"no weights ac4-supervised \(did you mean {NAME}\?\): mine, "):
        weights_path("zoo:ac4-supervised")


def test_a_damaged_card_is_named(folder):
    (folder / "mine.toml").write_text("step = 3")
    with pytest.raises(UserError, match=r"mine\.toml is no card of weights"):
        all_weights()


def test_a_folder_that_is_not_there_is_named(folder, monkeypatch):
    monkeypatch.setenv(FOLDERS, os.pathsep.join([str(folder), str(folder / "none")]))
    with pytest.raises(UserError, match=rf"{FOLDERS}: there is no folder .*none"):
        all_weights()


def test_the_list_has_a_line_for_each(folder, capsys):
    typed("zoo")
    begins = {line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()}
    assert begins >= all_weights().keys()


def test_a_card_is_shown_with_its_recipe(capsys):
    typed("zoo", f"zoo:{NAME}")
    out = capsys.readouterr().out
    card = read_card(PACKAGE / f"{NAME}.toml")
    for text in (card.data, card.licence, card.citation, card.blake2b, *card.notes, "[network]"):
        assert text in out
    assert f"{card.test_scores['voi_sum']:.4f}" in out


class TestDocumentation:
    TEXT = (Path(__file__).parents[1] / "docs" / "weights.md").read_text(encoding="utf-8")

    def test_names_are_those_of_the_package(self):
        named = set(re.findall(r"zoo[: ]([\w-]+)", self.TEXT)) - {"NAME", "cortex-2026"}
        assert named
        assert named <= all_weights().keys()

    @pytest.mark.parametrize("table", re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
    def test_every_table_is_one_of_an_experiment(self, table):
        Experiment.model_validate(tomllib.loads(table) | {"volumes": {"a": {"raw": "r"}}})
