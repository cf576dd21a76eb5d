"""`ssns init`: look at a volume and its labels, and write an experiment that runs as it is."""

from __future__ import annotations

import math
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import psutil
from pydantic import TypeAdapter
from rich.filesize import decimal

from ssns.commands.experiment_file import write_experiment
from ssns.commands.held_out import MOST_VOXELS, hold_out
from ssns.commands.id_counts import IdCounts
from ssns.commands.inputs import Source, open_source, open_sources
from ssns.commands.memory import BYTES_PER_VOXEL
from ssns.commands.terminal import say, warn
from ssns.commands.train import check_training, untrained_offsets, warn_of_untrained
from ssns.errors import UserError
from ssns.experiment import Region, VolumeSettings, load_experiment, region_boxes
from ssns.networks import Network
from ssns.space import AXES, Box, Triple, triple
from ssns.training import PseudoLabelObjective
from ssns.volume.opening import split_dataset
from ssns.volume.pages import MissingPagesWarning, page_files, page_numbers
from ssns.volume.sections import runs

FEW_NEURONS = 10
"""Neurons in the part held out below which `init` gives advice."""

MOST_DEPTH = 100
"""Sections of the part of a volume that is too large."""

NORMALIZATION = {"type": "percentile", "sections": "levelled"}
"""Sections differ in brightness: levelling them took the VOI sum on AC4 from 1.44 to 1.02 (docs/results.md)."""


@dataclass(frozen=True)
class Recipe:
    """A network and schedules.

    Attributes:
        network: Its settings.
        side: Pixels of a patch along y and x, where raw has so many.
        loop: What both trainings share.
        first: Steps of labelled patches alone.
        second: Steps of labelled and pseudo-labelled patches, after them.
        far: Learn affinities farther away beside those of neighbours; small networks have no room for them.
    """

    network: Mapping[str, Any]
    side: int
    loop: Mapping[str, Any]
    first: int
    second: int
    far: bool

    def tables(self, patch: Sequence[int], *, supervised: bool) -> dict[str, Any]:
        """The tables of the experiment."""
        loop = {"patch": list(patch), **self.loop}
        if supervised:
            return {"network": dict(self.network), "training": {"steps": self.first, **loop}}
        return {
            "network": dict(self.network),
            "objective": {"type": "pseudo_labels", "teacher_steps": self.first},
            "training": {"steps": self.second, **loop},
        }


CPU_RECIPE = Recipe(
    network={"type": "residual_unet", "filters": [16, 32, 48, 64], "unshuffle": 2},
    side=96,
    loop={"batch": 1, "optimizer": {"type": "muon", "lr": 2e-3}},
    first=24_000,
    second=12_000,
    far=False,
)
"""Half the in-plane resolution inside the network, channels in multiples of 16.

This is the row "ours, longer" of benchmarks/semi.py, an hour on one core with bf16; half as many steps are worse by a
tenth of the VOI sum (docs/results.md).
"""

GPU_RECIPE = Recipe(
    network={"type": "residual_unet"},
    side=160,
    loop={"batch": 4, "optimizer": {"type": "adamw", "lr": 1e-3}},
    first=10_000,
    second=10_000,
    far=True,
)
"""The paper's network and AdamW; steps and rate are guesses, which no GPU has measured yet."""

REACHES_NM = (54, 162)
"""How far affinities reach that the network learns beside those of neighbours: a thin axon, and a thick one."""


@dataclass(frozen=True)
class Inputs:
    """What the user knows of a volume."""

    raw: str
    labels: str | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    labels_start: tuple[int, int, int] | None = None
    sections: str | None = None
    background: str = "0"
    ignored: str = "none"
    rgb_ids: bool = False
    supervised: bool = False


def init_experiment(inputs: Inputs, output: Path, *, overwrite: bool = False) -> None:
    """Write the experiment, and say what was found and chosen."""
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists: name another file with --output, or overwrite it with --force")
    name = _name(inputs.raw)
    source = _opened(name, inputs)
    _describe_raw(source)
    volume = _volume_table(inputs, source, output.parent)
    recipe = GPU_RECIPE if _has_gpu() else CPU_RECIPE
    depth = _labelled_depth(volume)
    patch = _patch(source, depth, recipe)
    table = {
        "name": name if output.stem == "experiment" else _name(output.name),
        "auxiliary_offsets": _auxiliary_offsets(source, depth, patch) if recipe.far else [],
        "volumes": {name: volume},
        "normalization": NORMALIZATION,
        **recipe.tables(patch, supervised="unlabelled" not in volume),
    }
    if "objective" in table and (voxels := _segmentable_voxels()) < PseudoLabelObjective().voxels:
        table["objective"]["voxels"] = voxels
    write_experiment(output, table, f"Run it with: ssns run {output.name}\nAll settings: ssns settings")
    experiment = load_experiment(output)
    sources = open_sources(experiment)
    if source.labels is not None:
        check_training(experiment, sources)  # it runs as it is
        warn_of_untrained(experiment, sources, untrained_offsets(experiment, sources))
    weights = "" if source.labels else " --checkpoint WEIGHTS.pt"
    say(f"wrote {output}; next: ssns run {output}{weights}")
    _advise_of_numbers(inputs, source)


def _opened(name: str, inputs: Inputs) -> Source:
    """Raw and labels, each page of the labels at its section where these are what --sections lists."""
    if inputs.labels == inputs.raw:
        raise UserError(f"--labels: wanted ids of neurons, got {inputs.labels}, which is raw: name the labels")
    if inputs.sections is None or inputs.labels is None:
        return open_source(name, _volume_settings(inputs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingPagesWarning)  # of pages that choose, it is told when all is opened
        source = open_source(name, _volume_settings(inputs))
    (own,) = source.labels_boxes
    chosen, raw = _listed(inputs.sections), source.raw.shape[0]
    if all(own.start[0] <= each < own.stop[0] for each in chosen):
        return source
    placed = inputs.labels_start is not None and inputs.labels_start[0] != 0
    if len(chosen) != own.shape[0] or chosen[0] < 0 or chosen[-1] >= raw or placed:
        raise UserError(
            f"--sections: {inputs.sections} names {len(chosen)} sections, of which labels, which lie at z"
            f" {own.start[0]}..{own.stop[0]} of raw, do not hold all: name some of these; or, if the {own.shape[0]}"
            f" pages of labels are of scattered sections, as many of z 0..{raw}, without a z of --labels-start"
        )
    say(
        f"labels: the {len(chosen)} pages are of the sections {', '.join(map(str, chosen))} of raw, as --sections lists"
    )
    return open_source(name, _volume_settings(inputs, chosen))


def _advise_of_numbers(inputs: Inputs, source: Source) -> None:
    """Where the names of pages have numbers that leave some out: they may be those of sections."""
    folder = Path(inputs.labels).expanduser() if inputs.labels else None
    if folder is None or not folder.is_dir() or inputs.sections is not None:
        return
    numbers = page_numbers(page_files(folder))
    gaps = len(numbers) > 1 and numbers[-1] - numbers[0] >= len(numbers)
    if gaps and numbers[-1] < source.raw.shape[0]:
        warn(
            f"the {len(numbers)} pages of {folder} count as neighbouring sections; if the numbers in their names are"
            f" those of sections of raw, counted from 0, give --sections {_ranges(numbers)}"
        )


def _name(path: str) -> str:
    """The name of a file or folder, without suffixes and dataset, as volumes and experiments may be called."""
    stem = split_dataset(path)[0].absolute().name.split(".")[0]
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "volume"


def _volume_settings(inputs: Inputs, labels_sections: Sequence[int] | None = None) -> VolumeSettings:
    return VolumeSettings.model_validate(
        {
            "raw": inputs.raw,
            "labels": inputs.labels,
            "voxel_size_nm": inputs.voxel_size_nm,
            "labels_start": inputs.labels_start,
            "labels_sections": labels_sections,
            "rgb_ids": inputs.rgb_ids,
            "background": _id("background", inputs.background),
            "ignored": _id("ignored", inputs.ignored),
        }
    )


def _id(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdigit():
        raise UserError(f"--{name}: wanted an id of at least 0, or none, got {text!r}")
    return int(text)


def _describe_raw(source: Source) -> None:
    raw = source.raw
    size = " x ".join(f"{nm:g}" for nm in raw.voxel_size_nm) + " nm" if raw.voxel_size_nm else "unknown"
    shape = " x ".join(map(str, raw.shape))
    needed, free = raw.box.size * raw.dtype.itemsize, psutil.virtual_memory().available
    say(f"raw: {shape} {raw.dtype}, voxel size {size}; {decimal(needed)}, with {decimal(free)} of memory free")
    if raw.voxel_size_nm is None:
        warn("the voxel size is not in the file: give --voxel-size-nm Z Y X, so that results line up with other data")


def _describe_labels(source: Source, labelled: Sequence[Box], held_out: Sequence[Box]) -> None:
    """Say what labels hold where they count, and whether the part that is held out can judge."""
    found = IdCounts.of(source, [*labelled, *held_out])
    sampled = f", counted in every {found.every}th section" if found.every > 1 else ""
    counted, there = _sections([*labelled, *held_out]), _sections(source.labels_boxes)
    some = "" if len(source.labels_boxes) == 1 else f"{len(there)} sections of "
    chosen = f" in sections {_ranges(counted)}, which count" if counted != there else ""
    say(f"labels: {some}{_around(source.labels_boxes)}, {found.neurons} neurons{sampled}{chosen}")
    for word, value in (("background", found.background), ("ignored", found.ignored)):
        share = "" if value is None else f": {found.share(value):.1%} of the labelled voxels"
        say(f"  {word} = {'none' if value is None else value}{share}")
    if found.background is not None and found.background not in found.voxels:
        warn(
            f"no voxel has the background id {found.background}: if labels touch each other, that is well; if membranes"
            " have another id, give it as --background"
        )
    if found.empty:
        warn(
            f"{len(found.empty)} of {len(found.empty) + len(found.filled)} sections hold no neuron, and would teach"
            f" that all is background: if they are not labelled, leave them out with --sections {_ranges(found.filled)}"
        )
    say(
        f"held out for validation: {_shown(labelled, held_out)}; checkpoints and the threshold are chosen there, and it"
        " is not learned from"
    )
    neurons = IdCounts.of(source, held_out).neurons
    if neurons < FEW_NEURONS:
        warn(
            f"only {neurons} neurons are in the part held out, so what is chosen there is uncertain: label a larger"
            " area, or name other labelled sections as validation"
        )


def _shown(labelled: Sequence[Box], held_out: Sequence[Box]) -> str:
    """The part held out in words."""
    learned, held = (sum(box.size for box in boxes) for boxes in (labelled, held_out))
    place = f"y {held_out[0].start[1]}..{held_out[0].stop[1]}, x {held_out[0].start[2]}..{held_out[0].stop[2]} of the"
    if 4 * held >= learned + held:
        return f"the quarter {place} labelled sections, in all their depth"
    depth = sum(box.shape[0] for box in held_out)
    return f"{place} last {depth} labelled sections, as much as the memory and the time of each validation allow"


def _sections(boxes: Sequence[Box]) -> list[int]:
    """The sections that boxes meet, ascending."""
    return sorted({z for box in boxes for z in range(box.start[0], box.stop[0])})


def _ranges(sections: Sequence[int]) -> str:
    """Sections as --sections takes them."""
    if sections and sections[-1] - sections[0] + 1 == len(sections):
        return f"{sections[0]}:{sections[-1] + 1}"
    return ",".join(map(str, sections)) or "FIRST:END"


def _volume_table(inputs: Inputs, source: Source, folder: Path) -> dict[str, Any]:
    """The volume's entry: files, ids and roles."""
    volume: dict[str, Any] = {"raw": _seen_from(folder, inputs.raw)}
    if inputs.voxel_size_nm is not None:
        volume["voxel_size_nm"] = list(inputs.voxel_size_nm)
    if source.labels is None:
        warn("no labels: there is nothing to train on, unless you set labels and labelled; with weights, it can be run")
    else:
        entries, known = _label_entries(inputs, source, folder)
        volume |= entries
        if not inputs.supervised and (unlabelled := _unlabelled(source, known)) is not None:
            volume["unlabelled"] = unlabelled
    target = _target(source)
    if target is not None:
        volume["target"] = target
    return volume


def _label_entries(inputs: Inputs, source: Source, folder: Path) -> tuple[dict[str, Any], Sequence[Box]]:
    """Where labels are, what their ids mean, what is learned from and what is held out; and the boxes of both."""
    entries: dict[str, Any] = {"labels": _seen_from(folder, str(inputs.labels))}
    if inputs.labels_start is not None:
        entries["labels_start"] = list(inputs.labels_start)
    if source.settings.labels_sections is not None:
        entries["labels_sections"] = list(source.settings.labels_sections)
    if inputs.rgb_ids:
        entries["rgb_ids"] = True
    for name in ("background", "ignored"):
        value = getattr(source.settings, name)
        entries[name] = "none" if value is None else value
    labels = _around(source.labels_boxes)
    (z0, y0, x0), (z1, y1, x1) = labels.start, labels.stop
    if min(y1 - y0, x1 - x0) < 2:
        raise UserError(f"labels: wanted an area to hold a quarter out of, got {labels}: label more")
    sections = range(z0, z1) if inputs.sections is None else _listed(inputs.sections)
    most = min(MOST_VOXELS, _segmentable_voxels())
    entries["labelled"], entries["validation"] = hold_out(sections, (y0, y1), (x0, x1), most)
    labelled, held_out = (
        region_boxes(tuple(map(Region.model_validate, regions)), source.raw.box)
        for regions in (entries["labelled"], [entries["validation"]])
    )
    _describe_labels(source, labelled, held_out)
    if len(list(runs(sections))) > 1:
        warn(
            "scattered sections: each is validated on its own, and affinities along z are learned only where labelled"
            " sections are neighbours"
        )
    return entries, [*labelled, *held_out]


def _target(source: Source) -> dict[str, list[int]] | None:
    """Where the whole volume would not fit into half the free memory: a box around the labels, or the middle."""
    if source.raw.box.size <= (budget := _segmentable_voxels()):
        return None
    box = _box_around(source.labels_boxes or (source.raw.box,), source.raw.box, budget)
    say(f"target: the volume is too large for this memory, so a part is segmented: {box}")
    return _region(box)


def _unlabelled(source: Source, known: Sequence[Box]) -> str | dict[str, list[int]] | None:
    """Where raw is learned from without labels: all of it, or what of it fits into memory around the labels.

    None where labels that count, in the boxes ``known``, cover all of raw.
    """
    raw = source.raw
    if raw.box.size <= sum(box.size for box in known):
        return None
    budget = psutil.virtual_memory().available // 8 // raw.dtype.itemsize
    if raw.box.size <= budget:
        return f"0:{raw.shape[0]}"
    box = _box_around(known, raw.box, budget)
    if sum(box.intersection(each).size for each in known) == box.size:
        box = _beside(_around(known), raw.box, box)
    say(f"unlabelled: raw is too large for this memory, so a part is learned from: {box}")
    return _region(box)


def _box_around(boxes: Sequence[Box], raw: Box, budget: int) -> Box:
    """A box of so many voxels of raw, around the middle of others."""
    depth = min(raw.shape[0], MOST_DEPTH)
    side = math.isqrt(budget // depth)
    shape = triple(min(a, b) for a, b in zip((depth, side, side), raw.shape, strict=True))
    middle = _around(boxes)
    centred = zip(middle.start, middle.stop, shape, raw.shape, strict=True)
    return Box.of_shape(shape, triple(min(max(0, (a + b - n) // 2), most - n) for a, b, n, most in centred))


def _beside(labels: Box, raw: Box, box: Box) -> Box:
    """A box of raw moved along one axis to where no labels are, or as far as raw allows."""
    room = [(before, most - stop) for before, stop, most in zip(labels.start, labels.stop, raw.stop, strict=True)]
    axis = max(range(3), key=lambda axis: min(1, max(room[axis]) / box.shape[axis]))
    before, after = room[axis]
    length = box.shape[axis]
    start = min(labels.stop[axis], raw.stop[axis] - length) if after >= before else max(0, before - length)
    return box.shifted(triple(start - box.start[axis] if each == axis else 0 for each in range(3)))


def _region(box: Box) -> dict[str, list[int]]:
    """A box as a role has it."""
    return {axis: [start, stop] for axis, start, stop in zip(AXES, box.start, box.stop, strict=True)}


def _segmentable_voxels() -> int:
    """Voxels that half of the free memory is enough to segment at once."""
    return int(psutil.virtual_memory().available // 2 // BYTES_PER_VOXEL)


def _around(boxes: Sequence[Box]) -> Box:
    return reduce(Box.bounding, boxes)


def _listed(text: str) -> Sequence[int]:
    """The sections that --sections names, ascending: a range, or a list.

    Raises:
        UserError: It is neither.
    """
    first, colon, end = text.partition(":")
    try:
        chosen = sorted(range(int(first), int(end)) if colon else {int(each) for each in text.split(",")})
    except ValueError:
        chosen = []
    if not chosen:
        raise UserError(f"--sections: wanted a range as 0:5, or a list as 3,40,77, got {text!r}: name sections so")
    return chosen


def _labelled_depth(volume: dict[str, Any]) -> int:
    """Labelled sections that follow each other, at most; 18 where there are none."""
    regions = volume.get("labelled", [])
    return max((region["z"][1] - region["z"][0] if "z" in region else 1 for region in regions), default=18)


def _auxiliary_offsets(source: Source, depth: int, patch: Triple) -> list[list[int]]:
    """Offsets of `REACHES_NM` in the plane, and along z where labels and patch reach; of thick sections two and three.

    Args:
        source: Its voxel size; one of AC4 if it has none.
        depth: Labelled sections that follow each other.
        patch: What the network sees at once.
    """
    thickness, size, _ = source.raw.voxel_size_nm or (30, 6, 6)
    plane = sorted({max(2, round(reach / size)) for reach in REACHES_NM})
    along = (2, 3) if thickness >= 2 * size else plane
    within = [n for n in plane if n <= min(patch[1:]) // 2]
    return [[-n, 0, 0] for n in along if n < min(depth, patch[0])] + [
        offset for n in within for offset in ([0, -n, 0], [0, 0, -n])
    ]


def _patch(source: Source, depth: int, recipe: Recipe) -> Triple:
    """A patch as deep as a few sections around the labelled ones, and as wide as the volume and the network allow."""
    z = min(18, max(8, depth + 3), max(source.raw.shape[0], 8))
    y, x = (min(recipe.side, max(32, length)) for length in source.raw.shape[1:])
    network: Network = TypeAdapter(Network).validate_python(recipe.network)
    return network.extents.at_most((z, y, x))


def _seen_from(folder: Path, path: str) -> str:
    """A path as the experiment file needs it: relative to its folder where the user gave a relative one."""
    given = Path(path).expanduser()
    return str(given) if given.is_absolute() else os.path.relpath(given.absolute(), folder.absolute())


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None
