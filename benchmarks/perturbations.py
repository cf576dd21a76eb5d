"""Perturbations: milliseconds per 18x160x160 patch of each family on one thread, as a Markdown table.

    python benchmarks/perturbations.py [--repeats 21]

Medians over fresh draws, of raw alone and of raw with labels and validity; CPU time counts, since machines are noisy.
Beside them the limit that a family has to keep, and the same kernel of the library that the paper's code calls.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

from ssns.perturb import (
    AnyPerturbation,
    Blur,
    CutOut,
    Elastic,
    FlipTranspose,
    Fold,
    Intensity,
    Misalign,
    MissingSection,
    MixUp,
    Noise,
    Patch,
    QuarterTurn,
    Rotation,
    Scale,
    Sobel,
    StrongBlur,
)

SHAPE = (18, 160, 160)
FAMILIES: tuple[AnyPerturbation, ...] = (
    Scale(), FlipTranspose(), QuarterTurn(), Rotation(), Intensity(), Noise(), Blur(), CutOut(), Sobel(), MixUp(),
    Misalign(), Elastic(), Fold(), MissingSection(), StrongBlur(),
)  # fmt: skip
LIMITS = {"elastic": 120.0}
LIMIT = 60.0

Raw = NDArray[np.float32]


def scipy_elastic(raw: Raw) -> Raw:
    """The paper's way: three spline zooms to full size, then every voxel of the padded patch from the nearest."""
    grown = np.pad(raw, ((0, 0), (20, 20), (20, 20)), mode="reflect")
    grid = (4, 5, 5)
    controls = np.random.default_rng(0).normal(0, 2, (3, *grid)) * np.array([0, 1, 1])[:, None, None, None]
    field = [ndimage.zoom(control, np.divide(grown.shape, grid), order=3) for control in controls]
    moved: Raw = ndimage.map_coordinates(grown, np.indices(grown.shape) + field, order=0, mode="reflect")
    return moved[:, 20:-20, 20:-20]


def opencv_turn(section: Raw) -> object:
    """One section by 30 degrees."""
    matrix = cv2.getRotationMatrix2D((79.5, 79.5), 30, 1)
    return cv2.warpAffine(section, matrix, SHAPE[1:], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def each_section(kernel: Callable[[Raw], object]) -> Callable[[Raw], object]:
    return lambda raw: [kernel(section) for section in raw]


PEERS: dict[str, tuple[str, Callable[[Raw], object]]] = {
    "scale": ("OpenCV resize", each_section(lambda section: cv2.resize(section[27:133, 27:133], SHAPE[1:]))),
    "rotation": ("OpenCV warpAffine", each_section(opencv_turn)),
    "noise": ("NumPy", lambda raw: np.clip(raw + np.random.default_rng(0).normal(0, 0.1, raw.shape), 0, 1)),
    "blur": ("OpenCV GaussianBlur", each_section(lambda section: cv2.GaussianBlur(section, (7, 7), 1.0))),
    "sobel": ("scikit-image", each_section(filters.sobel)),
    "elastic": ("SciPy zoom, map_coordinates", scipy_elastic),
}


def medians(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Milliseconds of CPU and of wall-clock time, after two calls that do not count."""
    cpu, wall = [], []
    for _ in range(repeats + 2):
        began = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return 1e3 * statistics.median(cpu[2:]), 1e3 * statistics.median(wall[2:])


def applied(family: AnyPerturbation, patch: Patch) -> Callable[[], object]:
    """A call that perturbs with fresh draws and writes the result out, views too."""
    generator = torch.Generator().manual_seed(0)

    def call() -> None:
        perturbed = family.apply(patch, generator)
        for part in (perturbed.raw, perturbed.labels, perturbed.valid):
            if part is not None:
                part.contiguous()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21, help="draws of each family")
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random = torch.Generator().manual_seed(0)
    raw, partner = torch.rand(SHAPE, generator=random), torch.rand(SHAPE, generator=random)
    bare = Patch(raw, partner=partner)
    full = Patch(raw, torch.randint(0, 50, SHAPE, generator=random), raw < 0.9, partner)
    print("| family | raw: CPU ms | wall ms | with labels: CPU ms | wall ms | limit ms | peer | CPU ms | peer / ours |")
    print("|---|---:|---:|---:|---:|---:|---|---:|---:|")
    for family in FAMILIES:
        ours, labelled = (medians(applied(family, patch), repeats) for patch in (bare, full))
        limit = LIMITS.get(family.type, LIMIT)
        times = " | ".join(f"{value:.1f}" for value in (*ours, *labelled))
        verdict = f"{limit:.0f}" if max(ours[0], labelled[0]) <= limit else f"**{limit:.0f}: missed**"
        row = f"| {family.type} | {times} | {verdict} |"
        if family.type in PEERS:
            name, kernel = PEERS[family.type]
            peer, _ = medians(partial(kernel, raw.numpy()), max(3, repeats // 4))
            print(f"{row} {name} | {peer:.1f} | {peer / ours[0]:.2f} |")
        else:
            print(f"{row} | | |")
    print(
        f"\n{repeats} draws each, 1 thread, torch {torch.__version__}, OpenCV {cv2.__version__}, {platform.machine()}"
    )


if __name__ == "__main__":
    main()
