"""Checkpoints: everything needed to predict with a network, and to go on training it, in one file."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ssns.errors import UserError
from ssns.files import replacing
from ssns.networks import AffinityNetwork, Network
from ssns.space import Triple, triple
from ssns.volume.normalization import IntensityRange, Normalization

FORMAT = "ssns-checkpoint"
VERSION = 1

RESTORED: tuple[Triple, ...] = ((0, 0, 0),)
"""The offsets of a network with one output, raw restored, as pre-training gives."""

NEVER = -20.0
"""The logit of an affinity that is 0, in each precision that networks have."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and how to use it.

    Attributes:
        network: Settings that rebuild the network.
        weights: Its state dict, parameters and buffers.
        offsets: What each channel that it predicts is an affinity to.
        auxiliary_offsets: Those of the channels behind them, which were learned beside, and are not predicted.
        untrained: Of all these, those of channels that nothing has trained: their affinities are predicted to be 0,
            so that nothing is joined along them.
        normalization: How raw was scaled in training.
        ranges: The intensity range found for each volume of the training, by name.
        step: Steps done.
        scores: Validation scores at that step, if any.
        state: What only training needs: optimiser, best score, history.
    """

    network: Network
    weights: Mapping[str, Any]
    offsets: tuple[Triple, ...]
    normalization: Normalization
    ranges: Mapping[str, IntensityRange]
    step: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    auxiliary_offsets: tuple[Triple, ...] = ()
    untrained: tuple[Triple, ...] = ()

    def build(self) -> AffinityNetwork:
        """The network with its weights, in evaluation mode; its outputs are those of ``offsets``."""
        network = self.network.build(len(self.offsets))
        network.load_state_dict(dict(self.predicting(self.offsets).weights))
        return network.eval()

    def predicting(self, offsets: Sequence[Triple]) -> Checkpoint:
        """The same with these output channels, of all that were learned, and no others; untrained ones give 0.

        Raises:
            UserError: One of them was not learned.
        """
        learned = self.offsets + self.auxiliary_offsets
        wanted = tuple(map(triple, offsets))
        silent = [channel for channel, offset in enumerate(wanted) if offset in self.untrained]
        if wanted == learned and not silent:
            return replace(self, offsets=wanted, auxiliary_offsets=())
        if unknown := set(wanted) - set(learned):
            raise UserError(
                f"offsets: wanted some of {list(learned)}, which the checkpoint has learned, got {sorted(unknown)}: set"
                " offsets to some of those, or train again"
            )
        import torch

        with torch.device("meta"):
            head = tuple(f"{part}." for part in self.network.build(1).parts["head"])
        kept = [learned.index(offset) for offset in wanted]
        weights = dict(self.weights)
        for name, tensor in self.weights.items():
            if name.startswith(head):
                channels = tensor.unflatten(0, (len(learned), -1))[kept]  # an unshuffle gives each several rows
                channels[silent] = NEVER if name.endswith("bias") else 0.0
                weights[name] = channels.flatten(0, 1)
        return replace(self, weights=weights, offsets=wanted, auxiliary_offsets=())


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint``; an older file at ``path`` stays whole until the new one is.

    Raises:
        UserError: The disk is full, or the folder cannot be written to; the older file is kept.
    """
    write_torch_file(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "network": checkpoint.network.model_dump(mode="json"),
            "weights": dict(checkpoint.weights),
            "offsets": [list(offset) for offset in checkpoint.offsets],
            "auxiliary_offsets": [list(offset) for offset in checkpoint.auxiliary_offsets],
            "untrained": [list(offset) for offset in checkpoint.untrained],
            "normalization": checkpoint.normalization.model_dump(mode="json"),
            "ranges": {name: [span.low, span.high] for name, span in checkpoint.ranges.items()},
            "step": checkpoint.step,
            "scores": {name: float(value) for name, value in checkpoint.scores.items()},
            "state": dict(checkpoint.state),
            "versions": {name: importlib.metadata.version(name) for name in ("ssns", "torch")},
        },
    )


def write_torch_file(path: Path, content: Mapping[str, Any], *, zipped: bool = True) -> None:
    """Write what `read_torch_file` reads; an older file at ``path`` stays whole until the new one is.

    Args:
        path: The file; its folder is made.
        content: Tensors, numbers, text, and tables and lists of these.
        zipped: torch's present format; the other is read by every torch.

    Raises:
        UserError: The disk is full, or the folder cannot be written to; the older file is kept.
    """
    import torch

    try:
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
    except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError where a write fails
        raise UserError(
            f"checkpoint: {path} cannot be written ({error}): free some space, or write elsewhere;"
            " an older checkpoint there is kept"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU, without running code that it may hold.

    Raises:
        UserError: The file is missing, no checkpoint of ours, or from a newer version.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint: {path} is a torch file, but was not written by ssns")
    if (version := content.get("version", 0)) > VERSION:
        raise UserError(f"checkpoint: {path} has version {version}, this ssns reads up to {VERSION}: update")
    try:
        return _from_content(content)
    except ValidationError as error:
        raise UserError(f"checkpoint: settings in {path} are not known here: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint: {path} lacks a part of a checkpoint ({error!r}): it is damaged") from error


def read_torch_file(path: Path) -> Any:
    """What torch has written to a file, on the CPU, without running code that it may hold.

    Raises:
        UserError: The file is missing, damaged, no file of torch, or holds more than tensors, numbers and text.
    """
    import torch

    if not path.is_file():
        raise UserError(f"checkpoint: no file at {path}: train first, or name the checkpoint that you have")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise UserError(f"checkpoint: {path} cannot be read ({error.strerror}): ask its owner to allow it") from error
    # The unpickler raises whatever the bytes lead it to, and advises to run the code that they may hold.
    except Exception as error:
        refused = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        if refused:
            raise UserError(
                f"checkpoint: {path} holds more than tensors and numbers ({refused[1]}), and to read that may run code"
                " of whoever wrote it: have it saved again without that"
            ) from error
        raise UserError(
            f"checkpoint: wanted one of ssns, got {path}, which is damaged, or another file: name another one; if it is"
            " the last.pt of a training that was to go on, delete it to begin anew"
        ) from error


def _from_content(content: Mapping[str, Any]) -> Checkpoint:
    network: Network = TypeAdapter(Network).validate_python(content["network"])
    normalization: Normalization = TypeAdapter(Normalization).validate_python(content["normalization"])
    return Checkpoint(
        network=network,
        weights=content["weights"],
        offsets=tuple(triple(offset) for offset in content["offsets"]),
        auxiliary_offsets=tuple(triple(offset) for offset in content.get("auxiliary_offsets", ())),
        untrained=tuple(triple(offset) for offset in content.get("untrained", ())),
        normalization=normalization,
        ranges={name: IntensityRange(low, high) for name, (low, high) in content["ranges"].items()},
        step=content["step"],
        scores=content["scores"],
        state=content["state"],
    )
