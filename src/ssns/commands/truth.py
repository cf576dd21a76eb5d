"""What is known of the ground truth of a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part
from ssns.commands.terminal import warn
from ssns.metrics import components
from ssns.space import Box, Triple, triple
from ssns.volume import Volume


@dataclass(frozen=True, eq=False)
class PartLabels:
    """The labels of a part as an array of its shape, read lazily; 0 where there are none.

    Attributes:
        part: A part with labels.
    """

    part: Part

    @property
    def shape(self) -> Triple:
        """Extent of the part."""
        return self.part.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the ids."""
        return self._stored.dtype

    @property
    def _stored(self) -> Volume:
        labels = self.part.source.labels
        assert labels is not None, "only parts with labels are scored"
        return labels

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The ids in a box of the part."""
        box = Box(triple(each.start for each in index), triple(each.stop for each in index))
        ids = np.zeros(box.shape, self.dtype)
        for here, common in self._covered(box):
            ids[here.slices] = self._stored.read(common.relative_to(self.part.source.labels_start))
        return ids

    def known(self, box: Box) -> NDArray[np.bool_]:
        """Where a box of the part has labels that are not the ignored id."""
        known = np.zeros(box.shape, np.bool_)
        for here, _ in self._covered(box):
            known[here.slices] = True
        ignored = self.part.source.settings.ignored
        if ignored is not None:
            known &= self[box.slices] != ignored
        return known

    def _covered(self, box: Box) -> Iterator[tuple[Box, Box]]:
        """What of a box of the part has labels: boxes from its first voxel on, and the same in voxels of raw."""
        wanted = box.shifted(self.part.box.start)
        for covered in self.part.source.labels_boxes:
            common = covered.intersection(wanted)
            if common.size:
                yield common.relative_to(wanted.start), common


def labels_of(part: Part) -> Volume:
    """The labels of a part, 0 where there are none."""
    raw = part.source.raw
    return Volume(PartLabels(part), cast("Volume", part.source.labels).path, raw.voxel_size_nm, part.origin)


def known_truth(part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Ground truth of a part, relabelled into 26-connected components within it, and where it is known.

    Whatever the background is in the labels, it is 0 in the truth. Voxels outside the labels or of the ignored id are
    not known.
    """
    ids, known = _read(part)
    return components(ids, background=part.source.settings.background), known


def known_ids(part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """What `known_truth` gives, but with an id for each neuron, in however many components."""
    ids, known = _read(part)
    _, index = np.unique(ids, return_inverse=True)
    background = part.source.settings.background
    return np.where(False if background is None else ids == background, 0, index.reshape(ids.shape) + 1), known


def _read(part: Part) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """All labels of a part, and where they are known."""
    labels, everything = PartLabels(part), Box.of_shape(part.box.shape)
    return labels[everything.slices], labels.known(everything)


def truths(
    found: Iterable[Part], of: Callable[[Part], tuple[NDArray[Any], NDArray[np.bool_]]] = known_truth
) -> Iterator[tuple[Part, NDArray[Any], NDArray[np.bool_]]]:
    """Parts with their truth, one at a time; those where nothing is known are left out with a warning."""
    for part in found:
        truth, known = of(part)
        if truth[known].any():
            yield part, truth, known
        else:
            warn_of_nothing(part)


def warn_of_nothing(part: Part) -> None:
    """Say why a part is not scored."""
    warn(f"{part.name}: no voxel there is of a neuron, so it is not scored: label some, or move the region")
