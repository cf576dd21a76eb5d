"""`ssns segment`: affinities to segments, by what was chosen on the validation parts."""

from __future__ import annotations

import time
from typing import Any

from ssns.commands.affinities import affinities_state, open_affinities
from ssns.commands.allocator import keep_freed_memory
from ssns.commands.choosing import choose_method
from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.memory import check_memory
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import Stamp, made_now
from ssns.commands.terminal import console, say
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.segmentation import Method, segment
from ssns.volume import Volume, write_volume


def segment_experiment(experiment: Experiment, *, verify: bool = False) -> None:
    """Choose threshold, or method and threshold, where labels allow it, then segment each part."""
    keep_freed_memory()
    folder = RunFolder.of(experiment)
    found = parts(experiment, open_sources(experiment))
    opened = {part.name: open_affinities(experiment, folder, part) for part in found}
    check_memory(experiment, found)
    method = choose_method(experiment, folder, found, opened, verify=verify)
    for part in found:
        _segment_part(experiment, folder, part, opened[part.name], method, verify=verify)


def segmentation_stamp(
    experiment: Experiment, folder: RunFolder, part: Part, method: Method, *, verify: bool = False
) -> Stamp:
    """What the segmentation of a part is made of."""

    def describe(hash_up_to: float) -> dict[str, Any]:
        return {
            "method": method.model_dump(mode="json"),
            "affinities": affinities_state(experiment, folder, part, hash_up_to),
            "voxel_size_nm": part.source.raw.voxel_size_nm,
            "origin": part.origin,
        }

    return folder.stamp(f"{part.name}/segmentation", describe, verify=verify)


def _segment_part(
    experiment: Experiment, folder: RunFolder, part: Part, affinities: Volume, method: Method, *, verify: bool
) -> None:
    """Write the segmentation of one part."""
    target = folder.segmentation(part.name)
    stamp = segmentation_stamp(experiment, folder, part, method, verify=verify)
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
            voxel_size_nm=part.source.raw.voxel_size_nm,  # it may have been set since affinities were predicted
            origin=part.origin,
            attributes={"method": method.model_dump(mode="json")} | made_now(),
        )
    say(
        f"segment {part.name}: {int(segmentation.max()):,} segments in {took:.1f} s"
        f" ({segmentation.size / took / 1e6:.1f} Mvoxel/s), {target}"
    )
