"""Miniatures of the published data sets: their files, a sixty-fourth as wide, and what prepare must make of them."""

import hashlib
from dataclasses import replace

import h5py
import numpy as np
import tifffile
from PIL import Image

from ssns.datasets import DATASETS
from ssns.volume import write_volume

SMALLER = {1024: 16, 1250: 20, 3072: 48, 911: 14, 113: 2, 520: 10}
CREMI_AT = (slice(37, 162), slice(14, 34), slice(14, 34))
CENTRE = (slice(0, 125), slice(2, 18), slice(2, 18))
SUBSET = (6, 12, 10)


def miniature(dataset):
    """The data set with smaller sections, and without checksums of files that are not these."""

    def small(extents):
        return tuple(SMALLER.get(n, n) for n in extents)

    def layout(each):
        start = each.start if isinstance(each.start, str) or each.path.startswith("kasthuri15") else small(each.start)
        return replace(each, start=start, sha256=None, ids=None)

    outputs = (
        replace(each, shape=small(each.shape), layouts=tuple(map(layout, each.layouts))) for each in dataset.outputs
    )
    return replace(dataset, outputs=tuple(outputs))


def miniatures(monkeypatch):
    """Put the miniatures in the place of the data sets."""
    for name, dataset in list(DATASETS.items()):
        monkeypatch.setitem(DATASETS, name, miniature(dataset))


def raw_of(*shape, seed=0):
    """Raw without zeros."""
    return np.random.default_rng(seed).integers(1, 255, shape, dtype=np.uint8)


def labels_of(raw):
    """Labels whose background, 0, is dark in raw."""
    return np.where(raw < 40, 0, raw // 40).astype(np.uint16)


def vast(downloads):
    """The VAST package; pages of labels are numbered against those of raw. Raw and labels by volume."""
    made = {}
    for name, depth, first, raw_page, folder in (
        ("AC3", 256, 0, "ac3_EM/Thousand_highmag_256slices_2kcenter_1k_inv_{:04d}.png", "ac3_dbseg_images"),
        ("AC4", 100, 1, "ac4_EM/affinecropped4_inv_{:04d}.png", "ac4_seg_daniel"),
    ):
        raw = raw_of(depth, 16, 16, seed=depth)
        ids = labels_of(raw).astype(np.uint32) * 70_000
        for z in range(depth):
            page = downloads / "AC3AC4Package" / raw_page.format(z + first)
            page.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(raw[z]).save(page)
            colours = np.stack([ids[z] >> 16, ids[z] >> 8 & 255, ids[z] & 255], -1).astype(np.uint8)
            page = downloads / f"AC3AC4Package/{folder}/{name.lower()}_daniel_s{depth - z:04d}.png"
            page.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colours).save(page)
        made[name] = raw, ids
    return made


def snemi(downloads, *, depth=100):
    """train-input.tif and train-labels.tif, unpacked with their folders."""
    raw = raw_of(depth, 16, 16)
    for folder, name, array in (("image", "train-input", raw), ("seg", "train-labels", labels_of(raw))):
        (downloads / folder).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(downloads / folder / f"{name}.tif", array, compression="zlib")
    return raw, labels_of(raw)


def processed(file, array):
    """A file of the paper's code."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        opened["main"] = array
    return array


def cremi(file, *, padded=False, labelled=True):
    """A file of the challenge. Raw (padded or not) and labels of the cropped part."""
    raw = raw_of(200, 48, 48) if padded else raw_of(125, 20, 20)
    labels = labels_of(raw[CREMI_AT] if padded else raw).astype(np.uint64)
    labels[labels == 0] = 2**64 - 3
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        opened["volumes/raw"] = raw
        opened["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        if labelled:
            opened["volumes/labels/neuron_ids"] = labels
            opened["volumes/labels/neuron_ids"].attrs["resolution"] = (40.0, 4.0, 4.0)
            if padded:
                opened["volumes/labels/neuron_ids"].attrs["offset"] = (40.0 * 37, 4.0 * 14, 4.0 * 14)
    return raw, labels_of(raw[CREMI_AT] if padded else raw)


def kasthuri(downloads, start=(1000, 7500, 3200)):
    """The labels of a subset, and a part of the whole volume around it that knows its origin."""
    part = raw_of(*(n + 10 for n in SUBSET), seed=start[0])
    write_volume(downloads / "kasthuri15.zarr", part, voxel_size_nm=(30, 6, 6), origin=tuple(n - 5 for n in start))
    raw = part[tuple(slice(5, 5 + n) for n in SUBSET)]
    name = "superset_z{}_y{}_x{}_labels_reid.hdf".format(*start)
    processed(downloads / name, labels_of(raw))
    return raw, labels_of(raw)


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()
