"""Scores of a segmentation against ground truth, all from one sparse contingency table."""

from ssns.metrics.connectivity import BlockwiseComponents, components
from ssns.metrics.contingency import Contingency
from ssns.metrics.scoring import WORST, Convention, NothingSegmentedError, Scores, ScoringSettings, score, score_table

__all__ = [
    "WORST",
    "BlockwiseComponents",
    "Contingency",
    "Convention",
    "NothingSegmentedError",
    "Scores",
    "ScoringSettings",
    "components",
    "score",
    "score_table",
]
