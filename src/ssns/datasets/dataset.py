"""What is known of a published data set: what to fetch, in which forms it comes, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ssns.errors import UserError
from ssns.space import Triple, VoxelSize
from ssns.volume import Role
from ssns.volume.opening import split_dataset

Shape = tuple[int | None, int | None, int | None]
"""Voxels (z, y, x); None where any extent is right."""


@dataclass(frozen=True)
class Download:
    """Something that the user fetches.

    Attributes:
        what: Files, and what they hold.
        where: URL, or whom to ask.
        size: As a person says it; empty where not known.
        put: How it must lie in the folder of downloads.
    """

    what: str
    where: str
    size: str
    put: str


@dataclass(frozen=True)
class Layout:
    """One of the forms in which the voxels of an output are published.

    Attributes:
        path: File or folder as it lies in the folder of downloads, or up to two folders deeper; ``file:dataset`` for an
            array in it.
        start: Where the output begins in the frame of the source, voxels (z, y, x); ``all``: the output is the whole
            source; ``ask``: nobody has published it, so the user has to say.
        reversed: The last page is section 0.
        rgb_ids: Ids are coded as colours, as VAST exports them.
        repaired: Defective sections have been interpolated already.
        ids: How many ids its labels have, 0 left out; None: not known.
        sha256: Of the file; None: not known.
    """

    path: str
    start: Triple | Literal["all", "ask"] = "all"
    reversed: bool = False
    rgb_ids: bool = False
    repaired: bool = False
    ids: int | None = None
    sha256: str | None = None

    def find(self, downloads: Path) -> Path | None:
        """Where it is, ``file:dataset`` included; None where it is not.

        Raises:
            UserError: It is there more than once.
        """
        file, dataset = split_dataset(self.path)
        found = sorted(path for level in ("", "*/", "*/*/") for path in downloads.glob(f"{level}{file.as_posix()}"))
        if len(found) > 1:
            raise UserError(f"{file} is in {downloads} more than once ({found[0]}, {found[1]}): move one away")
        return None if not found else Path(f"{found[0]}:{dataset}") if dataset else found[0]


@dataclass(frozen=True)
class Output:
    """One file that is made.

    Attributes:
        path: Below the user's folder, as the experiments name it.
        role: Raw or labels.
        shape: What it must be.
        voxel_size_nm: Nanometres (z, y, x).
        layouts: What it can be made of, best first.
        raw: Labels: path of the output that they label.
        shape_like: Path of the output that has the same shape, where ``shape`` does not tell it.
        defects: Sections known to be defective, which are interpolated, beside those that are blank; None: raw is left
            as it is.
        blake2b: Of its voxels, as in the project's own measurements; None: not known.
    """

    path: str
    role: Role
    shape: Shape
    voxel_size_nm: VoxelSize
    layouts: tuple[Layout, ...]
    raw: str | None = None
    shape_like: str | None = None
    defects: tuple[int, ...] | None = None
    blake2b: str | None = None

    @property
    def name(self) -> str:
        """How a user names it: its file without folder and suffix."""
        return PurePosixPath(self.path).stem


@dataclass(frozen=True)
class Dataset:
    """A published data set.

    Attributes:
        name: What the user types.
        title: One line.
        downloads: What to fetch.
        outputs: What is made; one whose shape others take comes before them.
        licence: Under which it may be used, or that this is not stated.
        citation: What to cite.
        experiments: Names of shipped experiments, in ``experiments/paper``, and the outputs that each needs.
    """

    name: str
    title: str
    downloads: tuple[Download, ...]
    outputs: tuple[Output, ...]
    licence: str
    citation: str
    experiments: tuple[tuple[str, tuple[str, ...]], ...] = ()
