"""The run folder: where each stage writes, and whether what it wrote is still valid."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import tomlkit

from ssns.commands.processes import is_first_process
from ssns.commands.terminal import say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.files import replacing
from ssns.volume import fingerprint, open_volume


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
    def pretraining(self) -> Path:
        """Folder of the checkpoints and curves of the pre-training."""
        return self.path / "pretrain"

    @property
    def best_pretrained(self) -> Path:
        """The checkpoint that training takes weights over from."""
        return self.pretraining / "best.pt"

    @property
    def teaching(self) -> Path:
        """Run folder of the network whose segmentation `train` learns from."""
        return self.path / "teach"

    @property
    def best_teacher(self) -> Path:
        """The checkpoint of that network."""
        return RunFolder(self.teaching).best

    @property
    def bold(self) -> Path:
        """The bold segment of each cautious one, of all pseudo-labels."""
        return self.teaching / "bold.npy"

    def pseudo_labels(self, part: str) -> Path:
        """Cautious segments of a part of the unlabelled regions."""
        return self.teaching / part / "pseudo_labels.zarr"

    def pseudo_labels_picture(self, part: str) -> Path:
        """The middle of a part: raw, cautious and bold segments."""
        return self.teaching / part / "pseudo_labels.png"

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

    def stamp(self, name: str, describe: Describe, *, verify: bool = False) -> Stamp:
        """The stamp of what is called ``name`` (a path without suffix) in this folder."""
        return Stamp(self.path / f"{name}.stamp.json", describe, verify)

    @property
    def history(self) -> Path:
        """Losses and validation scores by step."""
        return self.training / "history.json"

    @property
    def choice(self) -> Path:
        """The sweep on the validation parts, and the threshold chosen."""
        return self.path / "choice.json"

    @property
    def scores(self) -> Path:
        """All scores."""
        return self.path / "scores.json"

    @property
    def objects(self) -> Path:
        """What each neuron and each segment adds to the scores."""
        return self.path / "objects.csv"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this folder; a process that dies lets go.

        Raises:
            UserError: Another process works in it.
        """
        if not is_first_process():
            yield  # the first one has it
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("a+") as file:
            if not _lock(file):
                file.seek(0)
                raise UserError(
                    f"{self.path}: process {file.read().strip()} works in this run folder: wait for it, or give this"
                    " experiment another name"
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def file_state(path: Path) -> dict[str, Any]:
    """What tells whether a checkpoint or a skeleton is another one: its data, which are some 100 MB at most."""
    state = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return {"bytes": state.st_size, "modified_ns": state.st_mtime_ns, "blake2b": digest.hexdigest()}


MADE_AT = "made_at"
"""The attribute that tells when a stage began to write a volume; a copy has it, unlike the times of files."""


def made_now() -> dict[str, str]:
    """`MADE_AT` of a volume that a stage is about to write."""
    return {MADE_AT: datetime.now(UTC).isoformat()}


def artefact_state(path: Path) -> dict[str, Any]:
    """What tells whether a volume in a run folder is another one: when it was made, if a stage made it."""
    volume = open_volume(path)
    return fingerprint(volume) | {key: value for key, value in volume.attributes.items() if key == MADE_AT}


def _lock(file: IO[str]) -> bool:
    """Lock an open file for this process; False if another has it. Where files cannot be locked, nobody is refused."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return True
    return True


HASHED_BYTES = 4 * 2**30
"""Of an input of at most so many bytes of voxels, decoded, the data are hashed whenever a stage does its work: seconds,
beside minutes. A later ``--verify`` compares them; those of larger inputs only if that work had ``--verify`` too."""

Describe = Callable[[float], Mapping[str, Any]]
"""``describe(hash_up_to)``: settings, and fingerprints of inputs, with hashes of those of at most so many bytes of
voxels; JSON-ready."""


@dataclass(frozen=True)
class Stamp:
    """What something was made of; an equal stamp means that it need not be made again.

    It is removed before what it speaks for is touched and written after, so that a kill between never makes a half-made
    thing look done. Without ``verify`` no data are read to compare it; what is written has the hashes of inputs of at
    most `HASHED_BYTES` all the same.

    Attributes:
        path: The file that keeps it, beside what was made.
        describe: Tells what it is made of.
        verify: Compare the data of inputs, whatever their size.
    """

    path: Path
    describe: Describe
    verify: bool = False

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """What is compared."""
        return self.describe(math.inf if self.verify else 0)

    @property
    def key(self) -> str:
        """A short hash of the content, which the times of copied files do not change where their data are known."""
        text = json.dumps(_without_file_state(self.content), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def differences(self) -> list[str] | None:
        """Names of what has changed since the stamp was written; None if there is no stamp."""
        if not self.path.is_file():
            return None
        return list(_differences(json.loads(self.path.read_text()), json.loads(json.dumps(self.content))))

    def write(self) -> None:
        """Keep the stamp."""
        write_json(self.path, self._kept())

    def _kept(self) -> Mapping[str, Any]:
        return self.content if self.verify else self.describe(HASHED_BYTES)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Around the work: the old stamp goes before it, the new one is written where it ends well."""
        kept = self._kept()  # of the data that the work begins with
        self.path.unlink(missing_ok=True)
        yield
        write_json(self.path, kept)

    def holds(self, artefact: Path, name: str) -> bool:
        """Whether ``artefact`` is there and up to date, which is said under ``name``; or else what has changed.

        With ``verify`` the hashes that were compared are kept, and the present times of files, for later runs.

        Args:
            artefact: What the stamp speaks for.
            name: Stage and part, for the user.
        """
        changes = self.differences()
        if changes == [] and artefact.exists():
            say(f"{name}: skipped, {artefact} is up to date")
            if self.verify:
                self.write()
            return True
        if changes:
            say(f"{name}: again, because of {shown(changes)}")
        return False


FILE_STATE = {"files", "bytes", "modified_ns"}
"""What a fingerprint says of files. Where two tell the data too, by one of `DATA`, that alone is compared."""

DATA = {"blake2b", MADE_AT}
"""What tells data apart, wherever they are copied to."""


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Dotted names of what differs between two tables; a file, or another choice of a component, is one thing."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if before != now:
            yield name
        return
    left_out = FILE_STATE if DATA & before.keys() & now.keys() else DATA
    names = (before.keys() | now.keys()) - left_out
    if before.get("type") != now.get("type"):
        names = {"type"}
    elif names & FILE_STATE and any(before.get(key) != now.get(key) for key in names):
        yield name
        return
    for key in sorted(names):
        yield from _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))


def _without_file_state(content: Any) -> Any:
    """Content that tells of files only where it does not tell their data."""
    if not isinstance(content, Mapping):
        return content
    left_out = FILE_STATE if DATA & content.keys() else set()
    return {key: _without_file_state(value) for key, value in content.items() if key not in left_out}


def shown(changes: Sequence[str]) -> str:
    """The first of many names of changes."""
    return ", ".join(changes[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "")


def write_json(path: Path, content: Any) -> None:
    """Write JSON; an older file stays whole until the new one is."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1))


def keep_experiment(experiment: Experiment, folder: RunFolder, stage: str) -> None:
    """Write the resolved experiment into the run folder, and what ``stage`` is about to be made with.

    To be called where there is work to do, so that a later run which skips it leaves the versions of that time.
    """
    with replacing(folder.path / "experiment.toml") as partial:
        partial.write_text(resolved_toml(experiment), encoding="utf-8")
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
