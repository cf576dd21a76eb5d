"""`ssns segment`: affinities to segments, by what was chosen on the validation parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psutil

from ssns.commands.affinities import affinities_state, open_affinities
from ssns.commands.allocator import keep_freed_memory
from ssns.commands.choosing import choose_method
from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp, made_now
from ssns.commands.terminal import console, say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.segmentation import Method, segment
from ssns.volume import Volume, write_volume

BYTES_PER_VOXEL = 40
"""Peak memory of segmenting a voxel, ground truth for the sweep beside it.

Measured on AC4, uint8 affinities of 16 x 512 x 512 and 48 x 1024 x 1024: 12 to 20, and 12 to 29 with ground truth,
which takes 20 itself while it is read. Float affinities add up to 9. It grows with the number of fragments: on noise,
seeded watershed and agglomeration take 117.
"""


def segment_experiment(experiment: Experiment, *, verify: bool = False) -> None:
    """Choose threshold, or method and threshold, where labels allow it, then segment each part."""
    keep_freed_memory()
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    opened = {part.name: open_affinities(experiment, folder, part) for part in found}
    check_memory(found)
    method = choose_method(experiment, folder, found, opened, verify=verify)
    for part in found:
        _segment_part(experiment, folder, part, opened[part.name], method, verify=verify)


def check_memory(found: Sequence[Part], remedy: str | None = None) -> None:
    """Refuse before work begins what cannot be segmented.

    Args:
        found: The parts.
        remedy: What helps. None: smaller boxes of their role.

    Raises:
        UserError: A part needs more memory than is free.
    """
    for part in found:
        needed, free = part.box.size * BYTES_PER_VOXEL, psutil.virtual_memory().available
        if needed > free:
            smaller = f"set volumes.{part.source.name}.{part.role} to smaller boxes"
            raise UserError(
                f"{part.name}: segmenting {part.box} needs about {needed / 1e9:.1f} GB of memory, and"
                f" {free / 1e9:.1f} GB are free: {remedy or smaller}"
            )


def segmentation_stamp(folder: RunFolder, part: Part, method: Method, *, verify: bool = False) -> Stamp:
    """What the segmentation of a part is made of."""

    def describe(hash_up_to: float) -> dict[str, Any]:
        return {
            "method": method.model_dump(mode="json"),
            "affinities": affinities_state(folder, part, hash_up_to),
        }

    return folder.stamp(f"{part.name}/segmentation", describe, verify=verify)


def _segment_part(
    experiment: Experiment, folder: RunFolder, part: Part, affinities: Volume, method: Method, *, verify: bool
) -> None:
    """Write the segmentation of one part."""
    target = folder.segmentation(part.name)
    stamp = segmentation_stamp(folder, part, method, verify=verify)
    if stamp.holds(target, f"segment {part.name}"):
        return
    keep_experiment(experiment, folder, "segment")
    with stamp.renewed(), console.status(f"segment {part.name}"):
        begin = time.monotonic()
        try:
            segmentation = segment(affinities.read(), method, offsets=experiment.offsets)
        except UserError as error:
            raise UserError(f"{affinities.path}: {error}") from None
        took = time.monotonic() - begin
        write_volume(
            target,
            segmentation,
            voxel_size_nm=affinities.voxel_size_nm,
            origin=affinities.origin,
            attributes={"method": method.model_dump(mode="json")} | made_now(),
        )
    say(
        f"segment {part.name}: {int(segmentation.max()):,} segments in {took:.1f} s"
        f" ({segmentation.size / took / 1e6:.1f} Mvoxel/s), {target}"
    )
