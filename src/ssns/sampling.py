"""Training patches: where they are drawn, and what is known of their labels.

The patches of a step depend on (seed, rank, step) alone, so that a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import Box, Triple, triple
from ssns.volume import Volume
from ssns.volume.normalization import IntensityRange, read_numbers
from ssns.volume.window import loaded, read_reflected

Beyond = Literal["raw", "reflected"]
"""What patches see beyond the labelled box."""


@dataclass(frozen=True)
class Batch:
    """Patches side by side.

    Attributes:
        raw: (b, 1, z, y, x) float32 in [0, 1].
        labels: (b, z, y, x) int32 ids, 0 = background.
        valid: (b, z, y, x) bool, where labels are known.
        places: Volume and box of each patch, for messages.
    """

    raw: NDArray[np.float32]
    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]
    places: tuple[str, ...]


@dataclass(frozen=True)
class RawBatch:
    """Patches of raw side by side.

    Attributes:
        raw: (b, 1, z, y, x) float32 in [0, 1].
        places: Volume and box of each patch, for messages.
        partners: Other patches of the same volumes, likewise; None where nobody asks for them.
    """

    raw: NDArray[np.float32]
    places: tuple[str, ...]
    partners: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RawVolume:
    """Raw to learn from without labels.

    Attributes:
        raw: The image.
        boxes: Where patches may lie, in voxels of raw.
        intensity: How raw is scaled.
    """

    raw: Volume
    boxes: tuple[Box, ...]
    intensity: IntensityRange


@dataclass(frozen=True)
class LabelledVolume:
    """Raw with labels for parts of it, all boxes in voxels of raw.

    Attributes:
        raw: The image.
        labels: The ids.
        labels_start: The voxel of raw at which ``labels`` begins.
        boxes: Where labels may be learned from.
        intensity: How raw is scaled.
        background: The id that is membrane or outside; None: every id is a neuron.
        ignored: The id of voxels whose label is unknown, if there is one.
        unless: Labels of the same raw that come before these, which count as unknown wherever those are known.
    """

    raw: Volume
    labels: Volume
    labels_start: Triple
    boxes: tuple[Box, ...]
    intensity: IntensityRange
    background: int | None = 0
    ignored: int | None = None
    unless: tuple[LabelledVolume, ...] = ()

    def read_labels(self, box: Box) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Ids (0 = background) and where they are known, in a box of raw that may reach beyond the labels."""
        ids = np.zeros(box.shape, self.labels.dtype)
        valid = np.zeros(box.shape, bool)
        for part in self.boxes:
            common = part.intersection(box)
            if common.size:
                here = common.relative_to(box.start).slices
                ids[here] = self.labels.read(common.relative_to(self.labels_start))
                valid[here] = True if self.ignored is None else ids[here] != self.ignored
        for other in self.unless:
            valid &= ~other.read_labels(box)[1]
        return _compact(ids, self.background), valid

    def read_reflected_labels(self, patch: Box, box: Box) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """What `read_labels` gives of ``box``, mirrored at its faces where ``patch`` reaches beyond."""
        both = read_reflected(lambda part: np.stack(self.read_labels(part), axis=-1), patch, box)
        return both[..., 0], both[..., 1].astype(bool)


class RawPatches:
    """Draws patches of raw, each box as often as its share of the voxels.

    A patch lies inside its box where the box is large enough, and around it where it is not; of a patch of which the
    network predicts the inner part only, that part does.

    Args:
        volumes: Where to draw from.
        patch: Extent (z, y, x).
        batch: Patches per step.
        seed: Of the experiment.
        rank: Of this process.
        partners: Whether each patch has a partner from the same box.
        shrink: Voxels at each side of a patch that the network does not predict (z, y, x).
    """

    def __init__(
        self,
        volumes: Sequence[RawVolume],
        patch: Triple,
        batch: int,
        *,
        seed: int,
        rank: int = 0,
        partners: bool = False,
        shrink: Triple = (0, 0, 0),
    ) -> None:
        self._places = [
            (volume, box) for each in volumes for volume in [_raw_in_memory(each, patch)] for box in each.boxes
        ]
        if not self._places:
            raise UserError("unlabelled: wanted at least one box of raw to learn from, got none")
        self._shares = _shares([box for _, box in self._places])
        self.patch = patch
        self.batch = batch
        self.seed = seed
        self.rank = rank
        self.partners = partners
        self.shrink = shrink

    def __call__(self, step: int) -> RawBatch:
        """The patches of ``step``; they are others than those that `LabelledPatches` would draw.

        Raises:
            UserError: Raw holds NaN in one of them.
        """
        draws = np.random.default_rng((self.seed, self.rank, step, 1))
        raws: list[NDArray[np.float32]] = []
        partners: list[NDArray[np.float32]] = []
        places = []
        for _ in range(self.batch):
            volume, box = self._places[draws.choice(len(self._places), p=self._shares)]
            for found in (raws, partners) if self.partners else (raws,):
                patch = _draw_patch(draws, box, self.patch, self.shrink, volume.raw.box)
                found.append(_read_scaled(volume, patch, volume.raw.box)[None])
                if found is raws:
                    places.append(f"{volume.raw.path}, {patch}")
        return RawBatch(np.stack(raws), tuple(places), np.stack(partners) if self.partners else None)


class LabelledPatches:
    """Draws labelled patches, each box as often as its share of the labelled voxels.

    A patch lies inside its box where the box is large enough, and around it where it is not: then raw beyond the box
    is the true neighbouring raw, and labels there are unknown. Or the box is mirrored at its faces, with its labels,
    and lies in the middle of the patch, as in the paper's code (reference 2.5). Of a patch of which the network
    predicts the inner part only, that part does.

    Args:
        volumes: Where to draw from.
        patch: Extent of raw (z, y, x).
        batch: Patches per step.
        seed: Of the experiment.
        rank: Of this process.
        beyond: What a patch sees that is larger than its box: the true raw, or the box reflected.
        shrink: Voxels at each side of a patch that the network does not predict (z, y, x).
        stream: Of several samplers of one training, each has another, and so other draws.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        patch: Triple,
        batch: int,
        *,
        seed: int,
        rank: int = 0,
        beyond: Beyond = "raw",
        shrink: Triple = (0, 0, 0),
        stream: int | None = None,
    ) -> None:
        self.volumes = [_in_memory(volume, patch) for volume in volumes]
        self.patch = patch
        self.batch = batch
        self.seed = seed
        self.rank = rank
        self.beyond = beyond
        self.shrink = shrink
        self.stream = () if stream is None else (stream,)
        self._places = [(volume, box) for volume in self.volumes for box in volume.boxes]
        if not self._places:
            raise UserError("labelled: wanted at least one box with labels to learn from, got none")
        self._shares = _shares([box for _, box in self._places])

    def __call__(self, step: int) -> Batch:
        """The patches of ``step``.

        Raises:
            UserError: Raw holds NaN in one of them.
        """
        draws = np.random.default_rng((self.seed, self.rank, step, *self.stream))
        raws, labels, valids, places = [], [], [], []
        for _ in range(self.batch):
            volume, box = self._places[draws.choice(len(self._places), p=self._shares)]
            if self.beyond == "reflected":
                patch = _draw_patch(draws, box, self.patch, self.shrink)
                raws.append(_read_scaled(volume, patch, box)[None])
                ids, valid = volume.read_reflected_labels(patch, box)
            else:
                patch = _draw_patch(draws, box, self.patch, self.shrink, volume.raw.box)
                raws.append(_read_scaled(volume, patch, volume.raw.box)[None])
                ids, valid = volume.read_labels(patch)
            labels.append(ids)
            valids.append(valid)
            places.append(f"{volume.raw.path}, {patch}")
        return Batch(np.stack(raws), np.stack(labels), np.stack(valids), tuple(places))


def _shares(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """The share of each box of all their voxels."""
    sizes = np.array([box.size for box in boxes], np.float64)
    shares: NDArray[np.float64] = sizes / sizes.sum()
    return shares


def seen_by_patches(box: Box, patch: Triple, bounds: Box, shrink: Triple = (0, 0, 0)) -> Box:
    """What of a volume of ``bounds`` patches of a box see: the box, and the raw around it where it is too small.

    Around what they predict, they see ``shrink`` more voxels at each side.
    """
    predicted = _predicted(patch, shrink)
    starts = _starts(box, predicted, bounds)
    ends = triple(end - 1 + extent for end, extent in zip(starts.stop, predicted, strict=True))
    return Box(starts.start, ends).grown(shrink).intersection(bounds)


def _predicted(patch: Triple, shrink: Triple) -> Triple:
    """The extent of what is predicted of a patch."""
    return triple(extent - 2 * lost for extent, lost in zip(patch, shrink, strict=True))


def _starts(box: Box, patch: Triple, bounds: Box) -> Box:
    """The starts of patches that hold as much of the box, and then of the volume, as they can."""
    ends = []
    for first, end, extent, lower, upper in zip(box.start, box.stop, patch, bounds.start, bounds.stop, strict=True):
        low, high = sorted((first, end - extent))
        lowest, highest = sorted((lower, upper - extent))
        ends.append([min(max(value, lowest), highest) for value in (low, high)])
    return Box(triple(low for low, _ in ends), triple(high + 1 for _, high in ends))


def _draw_patch(draws: np.random.Generator, box: Box, patch: Triple, shrink: Triple, bounds: Box | None = None) -> Box:
    """A patch whose predicted part lies in its box, or around it in ``bounds``, or without these centred on it."""
    predicted = _predicted(patch, shrink)
    if bounds is None:
        start = _draw_centred_start(draws, box, predicted)
    else:
        start = _draw_start(draws, box, predicted, bounds)
    return Box.of_shape(predicted, start).grown(shrink)


def _draw_start(draws: np.random.Generator, box: Box, patch: Triple, bounds: Box) -> Triple:
    """A start, uniform over those that a patch of the box may have."""
    starts = _starts(box, patch, bounds)
    return triple(int(draws.integers(low, end)) for low, end in zip(starts.start, starts.stop, strict=True))


def _draw_centred_start(draws: np.random.Generator, box: Box, patch: Triple) -> Triple:
    """A start inside the box, uniform, or that which has the box in the middle along axes where it is too small."""
    return triple(
        int(draws.integers(first, end - extent, endpoint=True))
        if extent <= end - first
        else first - (extent - end + first) // 2
        for first, end, extent in zip(box.start, box.stop, patch, strict=True)
    )


def _read_scaled(volume: RawVolume | LabelledVolume, patch: Box, bounds: Box) -> NDArray[np.float32]:
    """Scaled raw of ``patch``, mirrored at the faces of ``bounds`` where it reaches beyond."""
    return volume.intensity.apply(read_reflected(partial(read_numbers, volume.raw), patch, bounds))


def _compact(ids: NDArray[np.integer[Any]], background: int | None) -> NDArray[np.int32]:
    """Ids as int32 with 0 for background, equal where they were equal."""
    if background == 0 and ids.max() <= np.iinfo(np.int32).max:
        return ids.astype(np.int32)
    unique, index = np.unique(ids, return_inverse=True)
    compact: NDArray[np.int32] = (index.reshape(ids.shape) + 1).astype(np.int32)
    if background is not None and background in unique:
        compact[ids == background] = 0
    return compact


def _around(boxes: Sequence[Box], patch: Triple, bounds: Box) -> Box:
    """What patches that touch any of ``boxes`` can see of a volume of ``bounds``."""
    around = boxes[0]
    for box in boxes[1:]:
        around = around.bounding(box)
    return around.grown(patch).intersection(bounds)


def _raw_in_memory(volume: RawVolume, patch: Triple) -> RawVolume:
    """The volume with what patches see of it in memory, where four times as much is free."""
    if not volume.boxes:
        return volume
    around = _around(volume.boxes, patch, volume.raw.box)
    if around.size * volume.raw.dtype.itemsize > psutil.virtual_memory().available / 4:
        return volume
    return replace(volume, raw=loaded(volume.raw, around))


def _in_memory(volume: LabelledVolume, patch: Triple) -> LabelledVolume:
    """The volume with its labelled part and what patches see around it in memory, where four times as much is free."""
    around = _around(volume.boxes, patch, volume.raw.box)
    needed = around.size * volume.raw.dtype.itemsize
    needed += sum(_known(each, around).size * each.labels.dtype.itemsize for each in (volume, *volume.unless))
    if needed > psutil.virtual_memory().available / 4:
        return volume
    with_labels, *others = (
        replace(each, labels=loaded(each.labels, known.relative_to(each.labels_start)))
        if (known := _known(each, around)).size
        else each
        for each in (volume, *volume.unless)
    )
    return replace(with_labels, raw=loaded(volume.raw, around), unless=tuple(others))


def _known(volume: LabelledVolume, box: Box) -> Box:
    """What of a box the labels cover."""
    return box.intersection(Box.of_shape(volume.labels.shape, volume.labels_start))
