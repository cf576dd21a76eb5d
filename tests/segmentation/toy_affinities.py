"""Small volumes drawn in letters, and affinities for them."""

from itertools import product
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from ssns.affinities import NEAREST, edge_ends, labels_to_affinities, widen_borders
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume


def drawn(*sections: str) -> np.ndarray:
    """Ids (z, y, x) of sections drawn as rows of letters, separated by spaces: a = 1, b = 2 ... and . = 0."""
    return np.array([[[max(0, ord(c) - ord("a") + 1) for c in row] for row in s.split()] for s in sections])


def letters(ids: np.ndarray) -> tuple[str, ...]:
    """The drawing of ids."""
    return tuple(" ".join("".join(chr(ord("a") + i - 1) if i else "." for i in row) for row in s) for s in ids)


def with_contacts(regions: np.ndarray, contacts: dict[str, float]) -> np.ndarray:
    """Affinities (3, z, y, x): 1 within regions, 0 between them but for the contacts named by two letters."""
    values = np.eye(27)
    for (first, second), affinity in contacts.items():
        a, b = ord(first) - ord("a") + 1, ord(second) - ord("a") + 1
        values[a, b] = values[b, a] = affinity
    affinities = np.zeros((3, *regions.shape), dtype=np.float32)
    for channel, offset in enumerate(NEAREST):
        here, there = edge_ends(regions.shape, offset)
        affinities[channel][here] = values[regions[here], regions[there]]
    return affinities


def graph_of(regions: np.ndarray, affinities: np.ndarray, **how: Any) -> RegionGraph:
    """The graph of regions, on one thread."""
    return RegionGraph.of(regions, AffinityVolume.checked(affinities, NEAREST, None), threads=1, **how)


def blurred_noise(shape: tuple[int, int, int], seed: int = 0, level: float = 2) -> np.ndarray:
    """Affinities (3, z, y, x), float32, of random blobs; most are near 1 where ``level`` is high."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(3, *shape)), (0, 0, 2, 2))
    return (1 / (1 + np.exp(-8 * noise / noise.std() - level))).astype(np.float32)


def boxes(cuts: tuple[list[int], list[int], list[int]]) -> np.ndarray:
    """Labels of a box cut along z, y and x, with membranes two pixels wide in the plane."""
    indices = [np.repeat(np.arange(len(axis)), axis) for axis in cuts]
    shape = tuple(len(axis) for axis in cuts)
    labels = np.zeros([len(index) for index in indices], dtype=np.int64)
    for place in product(*map(range, shape)):
        where = np.ix_(*(index == i for index, i in zip(indices, place, strict=True)))
        labels[where] = 1 + np.ravel_multi_index(place, shape)
    return widen_borders(labels, "symmetric")


def perfect(labels: np.ndarray) -> np.ndarray:
    """Affinities of labels."""
    return labels_to_affinities(labels)[0]


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays of ids differ in names only."""
    both = np.unique(np.stack([first.ravel(), second.ravel()]).astype(np.int64), axis=1).shape[1]
    return both == len(np.unique(first)) == len(np.unique(second))
