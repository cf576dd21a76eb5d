"""What one run of prediction does: its tiling, and what is sized by free memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ssns.prediction.reference import reference_tiling
from ssns.prediction.settings import PredictionSettings
from ssns.prediction.tiling import Overlap, Tiling, choose_tile, overlapping_tiling
from ssns.space import Box, Triple, ceil_to_multiple, triple

if TYPE_CHECKING:
    import torch

    from ssns.networks import AffinityNetwork
    from ssns.networks.hardware import Precision
    from ssns.prediction.inference import Predictor

TILE_SHARE = 1 / 4
"""Part of the free memory that calls of the network may take."""

BLOCK_SHARE = 1 / 8
"""Part of the free memory that a block may take."""

LARGEST_CALL = {"cpu": 4_000_000, "cuda": 16_000_000}
"""Voxels of a call of a padded network beyond which it only takes more memory; other devices are treated as a CPU."""

LARGEST_BLOCK = 64_000_000
"""Voxels of a block beyond which a killed run loses too much."""


@dataclass(frozen=True)
class Plan:
    """What is chosen once for a run, partly by free memory.

    Attributes:
        tile: Input of the network (z, y, x).
        batch: Tiles in one call.
        block: Voxels written at once (z, y, x).
        precision: Arithmetic of the network.
    """

    tile: Triple
    batch: int
    block: Triple
    precision: Precision

    def to_json(self) -> dict[str, Any]:
        """As it is kept with the markers."""
        return {"tile": self.tile, "batch": self.batch, "block": self.block, "precision": self.precision}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Plan:
        """Back from `to_json`."""
        return cls(triple(content["tile"]), content["batch"], triple(content["block"]), content["precision"])


@dataclass(frozen=True)
class Job:
    """What is predicted, and how.

    Attributes:
        network: From raw to logits, in evaluation mode.
        offsets: What its channels are affinities to.
        settings: As the user set them.
        box: What is predicted.
        bounds: The volume.
    """

    network: AffinityNetwork
    offsets: tuple[Triple, ...]
    settings: PredictionSettings
    box: Box
    bounds: Box

    @property
    def overlap(self) -> Overlap:
        """What tiles share: nothing but the lost voxels where convolutions are valid, else three halos."""
        averaged = self.settings.test_time != "none"
        transposed = self.settings.test_time == "all"
        # a mirrored view tells of an edge at its other end: what reaches there must be as far from the face
        reach = [max(abs(offset[axis]) for offset in self.offsets) if averaged else 0 for axis in range(3)]
        if transposed:
            reach[1:] = [max(reach[1:])] * 2
        lost, halo = self.network.extents.shrink, self.settings.halo
        inner = [shrink or unused for shrink, unused in zip(lost, halo, strict=True)]
        return Overlap(
            margin=triple(unused + edge for unused, edge in zip(inner, reach, strict=True)),
            outer=triple(
                shrink or min(n, unused) for shrink, n, unused in zip(lost, self.settings.reflect, inner, strict=True)
            ),
            blend=triple(0 if shrink else unused for shrink, unused in zip(lost, halo, strict=True)),
            extents=self.network.extents,
        )

    def tiling(self, tile: Triple) -> Tiling:
        """The tiles of the box; the reference's have a size of their own."""
        if self.settings.tiling == "reference":
            return reference_tiling(self.box, self.network.extents.shrink)
        return overlapping_tiling(self.box, self.bounds, tile, self.overlap)

    def plan(self, device: torch.device, chunks: Triple) -> Plan:
        """Choose what the settings leave open.

        Args:
            device: Where the network is.
            chunks: Voxels (z, y, x) that are stored at once; blocks are multiples of it.
        """
        from ssns.networks.hardware import fast_precision
        from ssns.prediction.inference import SYMMETRIES, Predictor, free_memory

        settings = self.settings
        precision = settings.precision or fast_precision(device)
        predictor = Predictor(self.network, self.offsets, device, precision, SYMMETRIES[settings.test_time])
        if settings.tiling == "reference":
            tile, batch = self.tiling((0, 0, 0)).shape, settings.batch or 1
        else:
            tile, batch = self._call(predictor)
        held = 16 + 4 * (len(self.offsets) + 1) + 12 * len(self.offsets)  # bytes of a voxel: raw, sums, results
        voxels = min(LARGEST_BLOCK, int(BLOCK_SHARE * free_memory(device) / held))
        if settings.block is not None:
            block = ceil_to_multiple(settings.block, chunks)
        else:
            block = _choose_block(self.box.shape, tile, chunks, voxels)
        return Plan(tile, batch, block, precision)

    def _call(self, predictor: Predictor) -> tuple[Triple, int]:
        """Tile and batch of one call of the network, measured unless both are set."""
        from ssns.prediction.inference import bytes_per_voxel, free_memory

        tile, batch = self.settings.tile, self.settings.batch
        if tile is not None and batch is not None:
            return tile, batch
        device = predictor.device
        voxels = int(TILE_SHARE * free_memory(device) / bytes_per_voxel(predictor))
        if not any(self.network.extents.shrink):  # of a valid one, larger tiles share less
            voxels = min(voxels, LARGEST_CALL.get(device.type, LARGEST_CALL["cpu"]))
        tile = tile or choose_tile(self.box, self.bounds, self.overlap, voxels // (batch or 1))
        return tile, batch or max(1, voxels // prod(tile))


def _choose_block(extent: Triple, tile: Triple, chunks: Triple, voxels: int) -> Triple:
    """Multiples of ``chunks``, as many tiles long as ``voxels`` allow: those at the faces of blocks are done twice."""
    for tiles in range(64, 0, -1):
        wanted = triple(min(tiles * length, whole) for length, whole in zip(tile, extent, strict=True))
        block = ceil_to_multiple(wanted, chunks)
        if prod(map(min, block, extent)) <= voxels:
            break
    return block
