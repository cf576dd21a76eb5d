"""`ssns zoo`: trained weights by name, and their cards; `ssns publish`: a card and weights from a run."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit
from rich.markup import escape
from rich.table import Table

from ssns.commands.run_folder import RunFolder
from ssns.commands.terminal import console, say
from ssns.errors import UserError
from ssns.experiment import VOLUME_FILES
from ssns.report import COLUMNS
from ssns.volume.opening import split_dataset
from ssns.zoo import PREFIX, Card, all_weights, digest, weights_named, write_card

SCORED = tuple(column for column in COLUMNS if column.key in ("voi_split", "voi_merge", "voi_sum", "arand"))
"""What a card shows of each part."""


def list_weights() -> None:
    """Print all weights, a line each."""
    table = Table(box=None, pad_edge=False)
    for title in ("name", "what", "VOI sum", "ARAND", "MB"):
        table.add_column(title, justify="left" if title in ("name", "what") else "right")
    for weights in all_weights().values():
        scores = weights.card.test_scores
        shown = [f"{scores[key]:.3f}" if key in scores else "–" for key in ("voi_sum", "arand")]
        table.add_row(weights.name, escape(weights.card.summary), *shown, f"{weights.card.size / 1e6:.1f}")
    console.print(table)
    say(f"Scores: of the test part. `ssns zoo NAME` shows a card; {PREFIX}NAME stands for the file of a checkpoint.")


def show_weights(name: str) -> None:
    """Print a card."""
    weights = weights_named(name)
    card = weights.card
    for title, text in {
        "name": name,
        "what": card.summary,
        "data": card.data,
        "training": f"step {card.step} of {card.steps}, {card.minutes:.0f} min",
        "licence": card.licence,
        "cite": card.citation,
        "file": f"{weights.path}, {card.size / 1e6:.1f} MB, BLAKE2b {card.blake2b}",
    }.items():
        say(f"{f'{title}:':<10}{text}")
    for note in card.notes:
        say(f"{'':<10}{note}")
    table = Table(box=None, pad_edge=False)
    table.add_column("scored")
    for column in SCORED:
        table.add_column(column.title, justify="right")
    for part, row in card.scores.items():
        table.add_row(escape(part), *(f"{row[column.key]:.4f}" if column.key in row else "–" for column in SCORED))
    console.print(table)
    say("\nrecipe:\n")
    say(tomlkit.dumps(card.recipe).strip())


@dataclass(frozen=True)
class Words:
    """What a card says that no file of a run knows.

    Attributes:
        summary: What the weights are for, in a line.
        data: What was learned from, in words.
        licence: Of the weights.
        citation: Of the data.
        notes: Further lines: hardware, commit ...
    """

    summary: str
    data: str
    licence: str
    citation: str
    notes: tuple[str, ...] = ()


def publish_run(run: Path, folder: Path, name: str, words: Words) -> None:
    """Write the best weights of a run, without the training state, and their card.

    Args:
        run: A run folder after `ssns evaluate`; every figure of the card is read from it.
        folder: Where they go.
        name: Of both files.
        words: What the card says beside figures.

    Raises:
        UserError: The run is not finished, or there are weights of that name in the folder.
    """
    from ssns.checkpoint import load_checkpoint, save_checkpoint

    files = RunFolder(run)
    for path, verb in ((files.best, "train"), (files.history, "train"), (files.scores, "evaluate")):
        if not path.is_file():
            raise UserError(f"run: wanted a run folder with {path.relative_to(run)}, got {run}: `ssns {verb}` first")
    target, card = folder / f"{name}.pt", folder / f"{name}.toml"
    if target.exists() or card.exists():
        raise UserError(f"name: {target} is there already: take another name, or remove it and its card")
    checkpoint = load_checkpoint(files.best)
    history = json.loads(files.history.read_text())
    save_checkpoint(target, replace(checkpoint, state={}))
    write_card(
        card,
        Card(
            **asdict(words),
            step=checkpoint.step,
            steps=history[-1]["step"],
            minutes=history[-1]["seconds"] / 60,
            size=target.stat().st_size,
            blake2b=digest(target),
            scores=_numbers(json.loads(files.scores.read_text())["rows"]),
            recipe=_recipe(tomllib.loads((run / "experiment.toml").read_text())),
        ),
    )
    say(f"publish: {target}, {target.stat().st_size / 1e6:.1f} MB, and its card; set SSNS_ZOO to {folder} to use it")


def _numbers(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Scores that the report has a column for."""
    keys = [column.key for column in COLUMNS]
    return {part: {key: row[key] for key in keys if isinstance(row.get(key), float)} for part, row in rows.items()}


def _name(path: str) -> str:
    """A file without its folder, and the dataset in it."""
    file, dataset = split_dataset(path)
    return file.name if dataset is None else f"{file.name}:{dataset}"


def _recipe(experiment: dict[str, Any]) -> dict[str, Any]:
    """The resolved experiment without the places of this machine."""
    del experiment["runs"]
    for volume in experiment["volumes"].values():
        volume |= {key: _name(volume[key]) for key in VOLUME_FILES if key in volume}
    start = experiment.get("transfer", {}).get("checkpoint", "none")
    if start != "none" and not start.startswith(PREFIX):
        experiment["transfer"]["checkpoint"] = Path(start).name
    return experiment
