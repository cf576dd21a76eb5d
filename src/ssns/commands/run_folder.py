"""The run folder: where each stage writes, and whether what it wrote is still valid."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from ssns.experiment import Experiment


@dataclass(frozen=True)
class RunFolder:
    """Paths of one experiment's artefacts."""

    path: Path

    @classmethod
    def of(cls, experiment: Experiment) -> RunFolder:
        """The folder of an experiment: ``runs``/``name``."""
        return cls(Path(experiment.runs) / experiment.name)

    @property
    def training(self) -> Path:
        """Folder of the checkpoints and curves."""
        return self.path / "train"

    @property
    def best(self) -> Path:
        """The checkpoint that predicts."""
        return self.training / "best.pt"

    def affinities(self, part: str) -> Path:
        """Affinities of a part."""
        return self.path / part / "affinities.zarr"

    def segmentation(self, part: str) -> Path:
        """Segments of a part."""
        return self.path / part / "segmentation.zarr"

    @property
    def choice(self) -> Path:
        """The sweep on the validation parts, and the threshold chosen."""
        return self.path / "choice.json"

    @property
    def scores(self) -> Path:
        """All scores."""
        return self.path / "scores.json"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.path / "report.html"


@dataclass(frozen=True)
class Stamp:
    """What a stage was made of; equal stamps mean that it need not be made again.

    Attributes:
        path: The file that keeps it, beside what the stage wrote.
        content: Settings and fingerprints of inputs, JSON-ready.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def key(self) -> str:
        """A short hash of the content."""
        return hashlib.blake2b(json.dumps(self.content, sort_keys=True).encode(), digest_size=8).hexdigest()

    def differences(self) -> list[str] | None:
        """Names of what has changed since the stamp was written; None if there is no stamp."""
        if not self.path.is_file():
            return None
        before = _flat(json.loads(self.path.read_text()))
        now = _flat(json.loads(json.dumps(self.content)))
        return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))

    def write(self) -> None:
        """Keep the stamp: the stage is done."""
        write_json(self.path, self.content)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested tables, by dotted name."""
    if not isinstance(value, dict):
        return {name: value}
    leaves: dict[str, Any] = {}
    for part, inner in value.items():
        leaves |= _flat(inner, f"{name}.{part}".strip("."))
    return leaves


def write_json(path: Path, content: Any) -> None:
    """Write JSON; an older file stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True))
    partial.replace(path)


def keep_experiment(experiment: Experiment, folder: RunFolder) -> None:
    """Write the resolved experiment, and versions, seed and git state, into the run folder."""
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "experiment.toml").write_text(resolved_toml(experiment))
    write_json(folder.path / "provenance.json", provenance(experiment))


def resolved_toml(experiment: Experiment) -> str:
    """The experiment with every default written out."""
    return tomlkit.dumps(_without_null(experiment.model_dump(mode="json")))


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_null(inner) for inner in value]
    return "none" if value is None else value


def provenance(experiment: Experiment) -> dict[str, Any]:
    """What a result was made with."""
    versions = {"python": platform.python_version()}
    for name in ("ssns", "torch", "numpy", "bioimage-cpp", "waterz", "mahotas", "tensorstore"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"seed": experiment.seed, "versions": versions, "platform": platform.platform(), "git": _git_state()}


def _git_state() -> str:
    """Commit of the code, with ``+changes`` where the tree differs from it; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
