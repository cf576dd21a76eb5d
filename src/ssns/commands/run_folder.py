"""The run folder: where each stage writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ssns.commands.processes import is_first_process
from ssns.commands.stamps import Describe, Stamp
from ssns.errors import UserError
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
    def certainty(self) -> Path:
        """Which segments of all pseudo-labels may be one neuron: ``bold`` and ``apart`` of `PseudoLabels`."""
        return self.teaching / "certainty.npz"

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
