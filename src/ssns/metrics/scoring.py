"""One score for a segmentation, and the conventions that it can be told by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from ssns.errors import UserError
from ssns.metrics.contingency import Contingency
from ssns.metrics.detection import detect
from ssns.metrics.information import variation_of_information
from ssns.metrics.overlaps import Overlaps
from ssns.metrics.rand import RandPairs, distinct_pairs, reference_pairs
from ssns.settings import Component
from ssns.volume import Volume, from_array

Convention = Literal["skimage", "singletons", "excluded", "reference"]
"""What segment id 0 means; see `ScoringSettings`."""


class ScoringSettings(Component):
    """Which voxels are scored, and what segment id 0 means.

    Voxels of the background label are never scored: what they hold does not matter. Conventions differ in segment 0:

    * ``skimage``: an ordinary segment. Equal to scikit-image's ``variation_of_information`` and
      ``adapted_rand_error`` with the background as ``ignore_labels``; the paper's code validates in this way.
    * ``singletons``: each of its voxels is a segment of its own, so that leaving voxels out costs as splitting does.
    * ``excluded``: its voxels are not scored.
    * ``reference``: the paper's evaluation scripts: excluded from VOI, singletons in the Rand error, which counts pairs
      of a voxel with itself and weighs the singletons wrongly (see ``rand.reference_pairs``).

    Where the segmentation holds no 0 the first three agree, and the last differs from them in the Rand error only, by
    less than 0.001 unless segments are tiny.
    """

    background: int | None = Field(
        default=0, ge=0, description="Label id of membrane and outside, which is not scored; none: all ids are scored"
    )
    convention: Convention = Field(
        default="skimage",
        description="Segment 0: an ordinary segment, one segment per voxel, not scored, or as the paper's scripts do",
    )

    @property
    def singleton(self) -> int | None:
        """The segment id whose voxels are segments of their own, if any."""
        return 0 if self.convention == "singletons" else None


@dataclass(frozen=True, slots=True)
class Scores:
    """How far a segmentation is from the truth: of the VOI and the Rand error less is better, of the others more.

    Attributes:
        voi_split: Bits by which neurons are cut in pieces.
        voi_merge: Bits by which segments cover several neurons.
        arand: Adapted Rand error, 0 to 1.
        arand_precision: Share of the voxel pairs in one segment that belong together.
        arand_recall: Share of the voxel pairs of one neuron that were joined.
        object_precision: Share of the segments that are a neuron; this and the others as in ``Detection``.
        object_recall: Share of the neurons that are a segment.
        panoptic_quality: F-score of the two, times the mean IoU.
        ap_50: Average precision at an IoU of 0.5.
        ap_75: At 0.75.
        ap: Mean over 0.50, 0.55 .. 0.95.
    """

    voi_split: float
    voi_merge: float
    arand: float
    arand_precision: float
    arand_recall: float
    object_precision: float
    object_recall: float
    panoptic_quality: float
    ap_50: float
    ap_75: float
    ap: float

    @property
    def voi_sum(self) -> float:
        """Variation of information in bits: split and merge together."""
        return self.voi_split + self.voi_merge

    @property
    def cremi(self) -> float:
        """``sqrt(voi_sum * arand)``, the score of CREMI where a mask has left out what is ``near_boundary``."""
        return math.sqrt(self.voi_sum * max(0.0, self.arand))

    def to_dict(self) -> dict[str, float]:
        """Every score by name, as ``scores.json`` holds them."""
        names = [field.name for field in fields(self)]
        names.insert(names.index("arand"), "voi_sum")
        return {name: getattr(self, name) for name in names}


WORST = Scores(
    voi_split=math.inf,
    voi_merge=math.inf,
    arand=1.0,
    arand_precision=0.0,
    arand_recall=0.0,
    object_precision=0.0,
    object_recall=0.0,
    panoptic_quality=0.0,
    ap_50=0.0,
    ap_75=0.0,
    ap=0.0,
)
"""What a segmentation without a segment counts as where one has to be better than another."""


class NothingSegmentedError(UserError):
    """A convention does not score segment 0, and there is no other where the labels are."""


def score(
    segmentation: ArrayLike | Volume,
    labels: ArrayLike | Volume,
    *,
    settings: ScoringSettings | None = None,
    mask: ArrayLike | Volume | None = None,
) -> Scores:
    """Judge a segmentation by ground truth.

    Args:
        segmentation: Segment ids, any shape, any integer type. Where it or the labels are an open volume, all are read
            block by block.
        labels: Ground truth ids, same shape. Ids count as given: see ``components`` for truth cut from a larger
            volume, whose pieces of one neuron may be unconnected.
        settings: Background and convention. None: label 0 is not scored, segment 0 is a segment.
        mask: Boolean, same shape: where labels are known. None: everywhere.

    Raises:
        UserError: Shapes differ, ids are not integers or are negative, or there is no voxel to score.
        NothingSegmentedError: There is none because the segmentation is 0 there, which the convention leaves out.

    Example:
        >>> import numpy as np
        >>> score(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7])).voi_split
        1.0
    """
    given = (segmentation, labels) if mask is None else (segmentation, labels, mask)
    if isinstance(segmentation, Volume) or isinstance(labels, Volume):
        volumes = [each if isinstance(each, Volume) else from_array(np.asarray(each)) for each in given]
        return score_table(Contingency.count_volumes(*volumes), settings)
    return score_table(Contingency.count(*map(np.atleast_1d, given)), settings)


def score_table(table: Contingency, settings: ScoringSettings | None = None) -> Scores:
    """The scores of a contingency table, such as the sum of the tables of blocks.

    Args:
        table: All voxels, background included.
        settings: As in ``score``.

    Raises:
        UserError: There is no voxel to score.
        NothingSegmentedError: As in ``score``.
    """
    settings = settings or ScoringSettings()
    scored = table.where(scored_rows(table, settings))
    overlaps = Overlaps.of(scored, singleton=settings.singleton)
    split, merge = variation_of_information(overlaps)
    pairs: RandPairs
    if settings.convention == "reference":
        pairs = reference_pairs(table.where(_labelled_rows(table, settings)), table.voxels)
    else:
        pairs = distinct_pairs(overlaps)
    return Scores(split, merge, pairs.error, pairs.precision, pairs.recall, **detect(scored)._asdict())


def scored_rows(table: Contingency, settings: ScoringSettings) -> NDArray[np.bool_]:
    """Which pairs count for the variation of information, (k,).

    Raises:
        UserError: There is no voxel to score.
        NothingSegmentedError: As in ``score``.
    """
    labelled = _labelled_rows(table, settings)
    if not labelled.any():
        raise UserError(_none_of(table, settings, "all of them are background or masked out"))
    if settings.convention not in ("excluded", "reference"):
        return labelled
    segmented: NDArray[np.bool_] = labelled & (table.segments != 0)
    if not segmented.any():
        raise NothingSegmentedError(_none_of(table, settings, "the segmentation is 0 wherever there are labels"))
    return segmented


def _labelled_rows(table: Contingency, settings: ScoringSettings) -> NDArray[np.bool_]:
    """Which pairs are not of the background, (k,)."""
    if settings.background is None:
        return np.ones(table.labels.shape, np.bool_)
    rows: NDArray[np.bool_] = table.labels != settings.background
    return rows


def _none_of(table: Contingency, settings: ScoringSettings, reason: str) -> str:
    return (
        f"labels: wanted voxels to score, got none of {table.voxels} (background {settings.background}, convention "
        f"{settings.convention}): {reason}; check the box, the mask and the background id"
    )
