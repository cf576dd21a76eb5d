"""Segment every neuron in an electron-microscopy volume from a handful of labelled sections.

The public names are resolved when they are first used, so that ``import ssns`` is quick and works without torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssns.affinities import labels_to_affinities
    from ssns.errors import UserError
    from ssns.experiment import load_experiment
    from ssns.metrics import score
    from ssns.networks.mala import MalaUNet
    from ssns.networks.residual_unet import ResidualUNet
    from ssns.prediction import predict
    from ssns.segmentation import segment
    from ssns.volume import open_volume

_HOMES = {
    "MalaUNet": "ssns.networks.mala",
    "ResidualUNet": "ssns.networks.residual_unet",
    "UserError": "ssns.errors",
    "labels_to_affinities": "ssns.affinities",
    "load_experiment": "ssns.experiment",
    "open_volume": "ssns.volume",
    "predict": "ssns.prediction",
    "score": "ssns.metrics",
    "segment": "ssns.segmentation",
}

__all__ = [
    "MalaUNet",
    "ResidualUNet",
    "UserError",
    "labels_to_affinities",
    "load_experiment",
    "open_volume",
    "predict",
    "score",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("ssns")
    if name not in _HOMES:
        raise AttributeError(f"module 'ssns' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
