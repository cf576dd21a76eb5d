"""Where roles lie in volumes, and which must not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from ssns.errors import UserError
from ssns.experiment.models import Experiment, Regions
from ssns.space import Box


def region_boxes(regions: Regions, bounds: Box, name: str = "region") -> tuple[Box, ...]:
    """The boxes of several regions, called ``name`` in errors, in a volume of ``bounds``."""
    return tuple(box for region in regions for box in region.boxes(bounds, name))


def check_roles(experiment: Experiment, bounds: Mapping[str, Box], files: Mapping[str, str]) -> list[str]:
    """Refuse roles that must not overlap; return warnings for those that should not.

    Volumes of one raw are looked at together.

    Args:
        experiment: The experiment.
        bounds: The box of each volume's raw, by name.
        files: The raw of each volume, by name: one spelling for one array.

    Raises:
        UserError: Any two of labelled, validation and test overlap.
    """
    parts = [
        (f"volumes.{name}.{role}", role, files[name], boxes)
        for name, volume in experiment.volumes.items()
        for role in ("labelled", "unlabelled", "validation", "test")
        if (boxes := region_boxes(getattr(volume, role), bounds[name], f"volumes.{name}.{role}"))
    ]
    warnings = []
    for (name, role, raw, boxes), (other_name, other, other_raw, others) in combinations(parts, 2):
        common = _overlap(boxes, others) if raw == other_raw and role != other else None
        if common is None:
            continue
        if "unlabelled" not in (role, other):
            raise UserError(f"{other_name} overlaps {name} at {common}: such scores say nothing; move one of them")
        if "test" in (role, other):
            warnings.append(f"{other_name} overlaps {name} at {common}: the scores will be transductive")
    return warnings


def _overlap(first: Sequence[Box], second: Sequence[Box]) -> Box | None:
    """The first overlap of two lists of boxes, if any."""
    return next((a.intersection(b) for a in first for b in second if a.overlaps(b)), None)
