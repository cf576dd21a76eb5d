"""ONNX: the network with its sigmoid, for onnxruntime and whatever else reads that format."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from ssns.checkpoint import Checkpoint

OPSET = 18
"""Of ONNX: onnxruntime 1.14 (2023) and later."""


def export_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write a network from ``raw`` (b, 1, z, y, x) to ``affinities`` (b, c, z', y', x'), float32, both in [0, 1].

    Batch and extents may be any that the network takes; the metadata tells which, the offset of each channel, and how
    raw is scaled.

    Args:
        checkpoint: The trained network.
        path: The file to write.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    import onnx
    import torch
    from torch import nn

    network = nn.Sequential(cast("nn.Module", checkpoint.build()), nn.Sigmoid()).eval()
    raw = torch.zeros((1, 1, *checkpoint.network.extents.smallest))
    free = {0: "batch", 2: "z", 3: "y", 4: "x"}
    with warnings.catch_warnings():
        # The exporter that traces: the other one takes a minute, and fixes the extents of valid convolutions. It warns
        # that checks of extents are not part of the graph, and that it is not the newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (raw,),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["raw"],
            output_names=["affinities"],
            dynamic_axes={"raw": free, "affinities": free},
        )
    model = onnx.load(str(path))
    extents = checkpoint.network.extents
    properties = {
        "offsets": checkpoint.offsets,
        "normalization": checkpoint.normalization.model_dump(mode="json"),
        "smallest": extents.smallest,
        "stride": extents.stride,
        "shrink": extents.shrink,
    }
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in properties.items()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
