"""`ssns init`: look at a volume and its labels, and write an experiment that runs as it is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tomlkit
from pydantic import BaseModel
from tomlkit.items import Table

from ssns.commands.inputs import Source, open_source
from ssns.commands.terminal import say, warn
from ssns.errors import UserError
from ssns.experiment import Experiment, VolumeSettings, component_types, load_experiment
from ssns.space import Box, cover

LARGEST_LOOK = 256_000_000
"""Voxels of labels that are counted; of larger ones, evenly spread sections."""

CPU_RECIPE: dict[str, Any] = {
    "network": {"type": "residual_unet", "filters": [32, 48, 64, 80], "unshuffle": 2, "batch_momentum": 0.05},
    "training": {"steps": 4000, "batch": 1, "optimizer": {"type": "adamw", "lr": 2e-3}},
}
"""Half the in-plane resolution inside the network, channels in multiples of 16: about an hour on two cores."""

GPU_RECIPE: dict[str, Any] = {
    "network": {"type": "residual_unet", "batch_momentum": 0.05},
    "training": {"steps": 20_000, "batch": 4, "optimizer": {"type": "adamw", "lr": 1e-3}},
}


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


def init_experiment(inputs: Inputs, output: Path, *, overwrite: bool = False) -> None:
    """Write the experiment, and say what was found and chosen."""
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists: name another file with --output, or overwrite it with --force")
    name = Path(inputs.raw.partition(":")[0]).name.split(".")[0] or "volume"
    source = open_source(name, _volume_settings(inputs))
    _describe(source)
    table: dict[str, Any] = {"name": output.stem if output.stem != "experiment" else name}
    volume = _volume_table(inputs, source, output.parent)
    table["volumes"] = {name: volume}
    recipe = GPU_RECIPE if _has_gpu() else CPU_RECIPE
    table["network"] = recipe["network"]
    table["training"] = {"patch": _patch(source, volume)} | recipe["training"]
    write_experiment(output, table, "Run it with: ssns run " + output.name + "\nAll settings: ssns settings")
    load_experiment(output)
    say(f"wrote {output}; next: ssns run {output}")


def write_experiment(path: Path, table: dict[str, Any], header: str) -> None:
    """Write settings as TOML, each with its description."""
    document = tomlkit.document()
    for line in header.splitlines():
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    _fill(document, table, [Experiment])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tomlkit.dumps(document))


def _fill(target: Any, table: dict[str, Any], models: list[type[BaseModel]]) -> None:
    """Add values, then sub-tables, with the descriptions of the fields of ``models`` as comments."""
    if "type" in table:
        models = [model for model in models if model.model_fields["type"].default == table["type"]]
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    for key, value in table.items():
        field = fields.get(key)
        description = field.description if field else None
        if isinstance(value, dict):
            inner: Table = tomlkit.table()
            if description:
                inner.comment(description)
            _fill(inner, value, component_types(field.annotation) if field else models)
            target.add(key, inner)
        else:
            item = tomlkit.item(value)
            if description:
                item.comment(description)
            target.add(key, item)


def _volume_settings(inputs: Inputs) -> VolumeSettings:
    return VolumeSettings.model_validate(
        {
            "raw": inputs.raw,
            "labels": inputs.labels,
            "voxel_size_nm": inputs.voxel_size_nm,
            "labels_start": inputs.labels_start,
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


def _describe(source: Source) -> None:
    """Say what the files hold."""
    raw = source.raw
    size = " x ".join(f"{nm:g}" for nm in raw.voxel_size_nm) + " nm" if raw.voxel_size_nm else "not in the file"
    if raw.voxel_size_nm is None:
        warn("voxel size: not in the file; give --voxel-size-nm Z Y X so that results line up with other data")
    needed = raw.box.size * raw.dtype.itemsize / 1e9
    free = psutil.virtual_memory().available / 1e9
    shape = " x ".join(map(str, raw.shape))
    say(f"raw: {shape} {raw.dtype}, voxel size {size}; {needed:.3g} GB, {free:.3g} GB of memory free")
    if source.labels is None:
        return
    counted, sections = _count_ids(source)
    total = sum(counted.values())
    background, ignored = source.settings.background, source.settings.ignored
    neurons = len(counted) - (background in counted) - (ignored in counted)
    say(f"labels: {source.labels_box}, {neurons} ids{sections}")
    for word, value in (("background", background), ("ignored", ignored)):
        if value is not None:
            say(f"  {word} = {value}: {counted.get(value, 0) / total:.1%} of the labelled voxels")
        else:
            say(f"  {word} = none")
    if background is not None and background not in counted:
        warn(f"no voxel has the background id {background}: if membranes are not labelled, that is well, else set it")


def _count_ids(source: Source) -> tuple[dict[int, int], str]:
    """How often each id occurs, and a remark where only some sections were looked at."""
    labels = source.labels
    assert labels is not None
    depth = labels.shape[0]
    step = max(1, -(-labels.box.size // LARGEST_LOOK))
    counted: dict[int, int] = {}
    for slab in cover(labels.box, (1, *labels.shape[1:]))[::step]:
        ids, counts = np.unique(labels.read(slab), return_counts=True)
        for value, count in zip(ids.tolist(), counts.tolist(), strict=True):
            counted[value] = counted.get(value, 0) + count
    return counted, f" (in every {step}th of {depth} sections)" if step > 1 else ""


def _volume_table(inputs: Inputs, source: Source, folder: Path) -> dict[str, Any]:
    """The volume's entry: files, ids and roles."""
    volume: dict[str, Any] = {"raw": _seen_from(folder, inputs.raw)}
    if inputs.voxel_size_nm is not None:
        volume["voxel_size_nm"] = list(inputs.voxel_size_nm)
    if source.labels is None:
        warn("no labels: there is nothing to train on until volumes.*.labels and labelled are set")
        return volume
    volume["labels"] = _seen_from(folder, str(inputs.labels))
    if inputs.labels_start is not None:
        volume["labels_start"] = list(inputs.labels_start)
    if inputs.rgb_ids:
        volume["rgb_ids"] = True
    volume["background"] = "none" if source.settings.background is None else source.settings.background
    volume["ignored"] = "none" if source.settings.ignored is None else source.settings.ignored
    labelled = source.labels_box
    assert labelled is not None
    sections = _sections(inputs.sections, labelled)
    (_, y0, x0), (_, y1, x1) = labelled.start, labelled.stop
    middle_y, middle_x = (y0 + y1) // 2, (x0 + x1) // 2
    volume["labelled"] = [
        sections | {"y": [y0, middle_y], "x": [x0, x1]},
        sections | {"y": [middle_y, y1], "x": [x0, middle_x]},
    ]
    volume["validation"] = sections | {"y": [middle_y, y1], "x": [middle_x, x1]}
    say(
        f"held out for validation: the quarter y {middle_y}..{y1}, x {middle_x}..{x1} of the labelled sections, in all"
        " their depth; checkpoints and the threshold are chosen there, and it is not learned from"
    )
    if "sections" in sections:
        warn(
            "scattered sections: each is validated on its own, and affinities along z are learned only where labelled"
            " sections are neighbours"
        )
    return volume


def _sections(text: str | None, labelled: Box) -> dict[str, list[int]]:
    """The labelled sections as a region: a range, or a list."""
    if text is None:
        return {"z": [labelled.start[0], labelled.stop[0]]}
    first, colon, end = text.partition(":")
    try:
        chosen = [int(first), int(end)] if colon else sorted({int(each) for each in text.split(",")})
    except ValueError:
        raise UserError(f"--sections: wanted 0:5 or 3,40,77, got {text!r}") from None
    inside = range(labelled.start[0], labelled.stop[0] + bool(colon))
    if any(each not in inside for each in chosen) or (colon and chosen[0] >= chosen[1]):
        raise UserError(f"--sections: wanted some of z {labelled.start[0]}..{labelled.stop[0]}, the labels, got {text}")
    return {"z": chosen} if colon else {"sections": chosen}


def _patch(source: Source, volume: dict[str, Any]) -> list[int]:
    """A patch as deep as a few sections around the labelled ones, and as wide as the volume allows."""
    regions = volume.get("labelled", [])
    depth = max((region["z"][1] - region["z"][0] if "z" in region else 1 for region in regions), default=18)
    z = min(18, max(8, depth + 3), max(source.raw.shape[0], 8))
    y, x = (min(160, max(32, length // 16 * 16)) for length in source.raw.shape[1:])
    return [z, y, x]


def _seen_from(folder: Path, path: str) -> str:
    """A path as the experiment file needs it: relative to its folder where the user gave a relative one."""
    given = Path(path).expanduser()
    return str(given) if given.is_absolute() else os.path.relpath(given.absolute(), folder.absolute())


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None
