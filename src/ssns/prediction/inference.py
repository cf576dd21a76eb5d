"""Calls of the network: precision, memory, averaging over symmetries, and the blended tiles of one block."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssns.affinities import GRID_SYMMETRIES, GridSymmetry, averaged_over
from ssns.errors import UserError
from ssns.networks import AffinityNetwork
from ssns.networks.hardware import Precision, device_named
from ssns.prediction.tiling import Tiling
from ssns.space import Box, Triple
from ssns.volume.window import read_reflected

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

SYMMETRIES = {
    "none": GRID_SYMMETRIES[:1],
    "flips": tuple(symmetry for symmetry in GRID_SYMMETRIES if not symmetry.transpose),
    "all": GRID_SYMMETRIES,
}
"""Views of a tile that test-time averaging takes."""

WORKSPACE = 1.5
"""Memory of a call, relative to its live tensors: buffers of convolutions and the gaps of the allocator."""


class Predictor:
    """Affinities of tiles, with the network as it is called everywhere in prediction.

    Args:
        network: In evaluation mode (`evaluating`), on ``device``.
        offsets: What its channels are affinities to.
        device: Where tiles are computed.
        precision: Arithmetic of its convolutions; sums and sigmoids are float32.
        symmetries: Views to average over, the identity first.
    """

    def __init__(
        self,
        network: AffinityNetwork,
        offsets: Sequence[Triple],
        device: torch.device,
        precision: Precision,
        symmetries: Sequence[GridSymmetry],
    ) -> None:
        self.network = network
        self.offsets = offsets
        self.device = device
        self.precision = precision
        self.symmetries = symmetries

    def __call__(self, raw: Tensor) -> Tensor:
        """Affinities (b, c, z', y', x') in [0, 1], float32, of raw (b, z, y, x).

        Several views are brought back into the frame of ``raw`` and averaged where each has a counterpart.
        """
        if len(self.symmetries) == 1:
            return self._affinities(raw)
        return cast("Tensor", averaged_over(self.symmetries, self._affinities, raw, self.offsets))

    def _affinities(self, raw: Tensor) -> Tensor:
        batch = raw[:, None].contiguous(memory_format=torch.channels_last_3d)
        dtype = DTYPES[self.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            logits = self.network(batch)
        wanted = self.network.extents.predicted(Box.of_shape(raw.shape[1:])).shape
        got = tuple(logits.shape)
        if got != (len(raw), len(self.offsets), *wanted):
            raise UserError(
                f"network: wanted {len(self.offsets)} affinity channels of {wanted} voxels for raw of "
                f"{tuple(raw.shape[1:])}, got {got[1]} of {got[2:]}: give one offset per channel, and a tile that the "
                "network can take"
            )
        return torch.sigmoid(logits.float())


@contextmanager
def evaluating(network: AffinityNetwork) -> Iterator[None]:
    """Evaluation and inference mode; each module returns to its own mode afterwards."""
    modules = list(cast("nn.Module", network).modules())
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training


def predict_block(
    predictor: Predictor,
    tiling: Tiling,
    read: Callable[[Box], Any],
    block: Box,
    batch: int,
    advance: Callable[[int], None],
) -> Tensor:
    """Affinities (c, z, y, x) of ``block``, float32, on the device.

    Args:
        predictor: The network.
        tiling: Tiles of all that is predicted; those that reach into ``block`` are computed.
        read: Gives normalised raw, float32, of a box inside ``tiling.bounds``; called once.
        block: What to predict, in the frame of the volume.
        batch: Tiles in one call of the network.
        advance: Told the number of tiles after each call.

    Raises:
        UserError: The affinities are not finite.
    """
    tiles = list(tiling.tiles(block))
    context = tiles[0].read.bounding(tiles[-1].read)
    raw = torch.from_numpy(read_reflected(read, context, tiling.bounds)).to(predictor.device)
    total = torch.zeros((len(predictor.offsets), *block.shape), device=predictor.device)
    weights = torch.zeros(block.shape, device=predictor.device)
    predicted = predictor.network.extents.predicted
    for first in range(0, len(tiles), batch):
        group = tiles[first : first + batch]
        affinities = predictor(torch.stack([raw[tile.read.relative_to(context.start).slices] for tile in group]))
        for tile, values in zip(group, affinities, strict=True):
            kept = tile.keep.intersection(block)
            weight = torch.from_numpy(tile.weight(kept)).to(predictor.device)
            into = kept.relative_to(block.start).slices
            total[:, *into] += values[:, *kept.relative_to(predicted(tile.read).start).slices] * weight
            weights[into] += weight
        advance(len(group))
    total /= weights
    if not torch.isfinite(total).all():
        raise UserError(
            f"network: wanted finite affinities, got others in {block}: raw holds NaN, the checkpoint diverged, or "
            'numbers left the range of fp16 (then: precision = "bf16" or "fp32")'
        )
    return total.clamp_(0, 1)  # rounding may leave it by an ulp


def on_device(network: AffinityNetwork, device: str | None) -> AffinityNetwork:
    """``network``, moved to ``device``, or to the fast one of this machine.

    Raises:
        UserError: There is no such device.
    """
    cast("nn.Module", network).to(device_named(device, "device"))
    return network


def where(network: AffinityNetwork) -> torch.device:
    """The device that ``network`` is on."""
    parameter = next(cast("nn.Module", network).parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses, on a GPU or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def bytes_per_voxel(predictor: Predictor) -> float:
    """Memory that a call of the network takes for each voxel of its input, measured on a small one."""
    extents = predictor.network.extents
    small = extents.at_least(extents.seen(Box.of_shape((4, 32, 32))).shape)
    raw = torch.zeros((1, *small), device=predictor.device)
    with _LiveBytes() as live:
        predictor(raw)
    return float(WORKSPACE * live.peak / raw.numel())


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch
    """Counts the bytes of tensors that operations make, and the most that lived at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if storage not in self._known:
                    self._known.add(storage)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, size: int) -> None:
        self.now -= size
