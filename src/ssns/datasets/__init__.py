"""Published data sets: where they come from, and how they become the files that the shipped experiments read."""

from ssns.datasets.converting import Converted, Plan, check_shape, convert, plan_output, reversed_fits_better
from ssns.datasets.cremi import CREMI, CREMI_PADDED
from ssns.datasets.dataset import Dataset, Download, Layout, Output, Shape
from ssns.datasets.fib25 import FIB25
from ssns.datasets.kasthuri import AC4_AROUND, KASTHURI15, SNEMI3D

DATASETS = {each.name: each for each in (SNEMI3D, CREMI, CREMI_PADDED, KASTHURI15, AC4_AROUND, FIB25)}
"""All of them, by the name that a user types."""

__all__ = [
    "DATASETS",
    "Converted",
    "Dataset",
    "Download",
    "Layout",
    "Output",
    "Plan",
    "Shape",
    "check_shape",
    "convert",
    "plan_output",
    "reversed_fits_better",
]
