"""Markers of finished blocks: files in a folder that is named by a hash of what is computed.

A killed run that starts again skips what is marked; one whose settings or inputs changed finds no marker of its own.
Markers say nothing about the data themselves: keep their folder beside these, write a block before it is marked, and
call `Markers.clear` whenever the data begin anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ssns.blockwise.grid import Block
from ssns.errors import UserError
from ssns.files import write_text

SHOWN = 5
"""Missing blocks that an error names, before it only counts them."""


class MissingBlocksError(UserError):
    """The work ended with blocks not done: the output has holes, and the command line exits with 3.

    Attributes:
        blocks: Those that are missing.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, blocks: list[Block]) -> None:
        named = "; ".join(str(block) for block in blocks[:SHOWN])
        more = f"; and {len(blocks) - SHOWN} more" if len(blocks) > SHOWN else ""
        super().__init__(f"{len(blocks)} blocks are missing: {named}{more}: run the same command again to fill them")
        self.blocks = blocks


class Markers:
    """What is done of one computation.

    Opening them removes the markers of any other computation in the folder: its data are about to be overwritten, so
    that returning to its settings later must not find them believed.

    Args:
        folder: Where markers are kept; made if missing. It holds markers of one output and nothing else.
        what: All that the result depends on, settings and fingerprints of inputs, as JSON holds it.
    """

    def __init__(self, folder: Path, what: Mapping[str, Any]) -> None:
        text = json.dumps(what, sort_keys=True, allow_nan=False)
        self.folder = folder / hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        if folder.is_dir():
            for other in folder.iterdir():
                if other != self.folder and other.is_dir():
                    shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "what.json").exists():
            self._write("what.json", json.dumps(what, sort_keys=True, indent=1))

    def done(self, block: Block) -> bool:
        """Whether ``block`` is marked."""
        return self._marker(block).exists()

    def mark(self, block: Block) -> None:
        """Say that ``block`` is computed and written."""
        self._marker(block).touch()

    def missing(self, blocks: Iterable[Block]) -> list[Block]:
        """Those of ``blocks`` that are not marked, in their order."""
        return [block for block in blocks if not self.done(block)]

    def require(self, blocks: Iterable[Block]) -> None:
        """Make sure that nothing is left to do.

        Raises:
            MissingBlocksError: Some of ``blocks`` are not marked.
        """
        missing = self.missing(blocks)
        if missing:
            raise MissingBlocksError(missing)

    def pinned(self, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """What the first run chose under ``name``: ``value`` now, and the same again in every later run.

        For choices that a machine makes by what it has free, and that must stay as they are when a run goes on.

        Args:
            name: Name of the choice.
            value: The choice, as JSON holds it.
        """
        path = self.folder / f"{name}.json"
        if not path.exists():
            self._write(path.name, json.dumps(value, sort_keys=True, allow_nan=False))
        pinned: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return pinned

    def clear(self) -> None:
        """Forget everything, pinned choices included: the output begins anew."""
        what = (self.folder / "what.json").read_text(encoding="utf-8")
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._write("what.json", what)

    def _marker(self, block: Block) -> Path:
        # named by its voxels, so that a marker never speaks for another part after the grid has changed
        ends = zip(block.write.start, block.write.stop, strict=True)
        return self.folder / ("_".join(f"{start}-{stop}" for start, stop in ends) + ".done")

    def _write(self, name: str, text: str) -> None:
        write_text(self.folder / name, text)
