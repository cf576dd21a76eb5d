"""The table of neurons and segments, the worst first."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssns.files import replacing
from ssns.metrics import ObjectErrors
from ssns.report import Table
from ssns.space import Triple, triple


class ObjectRow(NamedTuple):
    """A line of ``objects.csv``.

    Attributes:
        part: Where it is.
        kind: ``neuron`` or ``segment``.
        id: Of the neuron in the labels, or of the segment. A neuron whose pieces the part's box cuts apart has a line
            for each piece.
        z: A voxel of raw inside the piece that costs most bits; with y and x.
        y: See z.
        x: See z.
        voxels: Scored voxels.
        voi_split: Bits that it adds to that score; all neurons of a part, or all segments, add up to it.
        voi_merge: The same.
        voi_sum: The two together: what the lines are sorted by.
        pieces: Segments that have a hundredth or more of a neuron, or neurons that do of a segment; 1 is right.
        main: The segment that has most of a neuron, or the neuron that a segment has most of.
        merged_with: The neuron that a neuron is merged with, or a segment merges with its main one; of several the
            worst, see ``ObjectErrors``; None: there is none.
    """

    part: str
    kind: str
    id: int
    z: int
    y: int
    x: int
    voxels: int
    voi_split: float
    voi_merge: float
    voi_sum: float
    pieces: int
    main: int
    merged_with: int | None


def object_rows(
    part: str,
    start: Triple,
    errors: tuple[ObjectErrors, ObjectErrors],
    places: NDArray[np.int64],
    labels: NDArray[np.uint64],
) -> list[ObjectRow]:
    """The lines of a part, neurons then segments, in no other order.

    Args:
        part: Its name.
        start: Its first voxel in raw.
        errors: Of neurons and of segments, the former being components.
        places: A voxel of the part for each pair of the table that the errors are of, (k, 3).
        labels: The id of each component in the labels.
    """
    neurons, segments = errors
    return [
        *_rows(part, "neuron", neurons, labels[neurons.ids], neurons.main, labels, places + start),
        *_rows(part, "segment", segments, segments.ids, labels[segments.main], labels, places + start),
    ]


def _rows(
    part: str,
    kind: str,
    errors: ObjectErrors,
    ids: NDArray[np.uint64],
    main: NDArray[np.uint64],
    labels: NDArray[np.uint64],
    places: NDArray[np.int64],
) -> list[ObjectRow]:
    partners = labels[errors.merged_with]
    where = places[errors.worst_pair].tolist()
    return [
        ObjectRow(
            part,
            kind,
            int(ids[row]),
            *triple(where[row]),
            int(errors.voxels[row]),
            float(errors.voi_split[row]),
            float(errors.voi_merge[row]),
            float(errors.voi_split[row] + errors.voi_merge[row]),
            int(errors.pieces[row]),
            int(main[row]),
            int(partners[row]) if errors.is_merged[row] else None,
        )
        for row in range(len(ids))
    ]


def worst_first(rows: Sequence[ObjectRow]) -> list[ObjectRow]:
    """Neurons before segments, those that cost most bits first."""
    return sorted(rows, key=lambda row: (row.kind, -row.voi_sum, row.part, row.id))


def write_objects(path: Path, rows: Sequence[ObjectRow]) -> None:
    """Write the table; an older file stays whole until the new one is."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(ObjectRow._fields)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)


def worst_neurons(rows: Sequence[ObjectRow], count: int) -> list[ObjectRow]:
    """The first neurons of a sorted table that cost anything."""
    return [row for row in rows if row.kind == "neuron" and row.voi_sum > 0][:count]


def worst_table(rows: Sequence[ObjectRow]) -> Table:
    """Neurons, for the page."""
    return Table(
        title="The worst neurons",
        columns=("part", "neuron", "z, y, x", "voxels", "VOI split", "VOI merge", "segments", "merged with"),
        rows=[
            (
                row.part,
                str(row.id),
                f"{row.z}, {row.y}, {row.x}",
                f"{row.voxels:,}",
                f"{row.voi_split:.4f}",
                f"{row.voi_merge:.4f}",
                str(row.pieces),
                "–" if row.merged_with is None else str(row.merged_with),
            )
            for row in rows
        ],
        note="Bits that a neuron adds to the scores of its part, and a voxel of raw where it errs. objects.csv, beside"
        " scores.json, has every neuron and every segment.",
    )


def in_words(row: ObjectRow) -> str:
    """A neuron, for the terminal."""
    errors = [f"cut into {row.pieces} segments"] if row.pieces > 1 else []
    errors += [] if row.merged_with is None else [f"merged with {row.merged_with}"]
    where = f"z {row.z}, y {row.y}, x {row.x}"
    return f"{row.part}: neuron {row.id} costs {row.voi_sum:.4f} bits: {' and '.join(errors) or 'frayed'}; see {where}"
