"""An experiment of seconds: twelve straight neurites with dark membranes, a network of two levels, four steps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.checkpoint import load_checkpoint, save_checkpoint
from ssns.cli import main
from ssns.commands.inputs import open_sources, parts
from ssns.commands.run_folder import RunFolder
from ssns.experiment import load_experiment
from ssns.volume import write_volume

SHAPE = (40, 48, 48)
_Y, _X = np.indices(SHAPE[1:])
_SECTION = np.where((_Y % 12 < 2) | (_X % 16 < 2), 0, 1 + _Y // 12 * 3 + _X // 16)
LABELS = np.broadcast_to(_SECTION, SHAPE).astype(np.uint16)
RAW = np.where(LABELS == 0, 60, 200).astype(np.uint8) + np.random.default_rng(0).integers(0, 20, SHAPE, np.uint8)

TOML = """
name = "toy"

[volumes.a]
raw = "raw.tif"
labels = "labels.tif"
voxel_size_nm = [30, 6, 6]
labelled = "0:4"
validation = "4:8"
test = "8:40"

[network]
filters = [4, 8]
batch_momentum = 0.1

[training]
steps = 4
patch = [4, 16, 16]
batch = 1
precision = "fp32"
device = "cpu"
threads = 1
log_every = 2
save_every = 1
validate_every = 2

[prediction]
precision = "fp32"
block = [16, 48, 48]

[segmentation]
thresholds = [0.3, 0.6]
"""

LOOP = {
    "steps": 3, "patch": [4, 16, 16], "batch": 1, "precision": "fp32", "device": "cpu", "threads": 1, "save_every": 1,
    "validate_every": 2,
}  # fmt: skip
"""A training of three steps."""


def make_toy(folder: Path, raw=RAW, labels=LABELS) -> Path:
    """Write the volume and its experiment; the path of the latter."""
    tifffile.imwrite(folder / "raw.tif", raw)
    tifffile.imwrite(folder / "labels.tif", labels)
    path = folder / "experiment.toml"
    path.write_text(TOML)
    return path


def toy(path, **changes):
    """The experiment, with changes whose names have __ for a dot."""
    return load_experiment(path, {name.replace("__", "."): value for name, value in changes.items()})


def typed(*arguments, code=0):
    """Run the command line, which has to end with ``code``."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == code


def write_affinities(experiment) -> RunFolder:
    """What a perfect network would predict."""
    folder = RunFolder.of(experiment)
    for part in parts(experiment, open_sources(experiment)):
        affinities, _ = labels_to_affinities(LABELS[part.box.slices], NEAREST)
        write_volume(
            folder.affinities(part.name),
            (255 * np.asarray(affinities)).astype(np.uint8),
            voxel_size_nm=(30, 6, 6),
            origin=part.origin,
            attributes={"offsets": [list(offset) for offset in NEAREST]},
        )
    return folder


def change_checkpoint(path: Path) -> None:
    """Other data, of the same use."""
    checkpoint = load_checkpoint(path)
    save_checkpoint(path, replace(checkpoint, step=checkpoint.step + 1))


def change_voxel(path: Path) -> None:
    """One other voxel in a TIFF stack, in the middle; the size of the file stays."""
    voxels = tifffile.imread(path)
    voxels[tuple(n // 2 for n in voxels.shape)] += 1
    tifffile.imwrite(path, voxels)


def touch(path: Path) -> None:
    """Another time, the same data."""
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
