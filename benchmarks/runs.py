"""`ssns run`, as benchmarks call it, and what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def ssns_run(experiment: Path, run: Path, options: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """`ssns run` as a user would type it, into the run folder ``run``, its output beside that; the exit code."""
    given = ("--name", run.name, "--runs", str(run.parent.absolute()))
    with run.with_name(f"{run.name}.log").open("a") as log:
        command = [sys.executable, "-m", "ssns.cli", "run", str(experiment), *given, *options]
        ended = subprocess.run(command, env=os.environ | (environment or {}), stdout=log, stderr=log, check=False)
    return ended.returncode


def learning_seconds(folder: Path) -> float:
    """What a training took; 0 where there was none."""
    history = folder / "history.json"
    return float(json.loads(history.read_text())[-1]["seconds"]) if history.is_file() else 0.0
