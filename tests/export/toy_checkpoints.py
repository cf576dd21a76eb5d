"""Untrained networks as checkpoints; batch normalisation has statistics of its own."""

import torch

from ssns.checkpoint import Checkpoint
from ssns.networks import MalaUNetSettings, ResidualUNetSettings
from ssns.volume.normalization import IntensityRange, PercentileNormalization

NETWORKS = {
    "residual": ResidualUNetSettings(filters=(4, 8)),
    "unshuffled": ResidualUNetSettings(filters=(4, 6, 8), unshuffle=2),
    "bilinear, replicated, group": ResidualUNetSettings(
        filters=(4, 8), upsampling="bilinear", padding="replicate", normalization="group", merge="add"
    ),
    "nearest, leaky, no skips": ResidualUNetSettings(
        filters=(4, 8), upsampling="nearest", activation="leaky0.1", merge="none"
    ),
    "mala": MalaUNetSettings(features=2, growth=2, depth=1),
}


def checkpoint(network, normalization=None, offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1))):
    """Random weights."""
    generator = torch.Generator().manual_seed(0)
    built = network.build(len(offsets))
    weights = built.state_dict()
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(0.5 + drawn if "running_var" in name else drawn - 0.5)
    ranges = {"a": IntensityRange(-2.5, 2.9), "b": IntensityRange(-2.7, 3.1)}
    return Checkpoint(network, weights, offsets, normalization or PercentileNormalization(), ranges)
