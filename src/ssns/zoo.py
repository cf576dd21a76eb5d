"""Trained weights by name: those of the package, and those in folders of one's own; each with its card."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import Field, ValidationError

from ssns.errors import UserError, nearest
from ssns.files import write_text
from ssns.settings import Component

PREFIX = "zoo:"
"""Before a name, where a checkpoint is asked for: ``zoo:ac4-supervised-full``."""

ON_TEST = re.compile(r"[\w-]*-test(-\d+)?, (?!oracle )")
"""What the row of a test part begins with: the part, and the setting that was chosen, not the best in hindsight."""

FOLDERS = "SSNS_ZOO"
"""Environment variable of further folders of weights, which come before those of the package."""


class Card(Component):
    """Where weights come from, and how good they are: NAME.toml beside NAME.pt."""

    summary: str = Field(description="What they are for, in a line.")
    data: str = Field(description="What was learned from, in words.")
    licence: str = Field(description="Of the weights.")
    citation: str = Field(description="Of the data.")
    step: int = Field(gt=0, description="The training step that they are of.")
    steps: int = Field(gt=0, description="Steps of the training.")
    minutes: float = Field(gt=0, description="Of that training, without what it started from.")
    notes: tuple[str, ...] = Field((), description="Hardware, commit, how it was scored.")
    size: int = Field(gt=0, description="Bytes of the file.")
    blake2b: str = Field(pattern="^[0-9a-f]{32}$", description="Digest of the file, of 16 bytes.")
    scores: dict[str, dict[str, float]] = Field(description="By what was scored, then by score.")
    recipe: dict[str, Any] = Field(description="The resolved experiment, without the places of files.")

    @property
    def test_scores(self) -> Mapping[str, float]:
        """Those of the test part at the threshold chosen on the validation part; empty if it was not scored."""
        return scores_on_test(self.scores)


def scores_on_test(rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the rows of `ssns evaluate`, that of the test part at the chosen threshold; empty if it was not scored."""
    return next((row for name, row in rows.items() if ON_TEST.match(name)), dict[str, Any]())


@dataclass(frozen=True)
class Weights:
    """Weights of the zoo.

    Attributes:
        name: Of both files.
        path: The checkpoint.
        card: Where it comes from.
    """

    name: str
    path: Path
    card: Card

    def verified(self) -> Path:
        """The path, if what is there is what the card tells of.

        Raises:
            UserError: The file is not there, or another one.
        """
        if not self.path.is_file():
            raise UserError(f"checkpoint: the card of {PREFIX}{self.name} is there, but no {self.path}: fetch it again")
        if digest(self.path) != self.card.blake2b:
            raise UserError(f"checkpoint: {self.path} is not the file of its card (BLAKE2b differs): fetch it again")
        return self.path


def all_weights() -> dict[str, Weights]:
    """All weights by name, without reading them; of two of one name, the first folder's.

    Raises:
        UserError: A card is damaged, or a folder that is named is not there.
    """
    found: dict[str, Weights] = {}
    for folder in _folders():
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, Weights(path.stem, path.with_suffix(".pt"), read_card(path)))
    return found


def weights_named(name: str) -> Weights:
    """Weights by name.

    Raises:
        UserError: There are none.
    """
    zoo = all_weights()
    if name not in zoo:
        raise UserError(f"zoo: there are no weights {name}{nearest(name, zoo)}: {', '.join(zoo) or 'it is empty'}")
    return zoo[name]


def weights_path(wanted: str | os.PathLike[str]) -> Path:
    """The checkpoint that is meant: a path, or ``zoo:NAME``.

    Raises:
        UserError: The zoo has no such weights, or damaged ones; or it has some of that name, and there is no such file.
    """
    text, path = str(wanted), Path(wanted)
    if text.startswith(PREFIX):
        return weights_named(text.removeprefix(PREFIX)).verified()
    if not path.exists() and text in all_weights():
        raise UserError(f"checkpoint: no file at {text}: for the weights of that name write {PREFIX}{text}")
    return path


def read_card(path: Path) -> Card:
    """Read a card.

    Raises:
        UserError: It is not one.
    """
    try:
        return Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UserError(f"zoo: {path} is no card of weights ({error}): fetch it again, or move it away") from error


def write_card(path: Path, card: Card) -> None:
    """Write a card."""
    write_text(path, tomlkit.dumps(card.model_dump(mode="json")))


def digest(path: Path) -> str:
    """BLAKE2b of a file, 16 bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _folders() -> Iterator[Path]:
    """Folders of weights, those of the user first."""
    for text in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise UserError(f"{FOLDERS}: there is no folder {folder}: set it to one, or unset it")
        yield folder
    yield Path(str(files("ssns").joinpath("weights")))
