"""Training: one loop, and the objectives that it minimises."""

from ssns.training.objectives import (
    ConsistencyObjective,
    Objective,
    PretrainingSettings,
    PseudoLabelObjective,
    SupervisedObjective,
    TransferSettings,
)
from ssns.training.settings import TrainingSettings

__all__ = [
    "ConsistencyObjective",
    "Objective",
    "PretrainingSettings",
    "PseudoLabelObjective",
    "SupervisedObjective",
    "TrainingSettings",
    "TransferSettings",
]
