"""Publish the best checkpoint of a run: weights without the training state, and a card of where they come from.

    python benchmarks/publish_weights.py RUN NAME --data "AC4, sections 0-34 ..."

RUN is a run folder after ``ssns evaluate``; writes src/ssns/weights/NAME.pt and NAME.md. Every figure of the card is
read from the run folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomlkit

from ssns.checkpoint import load_checkpoint, save_checkpoint
from ssns.report import COLUMNS

WEIGHTS = Path(__file__).parents[1] / "src" / "ssns" / "weights"
LARGEST = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True, help="what was learned from, in words")
    parser.add_argument("--note", action="append", default=[], help="a further line of the card: hardware, commit ...")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.run / "train" / "best.pt")
    target = WEIGHTS / f"{arguments.name}.pt"
    save_checkpoint(target, replace(checkpoint, state={}))
    size = target.stat().st_size
    if size > LARGEST:
        target.unlink()
        raise SystemExit(f"{target} would have {size / 1e6:.1f} MB: wanted at most {LARGEST / 1e6:.0f}")
    rows = json.loads((arguments.run / "scores.json").read_text())["rows"]
    history = json.loads((arguments.run / "train" / "history.json").read_text())
    card = [
        f"# {arguments.name}",
        "",
        f"* Data: {arguments.data}",
        f"* Step {checkpoint.step} of {history[-1]['step']}, {history[-1]['seconds'] / 60:.0f} minutes of training",
        f"* {size / 1e6:.1f} MB, BLAKE2b {hashlib.blake2b(target.read_bytes(), digest_size=16).hexdigest()}",
        *(f"* {note}" for note in arguments.note),
        "* Licence: MIT; the data are for research use, cite Kasthuri et al. 2015, doi 10.1016/j.cell.2015.06.054",
        "",
        *_table(rows),
        "",
        "## Recipe",
        "",
        "```toml",
        _recipe(tomllib.loads((arguments.run / "experiment.toml").read_text())),
        "```",
    ]
    target.with_suffix(".md").write_text("\n".join(card) + "\n")
    print(f"{target}, {size / 1e6:.1f} MB")


def _recipe(experiment: dict[str, Any]) -> str:
    """The resolved experiment without the places of this machine."""
    del experiment["runs"]
    for volume in experiment["volumes"].values():
        volume |= {key: Path(volume[key]).name for key in ("raw", "labels")}
    return tomlkit.dumps(experiment).strip()


def _table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    titles = " | ".join(column.title for column in COLUMNS)
    lines = [f"| scored | {titles} |", "|" + "---|" * (len(COLUMNS) + 1)]
    for name, row in rows.items():
        lines.append(
            f"| {name} | "
            + " | ".join(f"{row[column.key]:.4f}" if column.key in row else "–" for column in COLUMNS)
            + " |"
        )
    return lines


if __name__ == "__main__":
    main()
