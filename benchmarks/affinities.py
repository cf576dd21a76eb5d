"""Affinities of AC4 from the committed weights: what later benchmarks segment.

    python benchmarks/affinities.py DATA OUT [--weights NAME] [--sections 35:100]

DATA holds AC4_inputs.tif; OUT/affinities.zarr is written (uint8, c z y x), a killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from importlib.resources import files
from pathlib import Path

from ssns.checkpoint import load_checkpoint
from ssns.commands.allocator import keep_freed_memory
from ssns.prediction import PredictionSettings, predict_volume
from ssns.space import Box
from ssns.volume import create_volume, open_volume


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="ac4-supervised-full", help="name of committed weights")
    parser.add_argument("--sections", default="35:100", help="first:end, validation and test by default")
    arguments = parser.parse_args()
    first, end = (int(each) for each in arguments.sections.split(":"))
    raw = open_volume(arguments.data / "AC4_inputs.tif", voxel_size_nm=(30, 6, 6))
    box = Box((first, 0, 0), (end, *raw.shape[1:]))
    checkpoint = load_checkpoint(Path(str(files("ssns").joinpath("weights", f"{arguments.weights}.pt"))))
    writer = create_volume(
        arguments.out / "affinities.zarr",
        (len(checkpoint.offsets), *box.shape),
        "uint8",
        voxel_size_nm=raw.voxel_size_nm,
        origin=box.start,
        attributes={"offsets": [list(offset) for offset in checkpoint.offsets], "weights": arguments.weights},
    )
    keep_freed_memory()
    begin = time.perf_counter()
    with writer:
        predict_volume(
            checkpoint.build(),
            raw,
            writer,
            PredictionSettings(),
            normalize=checkpoint.ranges["ac4"].apply,
            offsets=checkpoint.offsets,
            box=box,
        )
    seconds = time.perf_counter() - begin
    print(f"{writer.path}: {box} in {seconds:.1f} s, {box.size / seconds / 1e6:.2f} Mvoxel/s")


if __name__ == "__main__":
    main()
