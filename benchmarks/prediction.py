"""Prediction: the reference's windows and ours, on 30x544x544 of AC4, with the same trained weights in one run.

    python benchmarks/prediction.py DATA [--weights CHECKPOINT] [--full]

1. The reference's way: its windows and blending, batch 1, fp32, contiguous.
2. Its windows in our arithmetic: bf16, channels last.
3. Our default tiling.

Then the VOI of the segmentations of 1 and 3 against the labels, and the differences of affinities by their distance
from a tile's face. ``--full`` takes an untrained full-width network instead, for the speed alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssns.checkpoint import load_checkpoint
from ssns.commands.allocator import keep_freed_memory
from ssns.metrics import components, score
from ssns.networks import ResidualUNetSettings
from ssns.prediction import PredictionSettings, predict_box
from ssns.segmentation import sweep
from ssns.space import Box
from ssns.volume import from_array, open_volume
from ssns.volume.normalization import TypeNormalization
from ssns.zoo import weights_path

BOX = Box((40, 240, 240), (70, 784, 784))
FACES = (0, 1, 2, 4, 8, 16, 32)


@contextmanager
def contiguous() -> Iterator[None]:
    """Keep tensors contiguous where prediction would ask for channels last."""
    before = torch.channels_last_3d
    torch.channels_last_3d = torch.contiguous_format
    try:
        yield
    finally:
        torch.channels_last_3d = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="zoo:ac4-supervised-full", help="checkpoint that was trained on ac4")
    parser.add_argument("--full", action="store_true", help="untrained full-width network, speed only")
    arguments = parser.parse_args()
    raw = open_volume(arguments.data / "AC4_inputs.tif")
    if arguments.full:
        torch.manual_seed(0)
        network: Any = ResidualUNetSettings().build(3).eval()
        span = TypeNormalization().measure(raw)
    else:
        checkpoint = load_checkpoint(weights_path(arguments.weights))
        network, span = checkpoint.build(), checkpoint.ranges["ac4"]
        raw = checkpoint.normalization.prepared(raw)
    image = span.apply(raw.read(BOX))
    reference = PredictionSettings(tiling="reference", precision="fp32", dtype="float32", batch=1)
    ours = PredictionSettings(dtype="float32")
    results: dict[str, NDArray[np.float32]] = {}
    seconds: dict[str, float] = {}

    def run(name: str, settings: PredictionSettings) -> None:
        begin = time.perf_counter()
        results[name] = predict(network, image, settings)
        seconds[name] = time.perf_counter() - begin
        rate = BOX.size / seconds[name] / 1e6
        print(f"{name:34s} {seconds[name]:8.1f} s  {rate:7.3f} Mvoxel/s", flush=True)

    with contiguous():
        run("reference: fp32 contiguous", reference)
    keep_freed_memory()  # as ``ssns predict`` does
    network.to(memory_format=torch.channels_last_3d)
    run("reference windows, bf16 chan. last", reference.model_copy(update={"precision": "bf16"}))
    run("default tiling", ours)
    slow, windows, default = seconds.values()
    print(f"ratios: windows {slow / windows:.2f}, default {slow / default:.2f}")
    if not arguments.full:
        _compare_segmentations(results, raw_labels=components(open_volume(arguments.data / "AC4_labels.tif").read(BOX)))
        _differences_by_distance(network, image)


def predict(network: Any, image: NDArray[np.float32], settings: PredictionSettings) -> NDArray[Any]:
    """Affinities of an image in [0, 1]."""
    raw = from_array(image)
    return predict_box(network, raw, raw.box, settings, normalize=np.asarray)


def _compare_segmentations(results: dict[str, NDArray[np.float32]], raw_labels: NDArray[Any]) -> None:
    """VOI of the segmentations, by the default method and the paper's."""
    for method in ("default", "paper-waterz"):
        for name, affinities in results.items():
            table = {
                threshold: score(segmentation, raw_labels)
                for threshold, segmentation in sweep(affinities, method, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8))
            }
            best = min(table, key=lambda each: table[each].voi_sum)
            shown = ", ".join(f"{threshold:.1f}: {scores.voi_sum:.4f}" for threshold, scores in table.items())
            print(f"{method}, {name:34s} VOI sum at {shown}; best {table[best].voi_sum:.4f}")


def _differences_by_distance(network: Any, image: NDArray[np.float32]) -> None:
    """Mean and largest difference between tile and whole, by in-plane distance from the tile's face."""
    whole = predict(
        network,
        image,
        PredictionSettings(tile=(30, 544, 544), halo=(0, 0, 0), precision="fp32", dtype="float32", batch=1),
    )
    tile = predict(
        network,
        np.ascontiguousarray(image[:, 128:416, 128:416]),
        PredictionSettings(tile=(30, 288, 288), halo=(0, 0, 0), precision="fp32", dtype="float32", batch=1),
    )
    difference = np.abs(tile - whole[:, :, 128:416, 128:416]).max(0)
    depth = np.minimum(np.arange(288), np.arange(288)[::-1])
    distance = np.minimum(depth[:, None], depth[None, :])
    for low, high in zip(FACES, (*FACES[1:], 144), strict=True):
        ring = difference[:, (distance >= low) & (distance < high)]
        print(f"distance {low:3d}..{high:3d} voxels: mean {ring.mean():.5f}, largest {ring.max():.5f}")


if __name__ == "__main__":
    main()
