"""From affinities to segments: fragments, their graph, and a partition of it."""

from ssns.segmentation.agglomerate import MeanScore, QuantileScore, Waterz
from ssns.segmentation.fragments import (
    DistanceTransformWatershed,
    GridSeeds,
    MaximaSeeds,
    MinimaSeeds,
    SeededWatershed,
)
from ssns.segmentation.inputs import check_nearest
from ssns.segmentation.multicut import GreedyAdditive, KernighanLin, Multicut
from ssns.segmentation.steps import DEFAULT_METHOD, PRESETS, Method, checked_value, resolve_method, segment, sweep

__all__ = [
    "DEFAULT_METHOD",
    "PRESETS",
    "DistanceTransformWatershed",
    "GreedyAdditive",
    "GridSeeds",
    "KernighanLin",
    "MaximaSeeds",
    "MeanScore",
    "Method",
    "MinimaSeeds",
    "Multicut",
    "QuantileScore",
    "SeededWatershed",
    "Waterz",
    "check_nearest",
    "checked_value",
    "resolve_method",
    "segment",
    "sweep",
]
