"""Training: one loop, and the objectives that it minimises."""

from ssns.training.settings import TrainingSettings

__all__ = ["TrainingSettings"]
