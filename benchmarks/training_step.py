"""Training steps per second: our loop's way against a plain fp32 contiguous PyTorch loop over the same layers.

    python benchmarks/training_step.py [--steps 5]

Full-width network on 18x160x160 patches, and the CPU protocol's on its own, batch 1, the same optimiser, random data.
The median of the repeats counts, since machines are noisy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ssns.commands.allocator import keep_freed_memory
from ssns.networks import ResidualUNetSettings
from ssns.networks.convolution import Convolution
from ssns.networks.hardware import fast_precision
from ssns.space import Triple


def plain(network: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """fp32, contiguous, the library's convolutions: the loop of a tutorial."""
    for layer in network.modules():
        if isinstance(layer, Convolution):
            layer.__class__ = nn.Conv3d  # type: ignore[assignment]  # the same layer by the library
    optimizer = torch.optim.AdamW(network.parameters())

    def step(raw: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(raw), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def fast(network: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """bf16 autocast where the processor multiplies it, and channels last, as ``ssns.training.loop`` runs it."""
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    precision = fast_precision(torch.device("cpu"))
    optimizer = torch.optim.AdamW(network.parameters())

    def step(raw: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(raw.contiguous(memory_format=torch.channels_last_3d))
        binary_cross_entropy_with_logits(logits.float(), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _median_seconds(step: Callable[[Tensor, Tensor], None], shape: Triple, repeats: int) -> float:
    """Seconds of a step on random data, without the first one, which compiles and allocates."""
    seconds = []
    for _ in range(repeats + 1):
        raw = torch.rand(1, 1, *shape)
        target = (torch.rand(1, 3, *shape) > 0.5).float()
        begin = time.perf_counter()
        step(raw, target)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="repeats of each way")
    repeats = parser.parse_args().steps
    full = ResidualUNetSettings()
    small = ResidualUNetSettings(filters=(32, 48, 64, 80), unshuffle=2)
    rows: list[tuple[str, ResidualUNetSettings, Triple]] = [
        ("full width", full, (18, 160, 160)),
        ("CPU protocol", small, (12, 160, 160)),
        ("CPU protocol", small, (8, 160, 160)),
    ]
    medians: dict[tuple[str, Triple, str], float] = {}
    for way, stepper in (("plain", plain), ("ssns", fast)):
        if way == "ssns":
            keep_freed_memory()  # as ``ssns train`` does; a plain loop does not
        for name, settings, shape in rows:
            medians[name, shape, way] = _median_seconds(stepper(settings.build(3)), shape, repeats)
    for name, _, shape in rows:
        own, theirs = medians[name, shape, "ssns"], medians[name, shape, "plain"]
        rate = shape[0] * shape[1] * shape[2] / own / 1e6
        size = "x".join(map(str, shape))
        print(f"{name:12s} {size:>10s}  plain {theirs:6.3f} s/step, ssns {own:6.3f} ({rate:.3f} Mvoxel/s),", end=" ")
        print(f"ratio {theirs / own:.2f}")
    precision = fast_precision(torch.device("cpu"))
    print(f"{precision}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
