"""Pictures of sections: labels over raw, segmentation beside ground truth, errors, what a network sees and says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.metrics import Contingency
from ssns.report.canvas import (
    CAPTION,
    Picture,
    blank,
    caption,
    fit_panel,
    mosaic,
    side_caption,
    to_gray,
    to_rgb,
    write_picture,
)
from ssns.report.colors import MERGE, SPLIT, SPLIT_AND_MERGE, label_colors
from ssns.report.matching import count_overlaps, find_errors, matched_ids

_SECTIONS = 3
_UNKNOWN = 0.5


def section_overlay(raw: NDArray[Any], labels: NDArray[Any], alpha: float = 0.4) -> Picture:
    """One section of raw with its labels in colour.

    Args:
        raw: Grey values (y, x), any real type; stretched to percentiles unless uint8.
        labels: Ids (y, x), coloured by ``label_colors``; 0 keeps its raw grey.
        alpha: Share of the colour, 0 to 1.

    Returns:
        RGB, uint8, (y, x, 3).

    Raises:
        UserError: Shapes differ, or ``alpha`` is out of range.
    """
    _check_shapes(raw=raw, labels=labels)
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha is {alpha}: it is a share of the colour, give a number from 0 to 1")
    colors = label_colors(labels).astype(np.float64)
    share = alpha * colors[..., 3:] / 255
    return np.rint((1 - share) * to_gray(raw)[..., np.newaxis] + share * colors[..., :3]).astype(np.uint8)


def comparison(
    raw: NDArray[Any],
    truth: NDArray[Any],
    segmentation: NDArray[Any],
    path: str | Path,
    sections: Sequence[int] | None = None,
    *,
    numbers: Sequence[int] | None = None,
    overlaps: Contingency | None = None,
) -> None:
    """Write a PNG with a row per section and the columns raw, ground truth, segmentation.

    A segment has the colour of the neuron that it stands for (see ``matching.matched_ids``), judged on the whole
    volume: where the two columns differ in colour there is a false split or merge.

    Args:
        raw: Grey values (z, y, x).
        truth: Neuron ids (z, y, x), 0 is background.
        segmentation: Segment ids (z, y, x), 0 is background.
        path: The PNG.
        sections: Which z of the arrays to show; three spread over the depth by default.
        numbers: z of each section of the arrays in the volume, for the captions; from 0 by default.
        overlaps: ``count_overlaps`` of the whole volume, where the arrays are some of its sections.

    Raises:
        UserError: Shapes differ, or a section is outside.
    """
    _check_shapes(raw=raw, truth=truth, segmentation=segmentation)
    chosen = chosen_sections(raw.shape[0], sections)
    gray = to_gray(raw[chosen])
    matched = matched_ids(segmentation[chosen], overlaps or count_overlaps(truth, segmentation))
    rows = []
    for section, neurons, segments in zip(gray, truth[chosen], matched, strict=True):
        panels = [to_rgb(section), _outlined(section, neurons), _outlined(section, segments)]
        rows.append([fit_panel(panel) for panel in panels])
    height, width = rows[0][0].shape[:2]
    titles = [caption(text, width) for text in ("raw", "ground truth", "segmentation")]
    sides = [side_caption(f"section {numbers[z] if numbers else z}", height) for z in chosen]
    body = [[side, *row] for side, row in zip(sides, rows, strict=True)]
    write_picture(path, mosaic([[blank(CAPTION, CAPTION), *titles], *body]))


def error_map(
    raw: NDArray[Any],
    truth: NDArray[Any],
    segmentation: NDArray[Any],
    path: str | Path,
    sections: Sequence[int] | None = None,
    *,
    numbers: Sequence[int] | None = None,
    overlaps: Contingency | None = None,
) -> None:
    """Write a PNG with a panel per section where the voxels that a segmentation gets wrong are coloured.

    Amber: outside the main segment of their neuron (split). Blue: outside the main neuron of their segment (merge).
    Magenta: both, a piece that one neuron lost to another. Main is what shares most voxels in the whole volume.

    Args:
        raw: Grey values (z, y, x).
        truth: Neuron ids (z, y, x), 0 is background and never an error.
        segmentation: Segment ids (z, y, x), 0 is background.
        path: The PNG.
        sections: Which z of the arrays to show; three spread over the depth by default.
        numbers: z of each section of the arrays in the volume, for the captions; from 0 by default.
        overlaps: ``count_overlaps`` of the whole volume, where the arrays are some of its sections.

    Raises:
        UserError: Shapes differ, or a section is outside.
    """
    _check_shapes(raw=raw, truth=truth, segmentation=segmentation)
    chosen = chosen_sections(raw.shape[0], sections)
    overlaps = overlaps or count_overlaps(truth, segmentation)
    split, merged = find_errors(truth[chosen], segmentation[chosen], overlaps)
    marked = to_rgb(to_gray(raw[chosen]))
    for where, color in ((split & ~merged, SPLIT), (merged & ~split, MERGE), (split & merged, SPLIT_AND_MERGE)):
        marked[where] = np.rint(0.35 * marked[where] + 0.65 * np.array(color)).astype(np.uint8)
    panels = [fit_panel(section) for section in marked]
    titles = [caption(f"section {numbers[z] if numbers else z}", panels[0].shape[1]) for z in chosen]
    body = mosaic([titles, panels])
    texts = {"amber: split off": SPLIT, "blue: merged": MERGE, "magenta: both": SPLIT_AND_MERGE}
    widths = np.diff(np.linspace(0, body.shape[1], len(texts) + 1).astype(int))
    legend = mosaic(
        [[caption(text, int(n), color=color) for (text, color), n in zip(texts.items(), widths, strict=True)]], gap=0
    )
    write_picture(path, mosaic([[body], [legend]]))


def training_picture(
    raw: NDArray[Any],
    target: NDArray[Any],
    prediction: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
) -> Picture:
    """One patch as a network sees it: a row for each of three sections, the columns raw, target, prediction.

    The first three channels (affinities along z, y, x in the paper's order) are red, green and blue; one channel is
    grey, a second of two is green with no blue. Values are clipped to 0..1.

    Args:
        raw: Grey values (z, y, x).
        target: Shape (c, z, y, x), 0..1.
        prediction: Shape (c, z, y, x), 0..1: probabilities, not logits.
        mask: Bool (c, z, y, x), False where the target is not known: half is shown there.

    Returns:
        RGB, uint8, (y', x', 3), one pixel per voxel, for TensorBoard or ``write_picture``.

    Raises:
        UserError: Shapes differ.
    """
    known = np.ones(target.shape, dtype=np.bool_) if mask is None else mask
    _check_shapes(target=target, prediction=prediction, mask=known)
    _check_shapes(raw=raw, **{"a channel of target": target[0]})
    chosen = chosen_sections(raw.shape[0])
    gray = to_gray(raw[chosen])
    shown = np.where(known[:, chosen], target[:, chosen], _UNKNOWN)
    columns = [to_rgb(gray), _channels_to_rgb(shown), _channels_to_rgb(prediction[:, chosen])]
    return mosaic(list(zip(*columns, strict=True)))


def _channels_to_rgb(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Channels (c, ...) as colours (..., 3)."""
    scaled = np.rint(255 * np.clip(values[:3].astype(np.float64), 0, 1)).astype(np.uint8)
    if len(scaled) == 1:
        return to_rgb(scaled[0])
    rgb = np.zeros((*scaled.shape[1:], 3), dtype=np.uint8)
    rgb[..., : len(scaled)] = np.moveaxis(scaled, 0, -1)
    return rgb


def _outlined(gray: NDArray[np.uint8], labels: NDArray[Any]) -> Picture:
    """Labels over raw, with the pixels at boundaries between ids in their full colour."""
    picture = section_overlay(gray, labels)
    edge = np.zeros(labels.shape, dtype=np.bool_)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        here = (slice(None),) * axis
        edge[(*here, slice(None, -1))] |= differs
        edge[(*here, slice(1, None))] |= differs
    edge &= labels != 0
    picture[edge] = label_colors(labels[edge])[..., :3]
    return picture


def chosen_sections(depth: int, sections: Sequence[int] | None = None) -> list[int]:
    """The sections to show of so many: those given, or three spread over the depth."""
    if sections is None:
        count = min(_SECTIONS, depth)
        return [(2 * i + 1) * depth // (2 * count) for i in range(count)]
    outside = [z for z in sections if not 0 <= z < depth]
    if outside or not sections:
        raise UserError(f"sections are {list(sections)} but there are {depth}: give at least one of 0 to {depth - 1}")
    return list(sections)


def _check_shapes(**arrays: NDArray[Any]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise UserError(f"shapes must be equal, but {listed}: crop them to the same box")
