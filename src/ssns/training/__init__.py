"""Training: one loop, and the objectives that it minimises."""

from ssns.training.objectives import (
    ConsistencyObjective,
    Objective,
    PretrainingSettings,
    SupervisedObjective,
    TransferSettings,
)
from ssns.training.settings import TrainingSettings

__all__ = [
    "ConsistencyObjective",
    "Objective",
    "PretrainingSettings",
    "SupervisedObjective",
    "TrainingSettings",
    "TransferSettings",
]
