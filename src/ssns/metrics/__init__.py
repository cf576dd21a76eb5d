"""Scores of a segmentation: against labels, all from one sparse contingency table, and along skeletons."""

from ssns.metrics.connectivity import BlockwiseComponents, components
from ssns.metrics.contingency import BLOCK, Contingency
from ssns.metrics.cremi import near_boundary
from ssns.metrics.objects import ObjectErrors, object_errors
from ssns.metrics.run_length import RunLength, expected_run_length
from ssns.metrics.scoring import WORST, Convention, NothingSegmentedError, Scores, ScoringSettings, score, score_table
from ssns.metrics.skeletons import Skeletons, ids_at, read_swc, skeleton_step, skeletonize, swc_files

__all__ = [
    "BLOCK",
    "WORST",
    "BlockwiseComponents",
    "Contingency",
    "Convention",
    "NothingSegmentedError",
    "ObjectErrors",
    "RunLength",
    "Scores",
    "ScoringSettings",
    "Skeletons",
    "components",
    "expected_run_length",
    "ids_at",
    "near_boundary",
    "object_errors",
    "read_swc",
    "score",
    "score_table",
    "skeleton_step",
    "skeletonize",
    "swc_files",
]
