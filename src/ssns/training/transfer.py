"""Weights of one network as the start of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssns.errors import UserError
from ssns.training.objectives import TransferSettings

PARTS = {"encoder": ("encoder",), "encoder_decoder": ("encoder", "decoder"), "all": ("encoder", "decoder", "head")}
"""What each choice of `TransferSettings.parts` stands for."""


@dataclass(frozen=True)
class Transfer:
    """What became of the weights that were offered.

    Attributes:
        loaded: Names of tensors that were taken over.
        missing: Wanted, but not there, with the reason.
        anew: Those of the network that are in no part that was asked for, and begin with random values.
        unused: Offered, and not taken.
        parameters: Those of the network that were taken over.
    """

    loaded: tuple[str, ...]
    missing: Mapping[str, str]
    anew: tuple[str, ...]
    unused: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]

    def __str__(self) -> str:
        """One line for the user."""
        line = f"{len(self.loaded)} tensors taken over"
        if self.missing:
            (name, reason), *_ = self.missing.items()
            line += f", {len(self.missing)} not, such as {name} ({reason})"
        if self.anew:
            line += f", {len(self.anew)} of parts that transfer.parts does not name begin anew"
        return line

    def to_dict(self) -> dict[str, Any]:
        """What was taken over and what was not, JSON-ready: each tensor of the network is in one of the first three."""
        told = {"loaded": list(self.loaded), "missing": dict(self.missing), "anew": list(self.anew)}
        return told | {"unused": list(self.unused)}


def transfer_weights(network: nn.Module, weights: Mapping[str, Tensor], settings: TransferSettings) -> Transfer:
    """Take over what ``settings`` names and what fits; freeze it if so asked.

    Args:
        network: Its ``parts`` say what encoder, decoder and head are; written to.
        weights: State dict of a network of the same kind, such as one that was pre-trained without skips.
        settings: Which parts, and whether they go on learning.
    """
    wanted = _names(network, PARTS[settings.parts])
    own = network.state_dict()
    missing: dict[str, str] = {}
    for name in wanted:
        if name not in weights:
            missing[name] = "absent"
        elif weights[name].shape != own[name].shape:
            missing[name] = f"{tuple(weights[name].shape)} in place of {tuple(own[name].shape)}"
    loaded = tuple(name for name in wanted if name not in missing)
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(weights[name])
    by_name = dict(network.named_parameters())
    parameters = tuple(by_name[name] for name in loaded if name in by_name)
    if settings.learning_rate == 0:
        if len(parameters) == len(by_name):
            raise UserError(
                "transfer: wanted parameters that learn, got all of them frozen: take over fewer parts, or set"
                " transfer.learning_rate above 0"
            )
        _freeze(network, loaded, parameters)
    anew = tuple(name for name in own if name not in wanted)
    return Transfer(loaded, missing, anew, tuple(name for name in weights if name not in loaded), parameters)


def _freeze(network: nn.Module, names: Sequence[str], parameters: Iterable[nn.Parameter]) -> None:
    """Keep tensors from moving: parameters learn nothing, and batch normalisation goes by its running statistics."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    for prefix, module in network.named_modules():
        if isinstance(module, _BatchNorm) and {f"{prefix}.{name}" for name in module.state_dict()} <= set(names):
            module.register_forward_pre_hook(_evaluate)


def _evaluate(module: nn.Module, _inputs: Any) -> None:
    """Leave training mode right before the forward pass, whoever set it; copies of the module do so too."""
    module.eval()


def _names(network: nn.Module, parts: Sequence[str]) -> list[str]:
    """Names of the tensors of some parts."""
    modules: Mapping[str, tuple[str, ...]] = network.parts  # type: ignore[assignment]
    inside = {module for part in parts for module in modules[part]}
    return [name for name in network.state_dict() if name.partition(".")[0] in inside]
