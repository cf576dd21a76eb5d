"""Affinities of a volume of any size.

1. The box to predict is laid out in tiles (`tiling`, `reference`), sized by free memory (`plan`).
2. It is cut into blocks, multiples of the chunks that are written.
3. For each block that is not marked as done: its raw is read once with its context, the tiles that reach into it are
   computed and blended (`inference`), the affinities are written, the block is marked.

An array is a volume in memory: there is no second implementation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssns.affinities import NEAREST
from ssns.blockwise import Markers, blocks
from ssns.checkpoint import Checkpoint, load_checkpoint
from ssns.errors import UserError
from ssns.prediction.plan import Job, Plan
from ssns.prediction.settings import PredictionSettings
from ssns.space import Box, Triple
from ssns.volume import Volume, check_raw, from_array, open_volume
from ssns.volume.normalization import IntensityRange, intensity_range
from ssns.zoo import weights_path

if TYPE_CHECKING:
    import torch

    from ssns.networks import AffinityNetwork

Normalize = Callable[[NDArray[Any]], NDArray[np.float32]]
"""From stored intensities to [0, 1]."""

Progress = Callable[[int, int], None]
"""Told the tiles done and the tiles in all."""


class AffinityWriter(Protocol):
    """Where affinities go: an array (c, z, y, x) whose extent is that of the predicted box."""

    @property
    def chunks(self) -> Triple:
        """Voxels (z, y, x) that are stored at once."""
        ...

    def write(self, box: Box, data: NDArray[Any]) -> None:
        """Store ``data`` (c, z, y, x) at ``box``, and return when it is safe."""
        ...


def predict(
    raw: Volume | NDArray[Any] | str | os.PathLike[str],
    checkpoint: Checkpoint | str | os.PathLike[str],
    settings: PredictionSettings | None = None,
    *,
    box: Box | None = None,
    intensity: IntensityRange | tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Affinities of raw, by a trained network.

    Args:
        raw: A volume, its path, or an array (z, y, x), as it is stored; its intensities are scaled to [0, 1].
        checkpoint: Or its path, or ``zoo:NAME``.
        settings: Tiles, precision, type of the result; the defaults store uint8.
        box: Predict only this part, with true raw around it.
        intensity: The intensities that become 0 and 1, as ``(40, 210)``. None: measured on all of ``raw``, as the
            checkpoint says (percentiles, unless trained otherwise). Give them where ``raw`` is a crop or one of
            several stacks that belong together: each would be scaled by its own percentiles. Those of the training are
            ``ranges`` of the checkpoint.
        progress: Told the tiles done and the tiles in all.

    Returns:
        Affinities (c, z, y, x) of ``box``; uint8 is ``round(255 * affinity)``. What ``ssns.segment`` takes.

    Raises:
        UserError: No such checkpoint, no such box, no such intensities, or raw without contrast or with NaN.
    """
    if isinstance(raw, str | os.PathLike):
        raw = open_volume(raw)
    volume = raw if isinstance(raw, Volume) else from_array(raw)
    check_raw(volume)
    span = None if intensity is None else intensity_range(intensity)
    trained = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(weights_path(checkpoint))
    if span is not None and trained.normalization.prepared(volume) is not volume:
        raise UserError(
            f"intensity: wanted none, as the checkpoint's sections are levelled first, got {intensity}: leave it out"
        )
    volume = trained.normalization.prepared(volume)
    from ssns.prediction.inference import on_device

    settings = settings or PredictionSettings()
    return predict_box(
        on_device(trained.build(), settings.device),
        volume,
        box or volume.box,
        settings,
        normalize=(span or trained.normalization.measure(volume)).apply,
        offsets=trained.offsets,
        progress=progress,
    )


def predict_box(
    network: AffinityNetwork,
    raw: Volume,
    box: Box,
    settings: PredictionSettings | None = None,
    *,
    normalize: Normalize,
    offsets: Sequence[Triple] = NEAREST,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Affinities of a part of a volume, in memory; see `predict_volume`.

    Returns:
        Affinities (c, z, y, x) of ``box`` in ``settings.dtype``.
    """
    settings = settings or PredictionSettings()
    result = _ArrayWriter(np.empty((len(offsets), *box.shape), settings.dtype))
    predict_volume(network, raw, result, settings, normalize=normalize, offsets=offsets, box=box, progress=progress)
    return result.array


def predict_volume(
    network: AffinityNetwork,
    raw: Volume,
    writer: AffinityWriter,
    settings: PredictionSettings | None = None,
    *,
    normalize: Normalize,
    offsets: Sequence[Triple] = NEAREST,
    box: Box | None = None,
    markers: Markers | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the affinities of a volume block by block, in bounded memory.

    Args:
        network: From raw to logits; it keeps its mode, and its device: that of ``settings`` is for who builds it.
        raw: The volume; each block reads its part and the context around it, once.
        writer: Its voxel 0 is the first voxel of ``box``.
        settings: Tiles, precision, stored type, blocks.
        normalize: From stored intensities to float32 in [0, 1].
        offsets: What the channels of the network are affinities to.
        box: Predict only this part, with true raw around it (the reference's tiling mirrors it at its own faces).
        markers: Where a killed run goes on; the choices made by free memory are kept there too. They must be as old
            as what ``writer`` holds: `Markers.clear` them when it begins anew.
        progress: Told the tiles done and the tiles in all, those of earlier runs included.

    Raises:
        UserError: ``box`` leaves the volume, a tile that the network cannot take, affinities not finite.
        MissingBlocksError: Blocks are not marked as done at the end.
    """
    from ssns.prediction.inference import SYMMETRIES, Predictor, evaluating, predict_block, where

    settings = settings or PredictionSettings()
    bounds = Box.of_shape(raw.shape)
    box = bounds if box is None else box
    if box.size == 0 or not bounds.contains(box):
        raise UserError(f"box: wanted voxels inside the volume ({bounds}), got {box}")

    def read(part: Box) -> NDArray[np.float32]:
        # torch shares the memory, and warns where it may not write
        return np.require(normalize(raw.read(part)), np.float32, ("C", "W"))

    job = Job(network, tuple(offsets), settings, box, bounds)
    device = where(network)
    with evaluating(network):
        plan = job.plan(device, writer.chunks)
        if markers is not None:
            plan = Plan.from_json(markers.pinned("plan", plan.to_json()))
        predictor = Predictor(network, offsets, device, plan.precision, SYMMETRIES[settings.test_time])
        tiling = job.tiling(plan.tile)
        grid = blocks(box, plan.block)
        pending = grid if markers is None else markers.missing(grid)
        count = _Count(progress, sum(tiling.count(block.write) for block in grid))
        count.advance(count.total - sum(tiling.count(block.write) for block in pending))
        for block in pending:
            affinities = predict_block(predictor, tiling, read, block.write, plan.batch, count.advance)
            writer.write(block.write.relative_to(box.start), _stored(affinities, settings.dtype))
            if markers is not None:
                markers.mark(block)
    if markers is not None:
        markers.require(grid)


class _Count:
    """Tiles done, as `Progress` is told them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self.done = 0

    def advance(self, tiles: int) -> None:
        self.done += tiles
        if self.progress is not None:
            self.progress(self.done, self.total)


def _stored(affinities: torch.Tensor, dtype: str) -> NDArray[Any]:
    if dtype == "uint8":
        affinities = (255 * affinities).round_()
    return affinities.cpu().numpy().astype(dtype, copy=False)


@dataclass(frozen=True)
class _ArrayWriter:
    array: NDArray[Any]
    chunks: Triple = (1, 1, 1)

    def write(self, box: Box, data: NDArray[Any]) -> None:
        self.array[:, *box.slices] = data
