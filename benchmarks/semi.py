"""Semi-supervised against supervised training on the development benchmark: rows x seeds, resumable.

    python benchmarks/semi.py DATA RUNS [--rows supervised ws ema ...] [--seeds 0 1 2] [--jobs 2]

Each run is `ssns run` (or `ssns pretrain`, shared by the rows of a seed) in RUNS; a repeated call goes on where it
stopped, runs only what is missing, and prints the table of all rows that are done. With --jobs 2, two runs go on at a
time, each on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

EXPERIMENTS = Path(__file__).parents[1] / "experiments" / "ac4"
LONG_OFFSETS = "[[-1,0,0],[0,-1,0],[0,0,-1],[-2,0,0],[0,-9,0],[0,0,-9],[-3,0,0],[0,-27,0],[0,0,-27]]"
SCORES = ("voi_split", "voi_merge", "voi_sum", "arand")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        file: The experiment.
        changes: Settings on top of it.
        pretrained: Whether it starts from the pre-training of its seed.
    """

    file: str
    changes: Mapping[str, str] = field(default_factory=dict)
    pretrained: bool = True


OURS = "semi-ours.toml"
ROWS = {
    "supervised, lr 0.001": Row("semi.toml", {"training.optimizer.lr": "0.001"}, pretrained=False),
    "supervised": Row("semi.toml", pretrained=False),
    "supervised, lr 0.004": Row("semi.toml", {"training.optimizer.lr": "0.004"}, pretrained=False),
    "supervised, same time": Row("semi.toml", {"training.steps": "7000"}, pretrained=False),
    "supervised, pre-trained": Row("semi.toml"),
    "ws": Row("semi-ws.toml"),
    "ema": Row("semi-ema.toml"),
    "ours": Row(OURS),
    "full": Row("semi.toml", {"volumes.ac4.labelled": "0:35"}, pretrained=False),
    "ours, not pre-trained": Row(OURS, pretrained=False),
    "ours, reference geometry": Row(OURS, {"objective.geometry": "reference"}),
    "ours, confidence": Row(OURS, {"objective.confidence": "0.8"}),
    "ours, two views": Row(OURS, {"objective.views": "2"}),
    "ours, no cut mix": Row(OURS, {"objective.cut_mix": "none"}),
    "ours, long offsets": Row(OURS, {"offsets": LONG_OFFSETS}),
    "ours, cross": Row(OURS, {"objective.teacher": '{type = "cross"}'}),
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the development volumes")
    parser.add_argument("runs", type=Path, help="folder of the run folders")
    parser.add_argument("--rows", nargs="*", default=[], choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    pretrainings = sorted({seed for row in arguments.rows for seed in arguments.seeds if ROWS[row].pretrained})
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = pool.map(lambda seed: pretrain(arguments.data, arguments.runs, seed), pretrainings)
        failed = {seed for seed, code in zip(pretrainings, codes, strict=True) if code}
        wanted = [
            (row, seed)
            for seed in arguments.seeds
            for row in arguments.rows
            if not (ROWS[row].pretrained and seed in failed)
        ]
        list(pool.map(lambda run: train(arguments.data, arguments.runs, *run), wanted))
    print_table(arguments.runs)


def pretrain(data: Path, runs: Path, seed: int) -> int:
    """The pre-training of a seed; its exit code."""
    return call(data, runs, "pretrain", "semi-pretraining.toml", f"pretraining-{seed}", {"seed": str(seed)})


def train(data: Path, runs: Path, name: str, seed: int) -> int:
    """One run of a row, from training to scores; its exit code."""
    row = ROWS[name]
    start = runs / f"pretraining-{seed}" / "pretrain" / "best.pt"
    changes = {"seed": str(seed), "pretraining": "none"} | dict(row.changes)
    if row.pretrained:
        changes["transfer.checkpoint"] = str(start.absolute())
    return call(data, runs, "run", row.file, run_name(name, seed), changes)


def run_name(row: str, seed: int) -> str:
    """The name of a run folder."""
    return f"{row.replace(', ', '-').replace(' ', '_')}-{seed}"


def call(data: Path, runs: Path, verb: str, file: str, name: str, changes: Mapping[str, str]) -> int:
    """One command as a user would type it, on one thread; its output goes beside the run folder."""
    given = {**changes, "name": name, "runs": str(runs.absolute())}
    command = [sys.executable, "-m", "ssns.cli", verb, str(EXPERIMENTS / file)]
    command += [word for key, value in given.items() for word in (f"--{key}", value)]
    environment = os.environ | {"SSNS_DEVELOPMENT_DATA": str(data.absolute()), "OMP_NUM_THREADS": "1"}
    begin = time.monotonic()
    with (runs / f"{name}.log").open("a") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    print(f"{verb} {name}: exit code {ended.returncode}, {(time.monotonic() - begin) / 60:.1f} min", flush=True)
    return ended.returncode


def print_table(runs: Path) -> None:
    """Mean and spread over the seeds that are done, in Markdown."""
    print("| row | seeds | VOI split | VOI merge | VOI sum | ARAND | validation VOI sum | training, min |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ROWS:
        done = [found for seed in range(100) if (found := results(runs / run_name(name, seed))) is not None]
        if done:
            cells = [shown([run[key] for run in done]) for key in (*SCORES, "validation", "minutes")]
            print(f"| {name} | {len(done)} | {' | '.join(cells)} |")


def results(run: Path) -> dict[str, float] | None:
    """Test scores, the validation score of the chosen threshold, and the minutes of training; None if not done."""
    scored, trained = run / "scores.json", run / "train" / "done"
    if not (scored.is_file() and trained.is_file() and scored.stat().st_mtime > trained.stat().st_mtime):
        return None
    scores = json.loads((run / "scores.json").read_text())
    test = next(row for name, row in scores["rows"].items() if "-test" in name and "oracle" not in name)
    choice = json.loads((run / "choice.json").read_text())
    history = json.loads((run / "train" / "history.json").read_text())
    chosen = choice["validation"][f"{choice['value']:g}"]["voi_sum"]
    return {**{key: test[key] for key in SCORES}, "validation": chosen, "minutes": history[-1]["seconds"] / 60}


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
