"""What an artefact was made of, and so whether it is still valid."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from ssns.commands.terminal import say
from ssns.files import write_json
from ssns.volume import fingerprint, open_volume

MADE_AT = "made_at"
"""The attribute that tells when a stage began to write a volume; a copy has it, unlike the times of files."""

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
    thing look done. What is written has the hashes of inputs of at most `HASHED_BYTES`. Without ``verify`` these are
    compared only where nothing but sizes and times of files differ, as of copies; else no data are read.

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
        found = self._compared(self.content)
        copied = found and not self._compared(self.content, files=False)
        return self._compared(self._kept) if copied else found

    def _compared(self, now: Mapping[str, Any], *, files: bool = True) -> list[str]:
        """Names of what differs from the written stamp; sizes and times of files may be left out."""
        return list(_differences(json.loads(self.path.read_text()), json.loads(json.dumps(now)), files=files))

    def write(self) -> None:
        """Keep the stamp."""
        write_json(self.path, self._kept)

    @cached_property
    def _kept(self) -> Mapping[str, Any]:
        """What is written."""
        return self.content if self.verify else self.describe(HASHED_BYTES)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Around the work: the old stamp goes before it, the new one is written where it ends well."""
        kept = self._kept  # of the data that the work begins with
        self.path.unlink(missing_ok=True)
        yield
        write_json(self.path, kept)

    def holds(self, artefact: Path, name: str) -> bool:
        """Whether ``artefact`` is there and up to date, which is said under ``name``; or else what has changed.

        Where hashes were compared these are kept, and the present times of files, for later runs.

        Args:
            artefact: What the stamp speaks for.
            name: Stage and part, for the user.
        """
        changes = self.differences()
        if changes == [] and artefact.exists():
            say(f"{name}: skipped, {artefact} is up to date")
            if self.verify or self._compared(self.content):
                self.write()
            return True
        if changes:
            say(f"{name}: again, because of {shown(changes)}")
        return False


FILE_STATE = {"files", "bytes", "modified_ns"}
"""What a fingerprint says of files. Where two tell the data too, by one of `DATA`, that alone is compared."""

DATA = {"blake2b", MADE_AT}
"""What tells data apart, wherever they are copied to."""


def _differences(before: Any, now: Any, name: str = "", *, files: bool = True) -> Iterator[str]:
    """Dotted names of what differs between two tables; a file, or another choice of a component, is one thing.

    Args:
        before: One.
        now: The other.
        name: Of both.
        files: Whether sizes and times of files count.
    """
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if before != now:
            yield name
        return
    left_out = FILE_STATE if DATA & before.keys() & now.keys() else DATA
    names = (before.keys() | now.keys()) - left_out
    if before.get("type") != now.get("type"):
        names = {"type"}
    elif names & FILE_STATE and not files:
        names -= FILE_STATE
    elif names & FILE_STATE and any(before.get(key) != now.get(key) for key in names):
        yield name
        return
    for key in sorted(names):
        yield from _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."), files=files)


def _without_file_state(content: Any) -> Any:
    """Content that tells of files only where it does not tell their data."""
    if not isinstance(content, Mapping):
        return content
    left_out = FILE_STATE if DATA & content.keys() else set()
    return {key: _without_file_state(value) for key, value in content.items() if key not in left_out}


def shown(changes: Sequence[str]) -> str:
    """The first of many names of changes, as a user knows them."""
    suffixes = tuple(f".{name}" for name in DATA)
    names = [name.removeprefix("settings.") for name in changes]
    names = [f"the data of {name.rpartition('.')[0]}" if name.endswith(suffixes) else name for name in names]
    return ", ".join(names[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "")


def file_state(path: Path) -> dict[str, Any]:
    """What tells whether a checkpoint or a skeleton is another one: its data, which are some 100 MB at most."""
    state = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
    return {"bytes": state.st_size, "modified_ns": state.st_mtime_ns, "blake2b": digest.hexdigest()}


def made_now() -> dict[str, str]:
    """`MADE_AT` of a volume that a stage is about to write."""
    return {MADE_AT: datetime.now(UTC).isoformat()}


def artefact_state(path: Path) -> dict[str, Any]:
    """What tells whether a volume in a run folder is another one: when it was made, if a stage made it."""
    volume = open_volume(path)
    return fingerprint(volume) | {key: value for key, value in volume.attributes.items() if key == MADE_AT}
