"""Small networks whose reach is known, and what they say of an array."""

import numpy as np
import torch
from torch import Tensor, nn

from ssns.affinities import NEAREST, edge_ends
from ssns.networks import Extents
from ssns.prediction import predict_box
from ssns.volume import from_array


class Padded(nn.Module):
    """Two padded convolutions: a reach of 2; half the resolution in the plane in between where ``pool`` is 2."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pool = pool
        self.extents = Extents((1, pool, pool), (1, pool, pool))
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.second = nn.Conv3d(4, 3, 3, padding=1)
        self.voxels = 0

    def forward(self, raw: Tensor) -> Tensor:
        self.voxels += raw.numel()
        self.extents.check("raw", raw.shape[2:])
        features = self.norm(torch.relu(self.first(raw)))
        features = nn.functional.max_pool3d(features, (1, self.pool, self.pool))
        features = features.repeat_interleave(self.pool, 3).repeat_interleave(self.pool, 4)
        return 3 * self.second(features)


class Valid(nn.Module):
    """Unpadded convolutions around a pooling in the plane: loses 2 voxels along z and 3 in the plane."""

    extents = Extents((5, 8, 8), (1, 2, 2), (2, 3, 3))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(1, 4, 3)
        self.second = nn.Conv3d(4, 3, 3)

    def forward(self, raw: Tensor) -> Tensor:
        self.extents.check("raw", raw.shape[2:])
        features = nn.functional.max_pool3d(torch.relu(self.first(raw)), (1, 2, 2))
        return 3 * self.second(features).repeat_interleave(2, 3).repeat_interleave(2, 4)


class SameId(nn.Module):
    """Exact affinities of raw that holds ids; edges that leave the tile get an affinity of 1/2."""

    extents = Extents()

    def __init__(self, offsets) -> None:
        super().__init__()
        self.offsets = offsets

    def forward(self, raw: Tensor) -> Tensor:
        logits = torch.zeros((len(raw), len(self.offsets), *raw.shape[2:]))
        for channel, offset in enumerate(self.offsets):
            here, there = edge_ends(raw.shape[2:], offset)
            same = raw[:, 0][(..., *here)] == raw[:, 0][(..., *there)]
            logits[:, channel][(..., *here)] = torch.where(same, 10.0, -10.0)
        return logits


class Crop(nn.Module):
    """Raw itself as every affinity, in a tile of the paper's valid network; its pools make the stride."""

    extents = Extents((29, 213, 213), (1, 1, 1), (14, 106, 106))

    def forward(self, raw: Tensor) -> Tensor:
        # of all that a tile sees, so that it matters which tile has the last word
        kept = torch.logit(raw[:, :, 14:-14, 106:-106, 106:-106]) + raw.mean((2, 3, 4), keepdim=True)
        return kept.expand(-1, 3, -1, -1, -1)


def predict_array(network, raw, settings=None, *, offsets=NEAREST, box=None):
    """Affinities of an array in [0, 1]."""
    volume = from_array(raw)
    return predict_box(network, volume, box or volume.box, settings, normalize=np.asarray, offsets=offsets)
