"""`ssns teach`: a first network learns labelled sections, and segments unlabelled ones for `train` to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssns.commands.affinities import open_affinities
from ssns.commands.choosing import choose_method
from ssns.commands.inputs import Part, open_sources
from ssns.commands.memory import check_memory
from ssns.commands.predict import predict_experiment
from ssns.commands.processes import is_first_process
from ssns.commands.provenance import keep_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.showing import show_middle
from ssns.commands.stamps import made_now
from ssns.commands.taught import (
    taught_files,
    taught_objective,
    taught_parts,
    taught_stamp,
    teachers_experiment,
    teachers_parts,
)
from ssns.commands.terminal import progress_bar, say, warn
from ssns.commands.train import check_training, start_of_training, train_experiment
from ssns.experiment import Experiment
from ssns.files import replacing
from ssns.segmentation import Method
from ssns.segmentation.pseudo_labels import PseudoLabels, pseudo_labels
from ssns.space import Box, Triple
from ssns.volume import Volume, write_volume

MERGED = 0.5
"""Share of the voxels of a part that no single neuron has, though a glial cell or a large dendrite may have a third."""

EMPTY = 0.9
"""Share of the voxels of a part that no tissue leaves to membranes and the space between cells."""


def teach_experiment(experiment: Experiment, *, verify: bool = False) -> None:
    """Train the first network, predict and segment, or go on, or say that it is done."""
    margin, folder = taught_objective(experiment).margin, RunFolder.of(experiment)
    sources = open_sources(experiment)
    check_training(experiment, sources)
    teacher = teachers_experiment(experiment, sources)
    taught = taught_parts(teacher, sources)
    check_memory(teacher, taught, "set objective.voxels lower, so that boxes are drawn from unlabelled regions")
    start = start_of_training(experiment, folder, sources)
    stamp = taught_stamp(experiment, teacher, sources, start, verify=verify)
    if all(path.exists() for path in taught_files(experiment, taught)) and stamp.holds(folder.certainty, "teach"):
        return
    if not is_first_process():
        train_experiment(teacher, start=start, verify=verify)  # where it ends: the first one goes on alone
        return
    keep_experiment(experiment, folder, "teach")
    say(f"teach: a first network learns from labels alone, in {folder.teaching}")
    with stamp.renewed():  # it speaks for the weights of that network as well, which training begins with
        train_experiment(teacher, start=start, verify=verify)
        predict_experiment(teacher, verify=verify)
        own = RunFolder.of(teacher)
        found = teachers_parts(teacher, sources)
        affinities = {part.name: open_affinities(teacher, own, part) for part in found}
        method = choose_method(teacher, own, found, affinities, verify=verify)
        _write_pseudo_labels(folder, taught, affinities, method, margin, teacher.offsets)


def _write_pseudo_labels(
    folder: RunFolder,
    taught: Sequence[Part],
    affinities: Mapping[str, Volume],
    method: Method,
    margin: float,
    offsets: Sequence[Triple],
) -> None:
    """Segment each part, with ids that no other part has."""
    bold, apart = [np.zeros(1, np.uint32)], [np.zeros((0, 2), np.uint32)]
    with progress_bar("teach: pseudo-labels") as bar:
        for done, part in enumerate(taught, 1):
            given = affinities[part.name]
            found = pseudo_labels(given.read(), method, margin, offsets=offsets)
            first = sum(map(len, bold)) - 1
            write_volume(
                folder.pseudo_labels(part.name),
                np.where(found.ids > 0, found.ids + np.uint32(first), np.uint32(0)),
                voxel_size_nm=given.voxel_size_nm,
                origin=given.origin,
                attributes=made_now(),
            )
            show_middle(folder.pseudo_labels_picture(part.name), part, _both(found))
            _tell(part, found, folder.pseudo_labels_picture(part.name))
            bold.append(found.bold[1:] + np.uint32(first))
            apart.append(found.apart + np.uint32(first))
            bar(done, len(taught))
    with replacing(folder.certainty) as partial, partial.open("wb") as file:
        np.savez(file, bold=np.concatenate(bold), apart=np.concatenate(apart))


def _tell(part: Part, found: PseudoLabels, picture: Path) -> None:
    """Say how much is taught, and what may be wrong with it."""
    sizes = np.zeros(len(found.bold), np.int64)
    for section in found.ids:
        sizes += np.bincount(section.ravel(), minlength=len(sizes))
    cautious, bold = np.count_nonzero(sizes[1:]), len(np.unique(found.bold[1:][sizes[1:] > 0]))
    shares = sizes / found.ids.size
    say(
        f"teach {part.name}: {cautious:,} cautious segments in {bold:,} bold ones, {1 - shares[0]:.0%} of the voxels;"
        f" {picture} shows them"
    )
    if (largest := shares[1:].max(initial=0)) > MERGED:
        warn(
            f"{part.name}: one cautious segment holds {largest:.0%} of the voxels, so neurons are merged in what is"
            " taught: train the first network longer (objective.teacher_steps), or label more"
        )
    if shares[0] > EMPTY:
        warn(
            f"{part.name}: {shares[0]:.0%} of the voxels are in no segment, and would teach that all is background:"
            " train the first network longer (objective.teacher_steps), or look at raw there"
        )


def _both(found: PseudoLabels) -> Callable[[Box], list[NDArray[np.uint32]]]:
    """Cautious segments of a box, and bold ones, each by the id of the largest cautious one in it."""

    def segments(box: Box) -> list[NDArray[np.uint32]]:
        ids = found.ids[box.slices]
        by_size = np.argsort(np.bincount(ids.ravel(), minlength=len(found.bold)))
        largest = np.zeros(int(found.bold.max()) + 1, np.uint32)
        largest[found.bold[by_size]] = by_size  # of those of one bold segment the last is kept
        return [ids, largest[found.bold[ids]]]

    return segments
