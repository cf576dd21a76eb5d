"""From affinities to segments, beside the libraries: seconds, memory, VOI; Markdown and a plot.

    python benchmarks/segmentation.py FOLDER [--affinities affinities.zarr --labels labels.tif] [--only WORD ...]

Volumes: synthetic EM's labels as blurred, noisy affinities, made once and kept in FOLDER; and affinities of a run
folder, with the labels of the whole volume. Each way runs in a process of its own, on affinities in memory; its result
is kept in FOLDER/results, and is not measured again: delete it to do so. Memory is what the process has at most beyond
its imports, affinities included: bytes for ours, as `ssns predict` writes them, floats for libraries that take nothing
else. On a busy machine compare the processor's seconds: they count all threads, and leave out what other processes
take.

Needs mahotas and waterz beside ssns, python-elf and mwatershed for their rows (`--only`, with words of others, goes
without). Parity with waterz: benchmarks/parity.py; with python-elf: benchmarks/multicut.py. Metrics:
benchmarks/metrics.py, with the labels.zarr and segmentation.zarr that are left in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

import ssns
from metrics import peak_bytes
from ssns.affinities import NEAREST, labels_to_affinities
from ssns.metrics import Contingency, components, score_table
from ssns.segmentation import Agglomeration, MeanScore, Method, MutexWatershed, sweep_methods, with_value
from ssns.space import Triple
from ssns.volume import open_volume, write_volume

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEED, BLUR, NOISE, SLAB = 0, 1.5, 1.2, 10
"""Of synthetic affinities: the draws, pixels of blur, deviation of the noise where 1 is the step at a membrane (it is
blurred too: it gives as many contacts per voxel as AC4 has), sections made at a time."""

LONG: tuple[Triple, ...] = (*NEAREST, (-2, 0, 0), (0, -9, 0), (0, 0, -9))
LONG_SHAPE, STRIDES = (16, 512, 512), (1, 4, 4)
"""Of the volume for mutex watersheds, and every how many voxels they look at long-range affinities, or at all."""

Arrays = tuple[NDArray[Any], NDArray[np.uint32]]
"""Affinities (c, z, y, x) and labels (z, y, x)."""


@dataclass(frozen=True)
class Way:
    """One row of the table.

    Attributes:
        run: Affinities and labels to segments, or None if it only scores.
        peer: The row that it is compared with.
        floats: Whether it takes float32 affinities, in place of bytes.
        long: Whether it takes those of `LONG` offsets.
    """

    run: Callable[[NDArray[Any], NDArray[np.uint32]], NDArray[Any] | None]
    peer: str
    floats: bool = False
    long: bool = False


def mahotas_fragments(affinities: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Fragments of the paper's code (reference 8.1)."""
    import mahotas

    boundary = 1 - 0.5 * (affinities[1] + affinities[2])
    fragments, count = np.empty(boundary.shape, np.uint64), 0
    for z, section in enumerate(boundary):
        seeds, found = mahotas.label(mahotas.regmax(mahotas.distance(section < 0.5)))
        fragments[z] = mahotas.cwatershed(section, seeds) + count
        count += found
    return fragments


def mahotas_waterz(scoring: str, affinities: NDArray[Any], _: NDArray[np.uint32]) -> NDArray[Any]:
    """The chain of the paper's code."""
    import waterz

    fragments = mahotas_fragments(affinities)
    found = waterz.agglomerate(
        affinities, [0.5], fragments=fragments, scoring_function=f"OneMinus<{scoring}>", discretize_queue=256
    )
    return np.asarray(next(iter(found)))


def bioimage(affinities: NDArray[Any], _: NDArray[np.uint32]) -> NDArray[Any]:
    """Watershed of sections, mean affinities, agglomeration by medians."""
    import bioimage_cpp

    graphs = bioimage_cpp.graph
    boundary = 1 - 0.5 * (affinities[1] + affinities[2])
    fragments, count = np.empty(boundary.shape, np.uint32), 0
    for z, section in enumerate(boundary):
        distance = bioimage_cpp.distance.distance_transform(section < 0.5)
        maxima = (distance == maximum_filter(distance, 3)) & (distance > 0)
        seeds = bioimage_cpp.segmentation.label(maxima).astype(np.uint32)
        fragments[z] = bioimage_cpp.segmentation.watershed(section, seeds) + count
        count += int(seeds.max())
    graph = graphs.region_adjacency_graph(fragments, number_of_threads=1)
    offsets = [list(offset) for offset in NEAREST]
    features = graphs.features.affinity_features(graph, fragments, affinities, offsets, number_of_threads=1)
    policy = graphs.agglomeration.MalaClusterPolicy(num_bins=256, threshold=0.5)
    nodes = policy.optimize(graph, 1 - np.ascontiguousarray(features[:, 0]))
    return np.asarray(graphs.project_node_labels_to_pixels(graph, fragments, nodes, number_of_threads=1))


def elf_multicut(affinities: NDArray[np.float32], _: NDArray[np.uint32]) -> NDArray[Any]:
    """The chain of the paper's other pipeline (reference 8.2)."""
    from elf.segmentation.watershed import distance_transform_watershed

    from multicut import elf_segments

    boundary = 1 - np.minimum(affinities[1], affinities[2])
    fragments, count = np.empty(boundary.shape, np.uint32), 0
    for z, section in enumerate(boundary):
        labels, found = distance_transform_watershed(section, 0.25, 2.0)
        fragments[z] = labels + count
        count += found
    return elf_segments(affinities, fragments)


def ours(method: Method | str, threads: int, affinities: NDArray[Any], _: NDArray[np.uint32]) -> NDArray[Any]:
    return ssns.segment(affinities, method, threads=threads)


def mutex(strides: Triple, affinities: NDArray[Any], _: NDArray[np.uint32]) -> NDArray[Any]:
    method = Agglomeration(fragments=MutexWatershed(strides=strides), score=MeanScore(), threshold=0)
    return ssns.segment(affinities, method, offsets=LONG, threads=1)


def mwatershed_segments(strides: Triple, affinities: NDArray[np.float32], _: NDArray[np.uint32]) -> NDArray[Any]:
    """The same: affinities of nearest neighbours attract, what long-range ones lack to 1 repels."""
    import mwatershed

    signed = affinities.astype(np.float64)
    signed[len(NEAREST) :] -= 1
    every = [(1, 1, 1)] * len(NEAREST) + [strides] * (len(LONG) - len(NEAREST))
    return np.asarray(mwatershed.agglom(signed, LONG, strides=every))


def swept(thresholds: Sequence[float], affinities: NDArray[Any], labels: NDArray[np.uint32]) -> None:
    """Score the paper's method at each threshold."""
    methods = [with_value(Agglomeration(), threshold) for threshold in thresholds]
    for fragments, partitions in sweep_methods(affinities, methods, threads=1):
        overlaps = Contingency.count(fragments, labels)
        for _, segments in partitions:
            score_table(overlaps.renamed(segments))


MEDIAN = "HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>"
MEAN = "MeanAffinity<RegionGraphType, ScoreValue>"
QUANTILE_PEER, MEAN_PEER = "mahotas + waterz, median", "mahotas + waterz, mean"
ONE = "ssns, median, one threshold, scored"
ELF_PEER = "python-elf, multicut"
MUTEX_PEER, STRIDED_PEER = "mwatershed", "mwatershed, strides"
WAYS: dict[str, Way] = {
    QUANTILE_PEER: Way(partial(mahotas_waterz, MEDIAN), QUANTILE_PEER, floats=True),
    MEAN_PEER: Way(partial(mahotas_waterz, MEAN), MEAN_PEER, floats=True),
    "bioimage-cpp, median": Way(bioimage, QUANTILE_PEER, floats=True),
    "ssns, median, one thread": Way(partial(ours, "paper-waterz", 1), QUANTILE_PEER),
    "ssns, median, two threads": Way(partial(ours, "paper-waterz", 2), QUANTILE_PEER),
    "ssns, median, one thread, floats": Way(partial(ours, "paper-waterz", 1), QUANTILE_PEER, floats=True),
    "ssns, mean, one thread": Way(partial(ours, Agglomeration(score=MeanScore()), 1), MEAN_PEER),
    "ssns, mean, two threads": Way(partial(ours, Agglomeration(score=MeanScore()), 2), MEAN_PEER),
    "ssns, default method, one thread": Way(partial(ours, "default", 1), MEAN_PEER),
    "ssns, default method, two threads": Way(partial(ours, "default", 2), MEAN_PEER),
    ELF_PEER: Way(elf_multicut, ELF_PEER, floats=True),
    "ssns, multicut, one thread": Way(partial(ours, "paper-multicut", 1), ELF_PEER),
    "ssns, multicut, two threads": Way(partial(ours, "paper-multicut", 2), ELF_PEER),
    ONE: Way(partial(swept, THRESHOLDS[3:4]), ONE),
    "ssns, median, eight thresholds, scored": Way(partial(swept, THRESHOLDS), ONE),
    MUTEX_PEER: Way(partial(mwatershed_segments, (1, 1, 1)), MUTEX_PEER, floats=True, long=True),
    "ssns, mutex watershed": Way(partial(mutex, (1, 1, 1)), MUTEX_PEER, long=True),
    STRIDED_PEER: Way(partial(mwatershed_segments, STRIDES), STRIDED_PEER, floats=True, long=True),
    "ssns, mutex watershed, strides": Way(partial(mutex, STRIDES), STRIDED_PEER, long=True),
}
VOLUMES = {"synthetic": "synthetic", "long": "synthetic, long-range offsets", "real": "real"}
OURS, THEIRS = "#D55E00", "#0072B2"
"""Vermilion and blue of Okabe and Ito's palette, which are told apart whatever one's colour vision."""
SCALED, KEPT = "ssns, median, one thread", "ssns, default method, one thread"
"""What is timed on other numbers of sections, and what `metrics.py` may score."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--affinities", help="of a part, in a run folder: measured after the synthetic volume")
    parser.add_argument("--labels", help="of the whole volume; the part's place is that of its affinities")
    parser.add_argument("--shape", type=int, nargs=3, default=(100, 1024, 1024), help="of the synthetic volume")
    parser.add_argument("--sections", type=int, nargs="*", default=(25, 50, 100, 200), help="how cost grows")
    parser.add_argument("--repeat", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--only", nargs="*", help="ways whose name has one of these words")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, volume, sections = arguments.measure
        print(json.dumps(measured(WAYS[name], arguments.folder / volume, int(sections), arguments.repeat)))
        return
    names = [name for name in WAYS if not arguments.only or any(word in name for word in arguments.only)]
    volumes = {"synthetic": arguments.shape[0], "long": LONG_SHAPE[0]}
    make_synthetic(arguments.folder / "synthetic", tuple(arguments.shape), NEAREST)
    make_synthetic(arguments.folder / "long", LONG_SHAPE, LONG)
    if arguments.affinities:
        volumes["real"] = import_volume(arguments.folder / "real", arguments.affinities, arguments.labels)
    tables = {}
    for volume, depth in volumes.items():
        rows = {name: result(arguments, name, volume, depth) for name in names if WAYS[name].long == (volume == "long")}
        if not rows:
            continue
        tables[volume] = rows
        print(f"\n{volume}, {' x '.join(map(str, next(iter(rows.values()))['shape']))}:\n\n{in_markdown(rows)}")
    scaled = {n: result(arguments, SCALED, "synthetic", n) for n in sorted(arguments.sections)}
    print(f"\n{SCALED}, on {', '.join(map(str, scaled))} sections:\n\n{growth_in_markdown(scaled)}")
    print("\nfirst call, 2 x 64 x 64: {:.1f} s of the processor, and {:.1f} s once compiled".format(*first_calls()))
    plot(arguments.folder / "segmentation.png", tables, scaled)


def make_synthetic(folder: Path, shape: Triple, offsets: Sequence[Triple]) -> None:
    """Affinities as a network of middling quality would predict them, and their labels."""
    made = f"{shape}, {offsets}, {SEED}, {BLUR}, {NOISE}"
    if (folder / "made").exists() and (folder / "made").read_text() == made:
        return
    from ssns.synthetic import SyntheticSettings, synthesize

    folder.mkdir(parents=True, exist_ok=True)
    _, labels = synthesize(SyntheticSettings(shape=shape, seed=SEED))
    affinities = np.empty((len(offsets), *shape), np.uint8)
    for begin in range(0, shape[0], SLAB):
        before = max(0, begin + min(z for z, _, _ in offsets))  # affinities along z of the first sections of a slab
        exact = np.asarray(labels_to_affinities(labels[before : begin + SLAB], offsets)[0])[:, begin - before :]
        draws = np.random.default_rng((SEED, begin)).normal(0, NOISE, exact.shape)
        blurred = gaussian_filter(exact + draws, (0, 0, BLUR, BLUR))
        affinities[:, begin : begin + SLAB] = (255 * blurred.clip(0, 1)).round()
    np.save(folder / "affinities.npy", affinities)
    np.save(folder / "labels.npy", labels)
    (folder / "made").write_text(made)


def import_volume(folder: Path, affinities: str, labels: str) -> int:
    """Copy affinities and the labels of the same box; the number of sections."""
    opened = open_volume(affinities)
    if not (folder / "labels.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "affinities.npy", opened.read())
        truth = open_volume(labels).read(opened.box.shifted(opened.origin))
        np.save(folder / "labels.npy", components(truth).astype(np.uint32))
    return int(opened.shape[0])


def result(arguments: argparse.Namespace, name: str, volume: str, sections: int) -> dict[str, Any]:
    """What was measured of a way, now or before."""
    shape = "x".join(map(str, arguments.shape)) if volume == "synthetic" else volume
    path = arguments.folder / "results" / f"{shape}-{sections}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    if not path.exists():
        command = [sys.executable, __file__, str(arguments.folder), "--measure", name, volume, str(sections)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        print(f"{volume}, {sections} sections: {name}", file=sys.stderr, flush=True)
        output = subprocess.run(
            [*command, "--repeat", str(arguments.repeat)], check=True, stdout=subprocess.PIPE, env=environment
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(output.stdout.decode().splitlines()[-1])
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measured(way: Way, folder: Path, sections: int, repeat: int) -> dict[str, Any]:
    """The fastest of several runs, and the memory that they took beyond the imports."""
    way.run(*loaded(folder, 2, way.floats, side=128))  # imports, and compiled code from its cache
    imports = psutil.Process().memory_info().rss
    affinities, labels = loaded(folder, sections, way.floats)
    wall, processor = [], []
    for _ in range(repeat):
        segmentation = None  # that of the run before
        begin, begin_processor = time.perf_counter(), processor_seconds()
        segmentation = way.run(affinities, labels)
        wall.append(time.perf_counter() - begin)
        processor.append(processor_seconds() - begin_processor)
    row = {
        "shape": labels.shape,
        "seconds": min(wall),
        "processor": min(processor),
        "megabytes": (peak_bytes() - imports) / 1e6,
    }
    if segmentation is not None:
        scores = ssns.score(segmentation, labels)
        row |= {"voi_split": scores.voi_split, "voi_merge": scores.voi_merge, "arand": scores.arand}
        if way is WAYS[KEPT]:
            write_volume(folder.parent / "segmentation.zarr", segmentation)
            write_volume(folder.parent / "labels.zarr", labels)
    return row


def loaded(folder: Path, sections: int, floats: bool, side: int | None = None) -> Arrays:
    """The first sections; where there are fewer, they are repeated."""
    stored, truth = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("affinities", "labels"))
    shape = (len(stored), sections, *truth[0, :side, :side].shape)
    affinities = np.empty(shape, np.float32 if floats else np.uint8)
    labels = np.empty(affinities.shape[1:], np.uint32)
    for z in range(sections):
        here = stored[:, z % len(truth), :side, :side]
        affinities[:, z] = here / np.float32(255) if floats else here
        labels[z] = truth[z % len(truth), :side, :side]
    return affinities, labels


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def first_calls() -> tuple[float, float]:
    """Seconds of the processor for a first call of a process, without and with compiled code on disk."""
    code = (
        "import time, numpy as np, ssns; ssns.segment; begin = time.process_time()\n"
        "ssns.segment(np.full((3, 2, 64, 64), 200, np.uint8), 'paper-waterz'); print(time.process_time() - begin)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        runs = [subprocess.run([sys.executable, "-c", code], check=True, stdout=-1, env=environment) for _ in range(2)]
    first, second = (float(run.stdout) for run in runs)
    return first, second


def in_markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| | wall, s | processor, s | Mvoxel/s | times as fast (processor) | memory, MB | of the peer's | VOI split |"
        " VOI merge | ARAND |",
        f"|{'---|' * 10}",
    ]
    for name, row in rows.items():
        peer = rows.get(WAYS[name].peer)
        ratios = ["", ""]
        if peer is not None and peer is not row:
            ratios = [
                f"{peer['seconds'] / row['seconds']:.2f} ({peer['processor'] / row['processor']:.2f})",
                f"{row['megabytes'] / peer['megabytes']:.2f}",
            ]
        scores = [f"{row[key]:.4f}" if key in row else "" for key in ("voi_split", "voi_merge", "arand")]
        cells = [
            f"{row['seconds']:.2f}",
            f"{row['processor']:.2f}",
            f"{np.prod(row['shape']) / row['seconds'] / 1e6:.2f}",
            ratios[0],
            f"{row['megabytes']:.0f}",
            ratios[1],
        ]
        lines.append(f"| {' | '.join([name, *cells, *scores])} |")
    return "\n".join(lines)


def growth_in_markdown(rows: Mapping[int, Mapping[str, Any]]) -> str:
    lines = ["| sections | wall, s | processor, s | memory, MB |", "|---|---|---|---|"]
    for n, row in rows.items():
        lines.append(f"| {n} | {row['seconds']:.2f} | {row['processor']:.2f} | {row['megabytes']:.0f} |")
    if len(rows) > 1:
        lines.append(f"\nexponents: wall {exponent(rows, 'seconds'):.3f}, processor {exponent(rows, 'processor'):.3f}")
    return "\n".join(lines)


def exponent(rows: Mapping[int, Mapping[str, Any]], key: str) -> float:
    """That of a power of the number of sections, fitted to seconds."""
    return float(np.polyfit(np.log(list(rows)), np.log([row[key] for row in rows.values()]), 1)[0])


def plot(path: Path, tables: Mapping[str, Mapping[str, Any]], scaled: Mapping[int, Mapping[str, Any]]) -> None:
    """Speed and memory of each way beside its peer, and cost against volume."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    lengths = [len(rows) for rows in tables.values()]
    figure = Figure(figsize=(15, 1.2 + sum(0.9 + 0.3 * n for n in lengths)), dpi=100, layout="constrained")
    axes = figure.subplots(len(tables), 3, squeeze=False, height_ratios=[n + 2 for n in lengths])
    for (speed, memory, rest), (volume, rows) in zip(axes, tables.items(), strict=True):
        shape = " x ".join(map(str, next(iter(rows.values()))["shape"]))
        draw_bars(speed, rows, "Mvoxel/s, more is better", lambda row: np.prod(row["shape"]) / row["seconds"] / 1e6)
        draw_bars(memory, rows, "peak memory beyond imports, GB, less is better", lambda row: row["megabytes"] / 1000)
        speed.set_title(f"{VOLUMES[volume]}, {shape} voxels", loc="left")
        memory.tick_params(labelleft=False)
        rest.set_axis_off()
    figure.suptitle("From affinities to segments; x: times the first of each group")
    colours = {"ssns": OURS, "libraries": THEIRS}
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    if scaled:
        draw_growth(axes[0][2], scaled)
    figure.savefig(path)


def draw_bars(axis: Any, rows: Mapping[str, Any], unit: str, value: Callable[[Mapping[str, Any]], float]) -> None:
    """A bar for each way, those of one peer beside each other, with its number and the times of the peer's."""
    peers = list(dict.fromkeys(WAYS[name].peer for name in rows))
    names = sorted(rows, key=lambda name: peers.index(WAYS[name].peer))
    values = [value(rows[name]) for name in names]
    told = []
    for name, own in zip(names, values, strict=True):
        peer = WAYS[name].peer
        told.append(f" {own:.3g}" + (f" ({own / value(rows[peer]):.2f} x)" if peer in rows and peer != name else ""))
    bars = axis.barh(names, values, color=[OURS if name.startswith("ssns") else THEIRS for name in names])
    axis.bar_label(bars, told, fontsize=8)
    for place in range(1, len(names)):
        if WAYS[names[place]].peer != WAYS[names[place - 1]].peer:
            axis.axhline(place - 0.5, color="0.7", linewidth=0.8)
    axis.set(xlabel=unit, xlim=(0, 1.3 * max(values)), ylim=(len(names) - 0.5, -0.5))
    axis.spines[["top", "right"]].set_visible(False)


def draw_growth(axis: Any, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Seconds against sections, beside a line of seconds in proportion to them."""
    sections, seconds = list(rows), [row["seconds"] for row in rows.values()]
    axis.set_axis_on()
    axis.loglog(sections, seconds, "o-", color=OURS, label=SCALED)
    axis.loglog(sections, [seconds[0] * n / sections[0] for n in sections], ":", color="0.4", label="in proportion")
    axis.set_xticks(sections, map(str, sections), minor=False)
    axis.set_xticks([], minor=True)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    fitted = f", exponent {exponent(rows, 'seconds'):.2f}" if len(rows) > 1 else ""
    axis.set_title(f"cost against volume{fitted}", loc="left")
    height, width = next(iter(rows.values()))["shape"][1:]
    axis.set(xlabel=f"sections of {height} x {width}", ylabel="wall, s")
    axis.legend()


if __name__ == "__main__":
    main()
