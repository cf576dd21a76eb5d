"""VOI and adapted Rand error of a volume, beside scikit-image: seconds and peak memory, each in a process of its own.

    python benchmarks/metrics.py TRUTH SEGMENTATION [--repeat 3]

Both are cut or repeated along z to 100 sections, as uint64. On a busy machine compare the processor's seconds: they
count all threads, and leave out what other processes take.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ssns.metrics import score_table
from ssns.metrics.pairs import PairCounter
from ssns.volume import open_volume

SECTIONS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth")
    parser.add_argument("segmentation")
    parser.add_argument("--repeat", type=int, default=3, help="of which the fastest counts; the first may compile")
    parser.add_argument("--only", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(_measured(WAYS[arguments.only], _arrays(arguments), arguments.repeat)))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("truth", "segmentation"):
            np.save(Path(folder) / f"{name}.npy", _prepared(getattr(arguments, name)))
        found = {}
        for way in WAYS:
            command = [sys.executable, __file__, f"{folder}/truth.npy", f"{folder}/segmentation.npy", "--only", way]
            output = subprocess.run([*command, "--repeat", str(arguments.repeat)], check=True, capture_output=True)
            found[way] = json.loads(output.stdout)
    peer = found["scikit-image"]
    for way, row in found.items():
        print(
            f"{way:<20} {row['seconds']:7.3f} s ({peer['seconds'] / row['seconds']:5.1f} x), processor"
            f" {row['processor']:7.3f} s ({peer['processor'] / row['processor']:5.1f} x), extra memory"
            f" {row['megabytes']:7.0f} MB ({row['megabytes'] / peer['megabytes']:.3f}), VOI {row['voi_sum']:.6f}, ARAND"
            f" {row['arand']:.6f}"
        )


def _prepared(path: str) -> NDArray[np.uint64]:
    """The ids of a volume, with as many sections as wanted."""
    ids = open_volume(path).read().astype(np.uint64)
    return np.resize(ids, (SECTIONS, *ids.shape[1:]))


def _arrays(arguments: argparse.Namespace) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return np.load(arguments.truth), np.load(arguments.segmentation)


def _with_threads(threads: int) -> Callable[[NDArray[Any], NDArray[Any]], tuple[float, float]]:
    def run(truth: NDArray[Any], segmentation: NDArray[Any]) -> tuple[float, float]:
        counter = PairCounter(threads)
        counter.add(segmentation, truth)
        scores = score_table(counter.table())
        return scores.voi_sum, scores.arand

    return run


def _scikit_image(truth: NDArray[Any], segmentation: NDArray[Any]) -> tuple[float, float]:
    from skimage.metrics import adapted_rand_error, variation_of_information

    voi = variation_of_information(truth, segmentation, ignore_labels=(0,))  # type: ignore[no-untyped-call]
    error = adapted_rand_error(truth, segmentation, ignore_labels=(0,))  # type: ignore[no-untyped-call]
    return float(np.sum(voi)), float(error[0])


WAYS: dict[str, Callable[[NDArray[Any], NDArray[Any]], tuple[float, float]]] = {
    "scikit-image": _scikit_image,
    "ssns, one thread": _with_threads(1),
    "ssns, two threads": _with_threads(2),
}


def _measured(
    run: Callable[[NDArray[Any], NDArray[Any]], tuple[float, float]],
    arrays: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    repeat: int,
) -> dict[str, float]:
    """The fastest of several runs, and the memory that all together took beyond the arrays."""
    run(arrays[0][:1], arrays[1][:1])  # imports and compilation
    before = psutil.Process().memory_info().rss
    seconds, processor = [], []
    for _ in range(repeat):
        begin, begin_processor = time.perf_counter(), time.process_time()
        voi_sum, arand = run(*arrays)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - begin_processor)
    return {
        "seconds": min(seconds),
        "processor": min(processor),
        "megabytes": (peak_bytes() - before) / 1e6,
        "voi_sum": voi_sum,
        "arand": arand,
    }


def peak_bytes() -> int:
    """The most memory that this process has had; ``ru_maxrss`` may be that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
