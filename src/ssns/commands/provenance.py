"""What results were made with: the resolved experiment, versions, processor, commit."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import tomlkit

from ssns.commands.run_folder import RunFolder
from ssns.experiment import Experiment
from ssns.files import write_json, write_text


def keep_experiment(experiment: Experiment, folder: RunFolder, stage: str) -> None:
    """Write the resolved experiment into the run folder, and what ``stage`` is about to be made with.

    To be called where there is work to do, so that a later run which skips it leaves the versions of that time.
    """
    write_text(folder.path / "experiment.toml", resolved_toml(experiment))
    path = folder.path / "provenance.json"
    stages = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, stages | {stage: provenance(experiment)})


def resolved_toml(experiment: Experiment) -> str:
    """The experiment with every default written out."""
    return tomlkit.dumps(_without_null(experiment.model_dump(mode="json", exclude={"base", "preset"})))


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_null(inner) for inner in value]
    return "none" if value is None else value


def provenance(experiment: Experiment) -> dict[str, Any]:
    """What a result was made with."""
    versions = {"python": platform.python_version()}
    for name in ("ssns", "torch", "numpy", "bioimage-cpp", "numba", "tensorstore"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "seed": experiment.seed,
        "versions": versions,
        "platform": platform.platform(),
        "processor": _processor(),
        "git": _git_state(),
    }


def _processor() -> str:
    """Its name, as far as the system tells, and what it computes bf16 with, if it does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in fields.get("flags", "").split() if "bf16" in flag]
    return ", ".join([fields.get("model name", platform.processor()), *flags])


def _git_state() -> str:
    """Commit of the code, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
