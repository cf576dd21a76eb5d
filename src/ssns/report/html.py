"""The report: one self-contained page with scores, pictures, settings and versions."""

from __future__ import annotations

import base64
import math
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from ssns.errors import UserError
from ssns.files import write_text


@dataclass(frozen=True, slots=True)
class Column:
    """A score as the table shows it.

    Attributes:
        key: Name in ``scores.json`` and of the attribute of a score.
        title: Heading, with the unit.
        better: ``lower`` or ``higher``.
        meaning: One line for the reader.
    """

    key: str
    title: str
    better: str
    meaning: str


COLUMNS = (
    Column(
        "voi_split", "VOI split (bits)", "lower", "How far neurons are cut into several segments: H(segment | neuron)."
    ),
    Column(
        "voi_merge", "VOI merge (bits)", "lower", "How far segments run through several neurons: H(neuron | segment)."
    ),
    Column("voi_sum", "VOI sum (bits)", "lower", "Variation of information: the two together, 0 for a perfect result."),
    Column("arand", "ARAND", "lower", "Adapted Rand error, 0 to 1: 1 minus the F-score of the next two."),
    Column(
        "arand_precision", "precision", "higher", "Of the voxel pairs joined by a segment, the share that is right."
    ),
    Column("arand_recall", "recall", "higher", "Of the voxel pairs joined by a neuron, the share that was found."),
    Column(
        "cremi",
        "CREMI",
        "lower",
        "sqrt(VOI sum x ARAND), without voxels within 25 nm of a boundary between neurons in their section.",
    ),
    Column(
        "ap", "AP", "higher", "Of neurons and segments, the share that is a pair, mean over IoU 0.50, 0.55 .. 0.95."
    ),
    Column(
        "nerl",
        "NERL",
        "higher",
        "Expected run length along skeletons before an error, as a share of that of a perfect result.",
    ),
)


@dataclass(frozen=True, slots=True)
class Table:
    """A further table of the page.

    Attributes:
        title: Its heading.
        columns: Headings of the columns.
        rows: Cells in words.
        note: A sentence under it.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str


def write_report(
    path: str | Path,
    *,
    title: str,
    scores: Mapping[str, Mapping[str, float]],
    settings_toml: str,
    versions: Mapping[str, str],
    pictures: Sequence[tuple[str, str | Path]] = (),
    notes: Sequence[str] = (),
    tables: Sequence[Table] = (),
) -> None:
    """Write the report as one HTML page that needs no other file and no network.

    The page replaces an older one only when it is complete.

    Args:
        path: The page.
        title: Its heading.
        scores: A row of the table for each entry: what was scored, and the scores by the keys of ``COLUMNS``. A key
            that is absent or NaN shows as a dash; other keys (a threshold, say) are not shown.
        settings_toml: The resolved experiment, shown as it is.
        versions: Name to version of what made the result.
        pictures: Caption and image file of each picture, embedded in this order.
        notes: Sentences under the table: how the threshold was chosen, what was left out.
        tables: Further tables, after the scores.

    Raises:
        UserError: A picture is missing or is no image.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("ssns.report").joinpath("report.html.jinja").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        title=title,
        columns=COLUMNS,
        rows=[(name, [_shown(row.get(column.key)) for column in COLUMNS]) for name, row in scores.items()],
        notes=notes,
        tables=tables,
        pictures=[(caption, _data_url(caption, Path(picture))) for caption, picture in pictures],
        settings=settings_toml,
        versions=versions,
    )
    write_text(path, page)


def _shown(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _data_url(caption: str, picture: Path) -> str:
    """The image itself as a URL."""
    kind = mimetypes.guess_type(picture.name)[0] or "unknown"
    if not kind.startswith("image/"):
        raise UserError(f"picture '{caption}' is {picture}, of type {kind}: give an image, such as a PNG")
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise UserError(
            f"picture '{caption}' cannot be read from {picture} ({error.strerror}): make it again, or leave it out"
        ) from error
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
