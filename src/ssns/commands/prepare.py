"""`ssns prepare`: published data sets as the files that the shipped experiments read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssns.commands.terminal import progress_bar, say, warn
from ssns.datasets import (
    DATASETS,
    Converted,
    Dataset,
    Layout,
    Output,
    Plan,
    Shape,
    check_shape,
    convert,
    plan_output,
    reversed_fits_better,
)
from ssns.errors import Stopped, UserError, nearest
from ssns.space import AXES, Box, Triple, triple
from ssns.volume import Volume, open_volume


@dataclass(frozen=True)
class Wishes:
    """What a user wants otherwise than the data set says, by the name of the output.

    Attributes:
        crops: Boxes of the source.
        defects: Sections to interpolate.
        force: Whether to make finished files again.
        unverified: Whether to take sources of another checksum or number of ids.
    """

    crops: Mapping[str, Box] = field(default_factory=dict)
    defects: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    force: bool = False
    unverified: bool = False


def list_datasets() -> None:
    """Print the data sets."""
    width = max(map(len, DATASETS))
    for dataset in DATASETS.values():
        say(f"{dataset.name:<{width}}  {dataset.title}")
    say("`ssns prepare DATASET FOLDER` says what to fetch and where to put it; with that there, it makes the files.")


def prepare_dataset(name: str, folder: Path, downloads: Path | None = None, wishes: Wishes | None = None) -> None:
    """Make the files of a data set that its downloads allow, and say what is missing.

    A finished file is left as it is, so that an interrupted preparation goes on with the first unfinished one.

    Args:
        name: Of the data set.
        folder: What ``SSNS_DATA`` is to be.
        downloads: Where the user has put what was fetched; None: ``downloads`` in the folder.
        wishes: What is wanted otherwise.

    Raises:
        UserError: There is no such data set, nothing to make it of, or a source is not what it should be.
    """
    if name not in DATASETS:
        raise UserError(f"prepare: there is no data set {name}{nearest(name, DATASETS)}: {', '.join(DATASETS)}")
    dataset, wishes = DATASETS[name], wishes or Wishes()
    downloads = folder / "downloads" if downloads is None else downloads
    for wanted in (*wishes.crops, *wishes.defects):
        if wanted not in (names := [output.name for output in dataset.outputs]):
            raise UserError(f"prepare: {name} has no {wanted}{nearest(wanted, names)}: {', '.join(names)}")
    found = _Found.of(dataset, folder, downloads, wishes)
    for output in found.there:
        say(f"{output.path}: is there")
    for plan in found.plans:
        say(_made(plan, _convert(plan, folder, wishes)))
    _check_order(dataset, folder, found)
    if found.missing:
        _say_what_is_missing(dataset, downloads, found)
    say(f"to cite: {dataset.citation}; licence: {dataset.licence}")
    if not found.there and not found.plans:
        raise UserError(
            f"prepare: nothing to make {name} of is in {downloads}: fetch it, and run the same command again"
        )
    say(f"next: {_next_command(dataset, folder, downloads)}")


def parse_crops(texts: Sequence[str]) -> dict[str, Box]:
    """Boxes given as ``NAME=z:z,y:y,x:x``.

    Raises:
        UserError: A text is of another form, or a box is empty.
    """
    return {name: _box(text) for name, text in _named("crop", texts, "AC4_5=1100:1200,5440:6464,4400:5424")}


def parse_defects(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Sections given as ``NAME=14,74`` or ``NAME=none``.

    Raises:
        UserError: A text is of another form.
    """
    return {name: _sections(text) for name, text in _named("defects", texts, "cremiC_inputs_interp=14,74")}


@dataclass(frozen=True)
class _Found:
    """What can be made of a data set.

    Attributes:
        there: Finished.
        plans: To be made.
        missing: The rest, and why each of it cannot be made.
    """

    there: list[Output]
    plans: list[Plan]
    missing: list[tuple[Output, str]]

    @classmethod
    def of(cls, dataset: Dataset, folder: Path, downloads: Path, wishes: Wishes) -> _Found:
        """Look at what is there, and open every source before any work begins."""
        found = cls([], [], [])
        shapes: dict[str, Triple] = {}
        for output in dataset.outputs:
            shape = shapes.get(output.shape_like or "", output.shape)
            if (folder / output.path).exists() and not wishes.force:
                shapes[output.path] = _finished(folder, output, shape, wishes).shape
                found.there.append(output)
                continue
            source = _source(output, downloads)
            reason = _obstacle(output, source, shape, wishes)
            if source is None or reason:
                found.missing.append((output, reason))
                continue
            layout, path = source
            crop, defects = wishes.crops.get(output.name), wishes.defects.get(output.name)
            plan = plan_output(output, layout, path, shape=shape, crop=crop, defects=defects)
            shapes[output.path] = plan.volume.shape
            found.plans.append(plan)
        return found


def _finished(folder: Path, output: Output, shape: Shape, wishes: Wishes) -> Volume:
    """A file that is there already, opened and checked."""
    volume = open_volume(folder / output.path, dataset="main", role=output.role)
    try:
        check_shape(volume.path, volume.array.shape, shape)
    except UserError as error:
        raise UserError(f"{error}; --force makes it again") from error
    if output.name in wishes.crops or output.name in wishes.defects:
        warn(f"{output.path} is there and stays as it is: --force makes it again")
    return volume


def _source(output: Output, downloads: Path) -> tuple[Layout, Path] | None:
    """The first form of an output that is among the downloads."""
    for layout in output.layouts:
        if (path := layout.find(downloads)) is not None:
            return layout, path
    return None


def _obstacle(output: Output, source: tuple[Layout, Path] | None, shape: Shape, wishes: Wishes) -> str:
    """Why an output cannot be made; empty where it can."""
    if source is None:
        return "needs one of " + ", ".join(layout.path.partition(":")[0] for layout in output.layouts)
    if output.name in wishes.crops:
        return ""
    if source[0].start == "ask":
        return f"where it is has not been published: say so with --crop {output.name}=z:z,y:y,x:x"
    if source[0].start != "all" and None in shape:
        return f"its size is that of {output.shape_like}, which is not there; or set --crop {output.name}=z:z,y:y,x:x"
    return ""


def _convert(plan: Plan, folder: Path, wishes: Wishes) -> Converted:
    try:
        with progress_bar(plan.output.path) as bar:
            return convert(plan, folder / plan.output.path, unverified=wishes.unverified, progress=bar)
    except KeyboardInterrupt as stop:
        raise Stopped("interrupted: the same command goes on with this file") from stop


def _made(plan: Plan, converted: Converted) -> str:
    """What was made of what, in one line."""
    volume, output = plan.volume, plan.output
    parts = [f"{' x '.join(map(str, volume.shape))} {volume.dtype}"]
    if output.role == "labels":
        parts.append(f"{converted.ids} ids")
    if converted.interpolated:
        parts.append(f"interpolated sections {', '.join(map(str, converted.interpolated))}")
    if output.blake2b is not None:
        same = "are" if converted.blake2b == output.blake2b else "are not"
        parts.append(f"voxels {same} those that this project was measured on")
    return f"{output.path}: {', '.join(parts)}; from {volume.path}"


def _check_order(dataset: Dataset, folder: Path, found: _Found) -> None:
    """Warn of labels whose sections seem to be in reverse order."""
    made = {plan.output.path for plan in found.plans}
    for output in dataset.outputs:
        if output.path in made and output.raw is not None and (folder / output.raw).exists():
            raw, labels = open_volume(folder / output.raw), open_volume(folder / output.path)
            if raw.shape == labels.shape and reversed_fits_better(raw, labels):
                warn(
                    f"{output.path} would fit {output.raw} better with its sections in reverse order: look at both"
                    " before you train"
                )


def _say_what_is_missing(dataset: Dataset, downloads: Path, found: _Found) -> None:
    say(f"not made, for want of something in {downloads}:")
    for output, reason in found.missing:
        say(f"  {output.path}: {reason}")
    say(f"what to fetch and put into {downloads}:")
    for download in dataset.downloads:
        say(f"  {download.what}{f' ({download.size})' if download.size else ''}")
        say(f"    from {download.where}")
        say(f"    {download.put}")


def _next_command(dataset: Dataset, folder: Path, downloads: Path) -> str:
    """What to type next: the first shipped experiment that has all it needs, else a new one of the first raw."""
    for name, needed in dataset.experiments:
        if all((folder / path).exists() for path in needed):
            return f"SSNS_DATA={_quoted(folder.absolute())} ssns run experiments/paper/{name}.toml"
    there = {output.path: output for output in dataset.outputs if (folder / output.path).exists()}
    for path, output in there.items():
        if output.raw in there:
            return f"ssns init {_quoted(folder / output.raw)} --labels {_quoted(folder / path)}"
    for path, output in there.items():
        if output.role == "raw":
            return f"ssns init {_quoted(folder / path)}"
    return f"the same command, once raw is in {_quoted(downloads)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _named(option: str, texts: Sequence[str], example: str) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts]
    if not all(name and value for name, _, value in pairs):
        raise UserError(f"--{option}: wanted NAME=VALUE, such as {example}, got {' '.join(texts)}")
    return [(name, value) for name, _, value in pairs]


def _box(text: str) -> Box:
    try:
        ranges = [tuple(map(int, part.split(":"))) for part in text.split(",")]
        starts, stops = zip(*ranges, strict=True)
        box = Box(triple(starts), triple(stops))
    except ValueError:
        box = Box((0, 0, 0), (0, 0, 0))
    if box.size == 0 or min(box.start) < 0:
        raise UserError(f"--crop: wanted ranges of voxels {', '.join(AXES)} such as 0:100,512:1536,0:1024, got {text}")
    return box


def _sections(text: str) -> tuple[int, ...]:
    try:
        sections = () if text == "none" else tuple(map(int, text.split(",")))
    except ValueError:
        sections = (-1,)
    if any(section < 0 for section in sections):
        raise UserError(f"--defects: wanted sections such as 14,74 or none, got {text}")
    return sections
