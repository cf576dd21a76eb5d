"""Trained weights on another data set with a few labelled sections: as they are, trained on, and training from nothing.

    python benchmarks/transfer.py DATA RUNS [--weights zoo:NAME] [--steps 300]

Two data sets: AC3, three labelled sections, of DATA, and a synthetic volume, five labelled sections, made in RUNS.
"Gently" is at a tenth of the learning rate. Each run is a command that a user would type. A repeated call goes on where
it stopped, and prints the table of what is done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from runs import learning_seconds, ssns_run
from ssns.checkpoint import load_checkpoint
from ssns.synthetic import SyntheticSettings, synthesize
from ssns.volume import write_volume
from ssns.zoo import scores_on_test, weights_path

SCORES = ("voi_split", "voi_merge", "voi_sum", "arand")
SHAPE = (64, 320, 320)
GENTLY = ("--training.optimizer.lr", "1e-4")


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the development volumes")
    parser.add_argument("runs", type=Path, help="folder of the synthetic volume and of the run folders")
    parser.add_argument("--weights", default="zoo:ac4-supervised-full", help="checkpoint, or zoo:NAME")
    parser.add_argument("--steps", type=int, default=300, help="of training; from nothing also four times as many")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Sequence[str]] = {
        "as they are": ("--checkpoint", arguments.weights),
        f"trained on, {arguments.steps} steps": ("--from", arguments.weights),
        f"trained on, {arguments.steps} steps, gently": ("--from", arguments.weights, *GENTLY),
        f"from nothing, {arguments.steps} steps": (),
        f"from nothing, {4 * arguments.steps} steps": ("--training.steps", str(4 * arguments.steps)),
    }
    print("| data set | weights | VOI split | VOI merge | VOI sum | ARAND | training, min |")
    print("|---|---|---|---|---|---|---|")
    for name, volume in {"ac3": ac3(arguments.data), "synthetic": synthetic(arguments.runs)}.items():
        experiment = write_experiment(arguments.runs, name, volume, arguments.weights, arguments.steps)
        for row, options in rows.items():
            run = arguments.runs / f"{name}-{row.replace(', ', '-').replace(' ', '_')}"
            if ssns_run(experiment, run, options):
                sys.exit(f"{run.name} failed: see {run}.log")
            print(f"| {name} | {row} | {' | '.join(cells(run))} |", flush=True)


def ac3(data: Path) -> dict[str, Any]:
    """AC3: another block of the tissue of AC4, ten sections with labels."""
    return {
        "raw": str((data / "AC3_inputs_000-049.tif").absolute()),
        "labels": str((data / "AC3_labels_000-009.tif").absolute()),
        "voxel_size_nm": [30, 6, 6],
        "labelled": "0:3",
        "validation": "3:5",
        "test": "5:10",
    }


def synthetic(runs: Path) -> dict[str, Any]:
    """Synthetic EM, no part of which any weights have seen."""
    paths = {"raw": runs / "raw.zarr", "labels": runs / "labels.zarr"}
    if not paths["labels"].exists():
        settings = SyntheticSettings(shape=SHAPE, seed=7)
        raw, labels = synthesize(settings)
        write_volume(paths["raw"], raw, voxel_size_nm=settings.voxel_size_nm)
        write_volume(paths["labels"], labels, voxel_size_nm=settings.voxel_size_nm)
    files = {key: str(path.absolute()) for key, path in paths.items()}
    return {**files, "labelled": "0:5", "validation": "5:13", "test": "29:64"}


def write_experiment(runs: Path, name: str, volume: Mapping[str, Any], weights: str, steps: int) -> Path:
    """An experiment with network and normalisation of the weights."""
    trained = load_checkpoint(weights_path(weights))
    content = {
        "name": name,
        "volumes": {name: volume},
        "normalization": trained.normalization.model_dump(mode="json"),
        "network": trained.network.model_dump(mode="json"),
        "training": {"steps": steps, "patch": [8, 160, 160], "batch": 1, "optimizer": {"type": "adamw", "lr": 1e-3}},
    }
    path = runs / f"{name}.toml"
    path.write_text(tomlkit.dumps(content))
    return path


def cells(run: Path) -> list[str]:
    """Scores of the test part, and minutes of training."""
    test = scores_on_test(json.loads((run / "scores.json").read_text())["rows"])
    return [*(f"{test[key]:.3f}" for key in SCORES), f"{learning_seconds(run / 'train') / 60:.1f}"]


if __name__ == "__main__":
    main()
