"""The multicut chain beside python-elf's, on the same fragments: time of each, energy, partition.

    pip install python-elf==0.9.2
    python benchmarks/multicut.py AFFINITIES

AFFINITIES is a volume (3, z, y, x), uint8, of nearest neighbours. Each makes region graph, costs, Kernighan-Lin
solution and voxels. Seconds are of the processor, one thread, the better of two; energies are of our costs, which
differ from elf's by levels of 16 bits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from elf.segmentation import features, multicut
from numpy.typing import NDArray

from ssns.affinities import NEAREST
from ssns.segmentation import Multicut
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.volume import open_volume

Chain = Callable[[AffinityVolume, NDArray[np.uint32]], NDArray[np.integer]]


def ours(volume: AffinityVolume, fragments: NDArray[np.uint32]) -> NDArray[np.integer]:
    graph = RegionGraph.of(fragments, volume, threads=1)
    (segments,) = Multicut().partitions(graph, [0.5])
    return segments[fragments]


def elf(volume: AffinityVolume, fragments: NDArray[np.uint32]) -> NDArray[np.integer]:
    return elf_segments(volume.values.astype(np.float32) / np.float32(255), fragments)


def elf_segments(affinities: NDArray[np.float32], fragments: NDArray[np.uint32]) -> NDArray[np.integer]:
    """Segments (z, y, x) of fragments, from affinities (3, z, y, x) of nearest neighbours."""
    inverted = 1 - affinities
    graph = features.compute_rag(fragments, n_threads=1)
    offsets = [list(offset) for offset in NEAREST]
    mean = features.compute_affinity_features(graph, fragments, inverted, offsets, n_threads=1)[:, 0]
    boundary = np.maximum(inverted[1], inverted[2])
    size = features.compute_boundary_mean_and_length(graph, fragments, boundary, n_threads=1)[:, 1]
    costs = multicut.transform_probabilities_to_costs(mean, edge_sizes=size)
    segments = multicut.multicut_kernighan_lin(graph, costs)
    return np.asarray(features.project_node_labels_to_pixels(graph, fragments, segments))


def main(path: str) -> None:
    volume = AffinityVolume.checked(open_volume(path).read(), NEAREST, None)
    fragments = Multicut().fragments.flood(volume)
    graph = RegionGraph.of(fragments, volume, threads=1)
    (problem,) = Multicut().problems(graph, [0.5])
    print(f"{fragments.max()} fragments, {len(graph.pairs)} contacts")
    seconds, found = {}, {}
    for name, chain in {"ours": ours, "elf": elf}.items():
        times = []
        for _ in range(2):
            start = time.process_time()
            found[name] = chain(volume, fragments)
            times.append(time.process_time() - start)
        seconds[name] = min(times)
        segments = np.zeros(problem.nodes, np.int64)
        segments[fragments] = found[name]
        count = len(np.unique(found[name]))
        print(f"{name:4} {seconds[name]:.2f} s, energy {problem.energy(segments):.6f}, {count} segments")
    both = len(np.unique(np.stack([each.ravel() for each in found.values()]).astype(np.int64), axis=1).T)
    same = both == len(np.unique(found["ours"])) == len(np.unique(found["elf"]))
    print(f"elf takes {seconds['elf'] / seconds['ours']:.1f} times as long; the same partition: {same}")


if __name__ == "__main__":
    main(sys.argv[1])
