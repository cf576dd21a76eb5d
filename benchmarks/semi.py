"""Semi-supervised against supervised training on the development benchmark: rows x seeds, resumable.

    python benchmarks/semi.py DATA RUNS [--rows supervised ws ema ...] [--seeds 0 1 2] [--jobs 2]
        [--picture docs/pictures/semi.png]

Each run is `ssns run` in RUNS. The supervised rows see as many labelled patches as those that learn from unlabelled
raw, or take as long. With --jobs 2, two runs go on at a time, each on one thread.

A repeated call goes on where it stopped. What a run has given is kept in --results, so that machines can share the
rows among them: what is there is not run again, and the tables are of all of it. --rows with none prints them alone.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runs import learning_seconds, ssns_run
from ssns.files import write_json
from ssns.zoo import scores_on_test

EXPERIMENTS = Path(__file__).parents[1] / "experiments" / "ac4"
RESULTS = Path(__file__).with_suffix(".json")
SCORES = ("voi_split", "voi_merge", "voi_sum", "arand", "cremi")

Results = dict[str, dict[str, Any]]
"""What each run gave, by its name."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        file: The experiment.
        changes: Settings on top of it.
        beside: Rows of labels alone; the better of them is what this one is compared with.
    """

    file: str
    changes: Mapping[str, str] = field(default_factory=dict)
    beside: Sequence[str] = ("supervised", "supervised, same time")


FAR = "[[-2, 0, 0], [-3, 0, 0], [0, -9, 0], [0, 0, -9], [0, -27, 0], [0, 0, -27]]"
"""Offsets that `ssns init` takes on a GPU, for sections of 30 nm and pixels of 6 nm."""


STRONG = """{type = "sequence", steps = [
    {type = "flip_transpose"},
    {type = "misalign", probability = 0.3, section_probability = 0.1, largest = 10},
    {type = "intensity", probability = 0.8, contrast = 0.4, brightness = 0.3, gamma_octaves = 0.8, per_section = 0.5},
    {type = "blur", probability = 0.3, sigma = [0.3, 1.5]},
    {type = "noise", probability = 0.5, sigma = [0.01, 0.15]},
    {type = "cut_out", probability = 0.5},
    {type = "missing_section", probability = 0.2, section_probability = 0.1, rectangle_probability = 0.2},
]}"""
"""Views that differ from what the teacher sees in all ways at once, and stronger than labelled patches do."""

MOVING = """{type = "one_of", choices = [
    {type = "flip_transpose"}, {type = "rotation"}, {type = "scale"}, {type = "elastic"}, {type = "misalign"},
]}"""
"""Views all of which move voxels, so that affinities of the teacher have to be carried."""

EVERYTHING = """{type = "sequence", steps = [
    {type = "flip_transpose"},
    {type = "one_of", choices = [
        {type = "rotation", probability = 0.3}, {type = "scale", probability = 0.3},
        {type = "elastic", probability = 0.3}, {type = "fold", probability = 0.3},
    ]},
    {type = "misalign", probability = 0.3, section_probability = 0.1, largest = 10},
    {type = "intensity", probability = 0.8, contrast = 0.3, brightness = 0.2, gamma_octaves = 0.5, per_section = 0.5},
    {type = "blur", probability = 0.2, sigma = [0.3, 1.5]},
    {type = "strong_blur", probability = 0.1},
    {type = "noise", probability = 0.3, sigma = [0.01, 0.08]},
    {type = "cut_out", probability = 0.2},
    {type = "missing_section", probability = 0.2, section_probability = 0.08, rectangle_probability = 0.15},
]}"""
"""Labelled patches through every family that leaves labels what they are, in place of the six that are the default."""


HALF = {"training.steps": "6000"}
"""What is changed one by one has half the steps; labels alone, too."""


def _half(**changes: str) -> Row:
    """A mean teacher in half the steps, which takes as long as labels alone with all of them."""
    return Row("semi-ema.toml", HALF | changes, beside=("supervised, half the steps", "supervised"))


def _ema(**changes: str) -> Row:
    return _half(**{f"objective.{key}": value for key, value in changes.items()})


ROWS = {
    "supervised, lr 0.001": Row("semi.toml", {"training.optimizer.lr": "0.001"}),
    "supervised": Row("semi.toml"),
    "supervised, lr 0.004": Row("semi.toml", {"training.optimizer.lr": "0.004"}),
    "supervised, same time": Row("semi.toml", {"training.steps": "24000"}),
    "supervised, same time, lr 0.001": Row("semi.toml", {"training.steps": "24000", "training.optimizer.lr": "0.001"}),
    "ws": Row("semi-ws.toml"),
    "ema": Row("semi-ema.toml"),
    "ours": Row("semi-ours.toml", {"objective.teacher_steps": "12000", "training.steps": "7500"}),
    "supervised, longer": Row("semi.toml", {"training.steps": "48000"}),
    "ours, longer": Row("semi-ours.toml"),
    "full": Row("semi.toml", {"volumes.ac4.labelled": "0:35"}),
    "full, same time": Row("semi.toml", {"volumes.ac4.labelled": "0:35", "training.steps": "24000"}),
    "supervised, half the steps": Row("semi.toml", HALF, beside=("supervised, half the steps",)),
    "supervised, all augmentations": Row(
        "semi.toml", HALF | {"augmentation": EVERYTHING}, beside=("supervised, half the steps",)
    ),
    "pre-trained, half the steps": _half(objective='{type = "supervised"}'),
    "ema, half the steps": _ema(),
    "ema, not pre-trained": _half(pretraining="none"),
    "ema, masked blocks": _half(**{"pretraining.task": '{type = "masked_blocks"}'}),
    "ema, moving views": _ema(strong=MOVING, boundaries="masked"),
    "ema, moving views, reference geometry": _ema(strong=MOVING, geometry="reference"),
    "ema, moving views, boundaries kept": _ema(strong=MOVING, boundaries="kept"),
    "ema, joint batch": _ema(batch="joint"),
    "ema, all of raw": _half(**{"volumes.ac4.unlabelled": "0:100"}),
    "ema, offsets farther away": _half(auxiliary_offsets=FAR),
    "ema, cross-entropy": _ema(loss='{type = "bce"}'),
    "ema, confidence": _ema(confidence="0.8"),
    "ema, four orientations": _ema(orientations="4"),
    "ema, two views": _ema(views="2"),
    "ema, cut mix in plane": _ema(cut_mix="{plane = 0.5, depth = 0}"),
    "ema, cut mix through z": _ema(cut_mix="{plane = 0, depth = 0.5}"),
    "ema, strong views": _ema(strong=STRONG),
    "ema, cross": _ema(teacher='{type = "cross"}'),
}


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the development volumes")
    parser.add_argument("runs", type=Path, help="folder of the run folders")
    parser.add_argument("--rows", nargs="*", default=[], choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON of what runs have given; %(default)s")
    parser.add_argument("--picture", type=Path, help="PNG of VOI sums and learning curves")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    done = read(arguments.results)
    wanted = [(row, seed) for seed in arguments.seeds for row in arguments.rows if run_name(row, seed) not in done]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda run: train(arguments.data, arguments.runs, arguments.results, *run), wanted))
    print_tables(read(arguments.results))
    if arguments.picture is not None:
        draw(arguments.picture, read(arguments.results))


def train(data: Path, runs: Path, kept: Path, name: str, seed: int) -> None:
    """One run of a row, from training to scores."""
    run = runs / run_name(name, seed)
    call(data, run, ROWS[name].file, {"seed": str(seed)} | dict(ROWS[name].changes))
    if (found := results(run, seed)) is not None:
        with (runs / "results.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process may add its own at the same time
            write_json(kept, dict(sorted((read(kept) | {run.name: found}).items())))


def read(kept: Path) -> Results:
    """What runs have given so far."""
    return dict(json.loads(kept.read_text())) if kept.is_file() else {}


def run_name(row: str, seed: int) -> str:
    """The name of a run folder."""
    return f"{row.replace(', ', '-').replace(' ', '_')}-{seed}"


def call(data: Path, run: Path, file: str, changes: Mapping[str, str]) -> None:
    """The experiment with changes, on one thread."""
    options = [word for key, value in changes.items() for word in (f"--{key}", value)]
    begin = time.monotonic()
    ended = ssns_run(
        EXPERIMENTS / file, run, options, {"SSNS_DEVELOPMENT_DATA": str(data.absolute()), "OMP_NUM_THREADS": "1"}
    )
    print(f"{run.name}: exit code {ended}, {(time.monotonic() - begin) / 60:.1f} min", flush=True)


def print_tables(found: Results) -> None:
    """Mean and spread over the seeds that are done, and the learning curve of each run, in Markdown."""
    columns = ("row", "seeds", "VOI split", "VOI merge", "VOI sum", "of labels alone", "ARAND", "CREMI")
    print(f"| {' | '.join((*columns, 'validation VOI sum', 'training, min'))} |\n{'|---' * (len(columns) + 2)}|")
    done = by_row(found)
    for name, runs in done.items():
        cells = [shown([run[key] for run in runs]) for key in (*SCORES, "validation")]
        cells.insert(SCORES.index("voi_sum") + 1, of_labels_alone(found, name, runs))
        cells.append(f"{np.mean([run['minutes'] for run in runs]):.0f}")
        print(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    print("\n| row | seed | validation VOI sum by step | commit | processor |")
    print("|---|---|---|---|---|")
    for name, runs in done.items():
        for run in runs:
            curve = ", ".join(f"{step}: {voi:.3f}" for step, voi in run["curve"])
            commit = run["commit"][:7] + "+" * run["commit"].endswith("+changes")
            print(f"| {name} | {run['seed']} | {curve} | {commit} | {run['processor']} |")


def by_row(found: Results) -> dict[str, list[dict[str, Any]]]:
    """The runs of each row that has any, by seed."""
    done = {name: [run for seed in range(100) if (run := found.get(run_name(name, seed)))] for name in ROWS}
    return {name: runs for name, runs in done.items() if runs}


def of_labels_alone(found: Results, name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """VOI sum as a share of that of labels alone, of the same seeds; not before these are all there."""
    beside = [[found.get(run_name(row, run["seed"])) for run in runs] for row in ROWS[name].beside]
    if not beside or not all(map(all, beside)):
        return "–"
    sums = [np.mean([run["voi_sum"] for run in each if run]) for each in beside]
    return f"{np.mean([run['voi_sum'] for run in runs]) / min(sums):.2f}"


def draw(path: Path, found: Results) -> None:
    """VOI sums on the test part, a dot for each seed, and learning curves, of means; rows of half the steps below."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    done = by_row(found)
    halves = [name for name in done if ROWS[name].changes.get("training.steps") == HALF["training.steps"]]
    groups = [[name for name in done if name not in halves], halves]
    figure = Figure(figsize=(15, 2 + 0.4 * len(done)), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2, squeeze=False, height_ratios=[len(names) + 2 for names in groups])
    for (sums, curves), names in zip(axes, groups, strict=True):
        for place, name in enumerate(names):
            colour = colormaps["tab20"](place)
            values = [run["voi_sum"] for run in done[name]]
            sums.plot(values, [place] * len(values), "o", color=colour)
            sums.plot(np.mean(values), place, "|", color=colour, markersize=18)
            steps, heights = np.mean([run["curve"] for run in done[name]], axis=0).T
            curves.plot(steps, heights, ".-", color=colour, label=name)
        sums.set_yticks(range(len(names)), names)
        sums.set(xlabel="VOI sum, test", ylim=(len(names) - 0.5, -0.5))
        sums.grid(axis="both", alpha=0.3)
        curves.set(xlabel="step (of the last training)", ylabel="VOI sum, validation", xlim=(0, None), ylim=(0.4, 0.9))
        curves.legend(fontsize=7, ncols=2)
    figure.savefig(path)


def results(run: Path, seed: int) -> dict[str, Any] | None:
    """Test scores, the validation score of the chosen threshold, curve and minutes of training; None if not done."""
    scored, trained = run / "scores.json", run / "train" / "done"
    if not (scored.is_file() and trained.is_file() and scored.stat().st_mtime > trained.stat().st_mtime):
        return None
    test = scores_on_test(json.loads(scored.read_text())["rows"])
    choice = json.loads((run / "choice.json").read_text())
    history = json.loads((run / "train" / "history.json").read_text())
    made = json.loads((run / "provenance.json").read_text())["train"]
    return {
        **{key: test[key] for key in SCORES},
        "validation": choice["validation"][f"{choice['value']:g}"]["voi_sum"],
        "minutes": minutes(run),
        "curve": [[at["step"], at["validation/voi_sum"]] for at in history if "validation/voi_sum" in at],
        "seed": seed,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": made["git"],
        "processor": made["processor"],
    }


def minutes(run: Path) -> float:
    """Of pre-training, of both networks, and of what the first one predicts and segments; validation left out."""
    seconds = sum(learning_seconds(run / stage) for stage in ("pretrain", "teach/train", "train"))
    if (taught := run / "teach" / "taught.stamp.json").is_file():
        seconds += taught.stat().st_mtime - (run / "teach" / "train" / "done").stat().st_mtime
    return seconds / 60


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
