"""Scores of a segmentation against ground truth, all from one sparse contingency table."""

from ssns.metrics.connectivity import components
from ssns.metrics.contingency import Contingency
from ssns.metrics.scoring import Convention, Scores, ScoringSettings, score, score_table

__all__ = ["Contingency", "Convention", "Scores", "ScoringSettings", "components", "score", "score_table"]
