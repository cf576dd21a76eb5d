"""Training steps per second: our loop's way against a plain fp32 contiguous PyTorch loop over the same network.

    python benchmarks/training_step.py [--steps 5]

Full-width network on 18x160x160 patches, batch 1, the same optimiser, random data; then the CPU protocol's own rate.
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
from ssns.space import Triple


def plain(network: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """fp32, contiguous: the loop of a tutorial."""
    optimizer = torch.optim.AdamW(network.parameters())

    def step(raw: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(raw), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def fast(network: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """bf16 autocast and channels last, as ``ssns.training.loop`` runs it."""
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())

    def step(raw: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
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
    ways: list[tuple[str, Callable[[Tensor, Tensor], None], Triple]] = [
        ("plain fp32 contiguous", plain(full.build(3)), (18, 160, 160)),
        ("ssns bf16 channels last", fast(full.build(3)), (18, 160, 160)),
        ("CPU protocol 12x160x160", fast(small.build(3)), (12, 160, 160)),
        ("CPU protocol 8x160x160", fast(small.build(3)), (8, 160, 160)),
    ]
    medians = {}
    for name, step, shape in ways:
        if step is not ways[0][1]:
            keep_freed_memory()  # as ``ssns train`` does; a plain loop does not
        medians[name] = _median_seconds(step, shape, repeats)
    for name, _, shape in ways:
        rate = shape[0] * shape[1] * shape[2] / medians[name] / 1e6
        print(f"{name:26s} {medians[name]:7.3f} s/step  {1 / medians[name]:6.3f} patches/s  {rate:6.3f} Mvoxel/s")
    ratio = medians["plain fp32 contiguous"] / medians["ssns bf16 channels last"]
    print(f"ratio {ratio:.2f}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
