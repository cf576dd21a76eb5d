"""Prediction: raw to affinities, by tiles of the network's size and blocks of the memory's.

Torch is imported at the first prediction, not with the settings.
"""

from ssns.prediction.reference import reference_windows
from ssns.prediction.settings import PredictionSettings
from ssns.prediction.volumes import predict, predict_box, predict_volume

__all__ = ["PredictionSettings", "predict", "predict_box", "predict_volume", "reference_windows"]
