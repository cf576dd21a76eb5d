"""Semi-supervised against supervised training on the development benchmark: rows x seeds, resumable.

    python benchmarks/semi.py DATA RUNS [--rows supervised ws ema ...] [--seeds 0 1 2] [--jobs 2]

Each run is `ssns run` in RUNS. Rows that learn from unlabelled raw start, for each seed, from one run of
`semi-labelled.toml` or `semi-far.toml`: pre-training, then labelled patches alone. The supervised rows see as many
labelled patches as both parts together, or take as long as both. A repeated call goes on where it stopped, runs only
what is missing, and prints the table of all rows that are done. With --jobs 2, two runs go on at a time, each on one
thread.
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
SCORES = ("voi_split", "voi_merge", "voi_sum", "arand")


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        file: The experiment.
        changes: Settings on top of it.
        start: The row whose run of the same seed it starts from, if any.
    """

    file: str
    changes: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None


def _ours(start: str = "far", **changes: str) -> Row:
    return Row("semi-ours.toml", {f"objective.{key}": value for key, value in changes.items()}, start)


ROWS = {
    "labelled": Row("semi-labelled.toml"),
    "far": Row("semi-far.toml"),
    "far, not pre-trained": Row("semi-far.toml", {"pretraining": "none"}),
    "supervised, lr 0.001": Row("semi.toml", {"training.optimizer.lr": "0.001"}),
    "supervised": Row("semi.toml"),
    "supervised, lr 0.004": Row("semi.toml", {"training.optimizer.lr": "0.004"}),
    "supervised, same time": Row("semi.toml", {"training.steps": "5000"}),
    "ws": Row("semi-ws.toml", start="labelled"),
    "ema": Row("semi-ema.toml", start="labelled"),
    "ours": _ours(),
    "ours, all of raw": Row("semi-ours.toml", {"volumes.ac4.unlabelled": "0:100"}, "far"),
    "full": Row("semi.toml", {"volumes.ac4.labelled": "0:35"}),
    "ours, not pre-trained": _ours("far, not pre-trained"),
    "ours, neighbours alone": Row("semi-ours.toml", {"auxiliary_offsets": "[]"}, "labelled"),
    "ours, reference geometry": _ours(geometry="reference"),
    "ours, joint batch": _ours(batch="joint"),
    "ours, balanced": _ours(loss='{type = "bce", balance = "channel"}'),
    "ours, confidence": _ours(confidence="0.8"),
    "ours, four orientations": _ours(orientations="4"),
    "ours, two views": _ours(views="2"),
    "ours, no cut mix": _ours(cut_mix="none"),
    "ours, cross": _ours(teacher='{type = "cross"}'),
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
    starts = list(dict.fromkeys(start for row in arguments.rows if (start := ROWS[row].start)))
    rest = [row for row in arguments.rows if row not in starts]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for rows in (starts, rest):
            wanted = [(row, seed) for seed in arguments.seeds for row in rows]
            list(pool.map(lambda run: train(arguments.data, arguments.runs, *run), wanted))
    print_table(arguments.runs)


def train(data: Path, runs: Path, name: str, seed: int) -> None:
    """One run of a row, from training to scores; none where the run that it starts from has failed."""
    row = ROWS[name]
    changes = {"seed": str(seed)} | dict(row.changes)
    if row.start is not None:
        start = runs / run_name(row.start, seed) / "train"
        if not (start / "done").is_file():
            print(f"{run_name(name, seed)}: left out, {start} is not done", flush=True)
            return
        changes["transfer.checkpoint"] = str((start / "best.pt").absolute())
    call(data, runs, row.file, run_name(name, seed), changes)


def run_name(row: str, seed: int) -> str:
    """The name of a run folder."""
    return f"{row.replace(', ', '-').replace(' ', '_')}-{seed}"


def call(data: Path, runs: Path, file: str, name: str, changes: Mapping[str, str]) -> None:
    """`ssns run` as a user would type it, on one thread; its output goes beside the run folder."""
    given = {**changes, "name": name, "runs": str(runs.absolute())}
    command = [sys.executable, "-m", "ssns.cli", "run", str(EXPERIMENTS / file)]
    command += [word for key, value in given.items() for word in (f"--{key}", value)]
    environment = os.environ | {"SSNS_DEVELOPMENT_DATA": str(data.absolute()), "OMP_NUM_THREADS": "1"}
    begin = time.monotonic()
    with (runs / f"{name}.log").open("a") as log:
        ended = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    print(f"{name}: exit code {ended.returncode}, {(time.monotonic() - begin) / 60:.1f} min", flush=True)


def print_table(runs: Path) -> None:
    """Mean and spread over the seeds that are done, in Markdown; minutes with those of the run that it starts from."""
    print("| row | seeds | VOI split | VOI merge | VOI sum | ARAND | validation VOI sum | training, min |")
    print("|---|---|---|---|---|---|---|---|")
    for name, row in ROWS.items():
        done = [found for seed in range(100) if (found := results(runs, name, row, seed)) is not None]
        if done:
            cells = [shown([run[key] for run in done]) for key in (*SCORES, "validation", "minutes")]
            print(f"| {name} | {len(done)} | {' | '.join(cells)} |")


def results(runs: Path, name: str, row: Row, seed: int) -> dict[str, float] | None:
    """Test scores, the validation score of the chosen threshold, and the minutes of training; None if not done."""
    run = runs / run_name(name, seed)
    scored, trained = run / "scores.json", run / "train" / "done"
    if not (scored.is_file() and trained.is_file() and scored.stat().st_mtime > trained.stat().st_mtime):
        return None
    scores = json.loads(scored.read_text())
    test = next(found for part, found in scores["rows"].items() if "-test" in part and "oracle" not in part)
    choice = json.loads((run / "choice.json").read_text())
    chosen = choice["validation"][f"{choice['value']:g}"]["voi_sum"]
    spent = minutes(run) + (minutes(runs / run_name(row.start, seed)) if row.start else 0)
    return {**{key: test[key] for key in SCORES}, "validation": chosen, "minutes": spent}


def minutes(run: Path) -> float:
    """Of pre-training and training, validation left out."""
    histories = [run / stage / "history.json" for stage in ("pretrain", "train")]
    return sum(float(json.loads(each.read_text())[-1]["seconds"]) for each in histories if each.is_file()) / 60


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
