"""From affinities to segments: fragments, their graph, and a partition of it."""

from ssns.segmentation.agglomerate import Agglomeration, MaximumScore, MeanScore, MergeTree, QuantileScore
from ssns.segmentation.fragments import (
    DistanceTransformWatershed,
    GridSeeds,
    LsdWatershed,
    MaximaSeeds,
    MinimaSeeds,
    SeededWatershed,
)
from ssns.segmentation.inputs import check_nearest
from ssns.segmentation.multicut import GreedyAdditive, KernighanLin, Multicut
from ssns.segmentation.steps import (
    CANDIDATES,
    DEFAULT_METHOD,
    PRESETS,
    Method,
    checked_value,
    resolve_method,
    segment,
    sweep,
    sweep_methods,
    value_of,
    with_value,
    without_value,
)

__all__ = [
    "CANDIDATES",
    "DEFAULT_METHOD",
    "PRESETS",
    "Agglomeration",
    "DistanceTransformWatershed",
    "GreedyAdditive",
    "GridSeeds",
    "KernighanLin",
    "LsdWatershed",
    "MaximaSeeds",
    "MaximumScore",
    "MeanScore",
    "MergeTree",
    "Method",
    "MinimaSeeds",
    "Multicut",
    "QuantileScore",
    "SeededWatershed",
    "check_nearest",
    "checked_value",
    "resolve_method",
    "segment",
    "sweep",
    "sweep_methods",
    "value_of",
    "with_value",
    "without_value",
]
