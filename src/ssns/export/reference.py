"""Checkpoints of the paper's code, read and written (reference 1.7, 3.1, 3.2).

One is a table of ``current_iter`` (steps), ``valid_result`` (always None) and ``model_weights`` (a state dict, each
name behind ``module.`` where several GPUs trained). The tensors of its residual U-Net have the names of ours. Those of
its MALA go by their order, which is that of the layers: the description of that code names none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ssns.affinities import NEAREST
from ssns.checkpoint import FORMAT, RESTORED, Checkpoint, read_torch_file, write_torch_file
from ssns.errors import UserError
from ssns.networks import MalaUNetSettings, Network, ResidualUNetSettings
from ssns.settings import Component
from ssns.volume.normalization import TypeNormalization

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, STEP, RESULT = "model_weights", "current_iter", "valid_result"
PREFIX = "module."

LEVELS = ("embed_in.0", "conv1.block1.0", "conv2.block1.0", "conv3.block1.0", "center.block1.0")
"""The first convolution of the residual U-Net with the channels of each level."""

WORDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "merge": ("merge_mode", {"none": "cat"}),
    "upsampling": ("upsample_mode", {"transpose": "transposeS"}),
    "padding": ("pad_mode", {"zeros": "zero"}),
    "activation": ("relu_mode", {}),
}
"""Settings of the residual U-Net, their names there, and the words that are others there; "none" is in ``if_skip``."""

Shapes = Mapping[str, tuple[int, ...]]


class Meaning(Component):
    """What a checkpoint says beside its weights, as an experiment has it."""

    network: Network = Field(description="The network.")
    offsets: tuple[tuple[int, int, int], ...] = Field(min_length=1, description="Displacement of each channel.")


@dataclass(frozen=True)
class Imported:
    """A checkpoint of the paper's code as one of ours.

    Attributes:
        checkpoint: It.
        taken: What became of each key there: its name here.
        ignored: Keys that are not needed, with the reason.
        assumed: Settings that weights do not tell, and that were not given either: those of the paper.
    """

    checkpoint: Checkpoint
    taken: Mapping[str, str]
    ignored: Mapping[str, str]
    assumed: Mapping[str, Any]


@dataclass(frozen=True)
class Exported:
    """A checkpoint of ours as one of the paper's code.

    Attributes:
        settings: Keys of `MODEL` in the YAML file there, with which it is read.
        notes: What that code does otherwise than the checkpoint was trained.
    """

    settings: Mapping[str, str]
    notes: tuple[str, ...]


def read_reference(
    path: Path, network: Mapping[str, Any] | None = None, offsets: Sequence[Sequence[int]] | None = None
) -> Imported:
    """Read a checkpoint of the paper's code, without running code that it may hold.

    Raw was divided by 255 there, so the normalisation is that of the type. That code takes the sigmoid of outputs, as
    ssns does: weights of a MALA that was trained with ``if_sigmoid: False`` are read, but mean something else.

    Args:
        path: The file.
        network: Settings that weights do not tell, such as ``{"padding": "replicate"}``; the others are the paper's.
        offsets: Displacement (z, y, x) of each output; by default the three neighbours, and of a single output none,
            as it restores raw.

    Raises:
        UserError: It is none, or its weights are not those of a network of that code: tells the first difference.
        pydantic.ValidationError: There is no such setting.
    """
    content = read_torch_file(path)
    weights = _weights(path, content)
    prefix = PREFIX if all(name.startswith(PREFIX) for name in weights) else ""
    shapes = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in weights.items()}
    told, assumed, channels = _told(path, shapes)
    given = dict(network or {})
    if told["type"] == "residual_unet" and "upsampling" not in told | given:
        raise UserError(
            f"network.upsampling: the weights of {path} tell that it is bilinear or nearest, but not which: give it"
        )
    if offsets is None and channels not in (1, 3):
        raise UserError(
            f"offsets: wanted 3 outputs, those of neighbours, or 1, restored raw, got {channels} in {path}: give the"
            " displacement of each"
        )
    outputs = {"offsets": RESTORED if channels == 1 else NEAREST} if offsets is None else {}
    meaning = Meaning.model_validate({"network": assumed | told | given, "offsets": offsets} | outputs)
    names = _names(path, shapes, meaning)
    step = content.get(STEP)
    steps = {STEP: "step"} if isinstance(step, int) else {}
    reasons = {RESULT: "the paper's code leaves it empty"}
    return Imported(
        Checkpoint(
            meaning.network,
            {ours: weights[prefix + theirs] for theirs, ours in names.items()},
            meaning.offsets,
            TypeNormalization(),
            {},
            step=step if isinstance(step, int) else 0,
        ),
        taken={f"{WEIGHTS}.{prefix}{theirs}": ours for theirs, ours in names.items()} | steps,
        ignored={
            str(key): reasons.get(key, "not of the published layout")
            for key in content
            if key != WEIGHTS and key not in steps
        },
        assumed={key: value for key, value in assumed.items() if key not in given} | outputs,
    )


def write_reference(path: Path, checkpoint: Checkpoint) -> Exported:
    """Write a checkpoint as the paper's code does; an older file at ``path`` stays whole until the new one is.

    Of the settings, that code reads filters and kinds of layers from its YAML file, and all else is fixed there.

    Raises:
        UserError: The network or its outputs cannot be had there, or the file cannot be written.
    """
    checkpoint = checkpoint.predicting(checkpoint.offsets)
    network = _expressible(checkpoint)
    content = {STEP: checkpoint.step, RESULT: None, WEIGHTS: dict(checkpoint.weights)}
    write_torch_file(path, content, zipped=False)  # older than the zipped form is the torch that the paper's code needs
    settings = {
        "model_type": "superhuman",
        "output_nc": str(len(checkpoint.offsets)),
        "filters": str(list(network.filters)),
        "bn_mode": "async",
    }
    for ours, (there, words) in WORDS.items():
        value = getattr(network, ours)
        settings[there] = words.get(value, value)
    if checkpoint.offsets == RESTORED:
        settings["if_skip"] = "'False'" if network.merge == "none" else "'True'"
    return Exported(settings, tuple(_notes(checkpoint, network)))


def _weights(path: Path, content: Any) -> Mapping[str, Tensor]:
    """The state dict in the content of a file."""
    from torch import Tensor

    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise UserError(f"checkpoint: {path} is one of ssns already: use it as it is")
    weights = content.get(WEIGHTS) if isinstance(content, Mapping) else None
    if (
        not isinstance(weights, Mapping)
        or not weights
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in weights.items())
    ):
        held = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise UserError(
            f"checkpoint: wanted a table with {WEIGHTS}, tensors by name, as the paper's code writes it, got {held} in"
            f" {path}: name a .ckpt file of it"
        )
    return weights


def _told(path: Path, shapes: Shapes) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What shapes and names tell of the network, what the paper has of the rest, and the number of outputs."""
    if f"{LEVELS[0]}.weight" in shapes:
        return _told_of_residual(path, shapes)
    kernels = [shape for shape in shapes.values() if len(shape) == 5]
    spreads = [kernel for kernel in kernels if kernel[1:] == (1, 1, 3, 3)]
    if not spreads or len(kernels) < 9:
        raise UserError(
            f"checkpoint: wanted the weights of a residual U-Net (embed_in.0.weight and so on) or of MALA (transposed"
            f" convolutions of 1 x 3 x 3), got {', '.join(list(shapes)[:3])}, ... in {path}: ssns knows no such network"
        )
    features, channels = kernels[0][0], kernels[-1][0]
    ends, wanted = (kernels[0], kernels[-1]), ((features, 1, 3, 3, 3), (channels, features, 1, 1, 1))
    if ends != wanted:
        raise _difference(path, "first and last of MALA's kernels", wanted, ends)
    told = {
        "type": "mala",
        "features": features,
        "growth": max(1, kernels[2][0] // features),
        "depth": len(spreads),
        "merge": "cat" if kernels[-3][1] == 2 * features else "none",
    }
    return told, {}, channels


def _told_of_residual(path: Path, shapes: Shapes) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Of the residual U-Net; where nothing is concatenated, features are added, or left out in pre-training."""
    for name in (*LEVELS, "conv4.block1.0", "up0.1", "out_put.0"):
        if len(shapes.get(f"{name}.weight", ())) != 5:
            raise _difference(path, f"{name}.weight", "a kernel of five axes", shapes.get(f"{name}.weight"))
    filters = [shapes[f"{name}.weight"][0] for name in LEVELS]
    channels = shapes["out_put.0.weight"][0]
    told: dict[str, Any] = {"type": "residual_unet", "filters": filters}
    assumed: dict[str, Any] = {"padding": "zeros", "activation": "elu", "batch_momentum": 0.001}
    if shapes["conv4.block1.0.weight"][1] == 2 * filters[3]:
        told["merge"] = "cat"
    else:
        assumed["merge"] = "none" if channels == 1 else "add"
    if "up0.0.weight" in shapes:
        told["upsampling"] = "transpose"
    return told, assumed, channels


def _names(path: Path, shapes: Shapes, meaning: Meaning) -> dict[str, str]:
    """Our name of each tensor there, if all are those of the network.

    Raises:
        UserError: One is not; tells the first.
    """
    import torch

    with torch.device("meta"):
        state = meaning.network.build(len(meaning.offsets)).state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if isinstance(meaning.network, MalaUNetSettings):
        return _names_by_order(path, shapes, wanted)
    for name in (*wanted, *shapes):
        if wanted.get(name) != shapes.get(name):
            raise _difference(path, name, wanted.get(name), shapes.get(name))
    return {name: name for name in wanted}


def _names_by_order(path: Path, shapes: Shapes, wanted: Shapes) -> dict[str, str]:
    """Pairs of the first, the second, and so on; weight to weight and bias to bias, and all of one shape."""
    for theirs, ours in zip_longest(shapes, wanted, fillvalue=""):
        kinds = [
            f"{name.rpartition('.')[2]} {among[name]}" if name else None
            for name, among in ((theirs, shapes), (ours, wanted))
        ]
        if kinds[0] != kinds[1]:
            place = f"{theirs or 'the end'}, where the order of MALA's layers has {ours or 'the end'}"
            raise _difference(path, place, kinds[1], kinds[0])
    return dict(zip(shapes, wanted, strict=True))


def _difference(path: Path, name: str, wanted: Any, got: Any) -> UserError:
    return UserError(
        f"checkpoint: {path} is not of the network that most of its weights tell: {name}: wanted"
        f" {'nothing' if wanted is None else wanted}, got {'nothing' if got is None else got}: name another file, or"
        " give the settings that differ"
    )


def _expressible(checkpoint: Checkpoint) -> ResidualUNetSettings:
    """The network, if the paper's code can have it."""
    network = checkpoint.network
    if not isinstance(network, ResidualUNetSettings):
        raise UserError(
            "export: wanted a residual U-Net, got MALA: the names of its tensors in the paper's code are not known, so"
            " that it can be imported, by the order of layers, but not exported"
        )
    for name, wanted, got in (
        ("the number of network.filters", len(LEVELS), len(network.filters)),
        ("network.unshuffle", 1, network.unshuffle),
        ("network.normalization", "batch", network.normalization),
    ):
        if wanted != got:
            raise UserError(f"export: {name}: wanted {wanted}, got {got}: the paper's code has no other network")
    if checkpoint.offsets not in (NEAREST, RESTORED):
        raise UserError(
            f"export: offsets: wanted {list(NEAREST)}, got {list(checkpoint.offsets)}: the paper's code has no others"
        )
    if checkpoint.offsets == NEAREST and network.merge == "none":
        raise UserError("export: network.merge: wanted cat or add, got none, which only pre-training has in that code")
    return network


def _notes(checkpoint: Checkpoint, network: ResidualUNetSettings) -> list[str]:
    """What the paper's code would do otherwise."""
    notes = []
    by_type = isinstance(checkpoint.normalization, TypeNormalization)
    if not by_type or any((span.low, span.high) != (0, 255) for span in checkpoint.ranges.values()):
        ranges = [f"{name} {span.low:g}..{span.high:g}" for name, span in checkpoint.ranges.items()]
        notes.append(
            f"the network has learned from raw scaled by {'its type' if by_type else 'percentiles'}"
            f" ({', '.join(ranges)} became 0..1), and the paper's code divides by 255: scale raw to 0..255 so before"
        )
    if network.batch_momentum != 0.001:
        notes.append(f"batch normalisation goes on with a momentum of 0.001 there, not {network.batch_momentum:g}")
    return notes
