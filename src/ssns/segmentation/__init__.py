"""From affinities to segments: fragments, their graph, and a partition of it."""

from ssns.segmentation.agglomerate import Agglomeration, MaximumScore, MeanScore, MergeTree, QuantileScore
from ssns.segmentation.cleaning import Cleaning
from ssns.segmentation.costs import LearnedAffinity, MeanAffinity, QuantileAffinity
from ssns.segmentation.fragments import (
    DistanceTransformWatershed,
    GridSeeds,
    LsdWatershed,
    MaximaSeeds,
    MinimaSeeds,
    SeededWatershed,
)
from ssns.segmentation.inputs import check_nearest
from ssns.segmentation.lifted import GraphDistance, LongRange, NoneLifted
from ssns.segmentation.multicut import Multicut
from ssns.segmentation.mutex import MutexWatershed
from ssns.segmentation.solvers import FusionMoves, GreedyAdditive, KernighanLin, MutexClustering
from ssns.segmentation.steps import (
    CANDIDATES,
    DEFAULT_METHOD,
    PRESETS,
    Method,
    check_offsets,
    checked_value,
    is_unlearned,
    learn_affinity,
    learned,
    resolve_method,
    segment,
    sweep,
    sweep_methods,
    unlearned,
    value_of,
    with_value,
    without_value,
)

__all__ = [
    "CANDIDATES",
    "DEFAULT_METHOD",
    "PRESETS",
    "Agglomeration",
    "Cleaning",
    "DistanceTransformWatershed",
    "FusionMoves",
    "GraphDistance",
    "GreedyAdditive",
    "GridSeeds",
    "KernighanLin",
    "LearnedAffinity",
    "LongRange",
    "LsdWatershed",
    "MaximaSeeds",
    "MaximumScore",
    "MeanAffinity",
    "MeanScore",
    "MergeTree",
    "Method",
    "MinimaSeeds",
    "Multicut",
    "MutexClustering",
    "MutexWatershed",
    "NoneLifted",
    "QuantileAffinity",
    "QuantileScore",
    "SeededWatershed",
    "check_nearest",
    "check_offsets",
    "checked_value",
    "is_unlearned",
    "learn_affinity",
    "learned",
    "resolve_method",
    "segment",
    "sweep",
    "sweep_methods",
    "unlearned",
    "value_of",
    "with_value",
    "without_value",
]
