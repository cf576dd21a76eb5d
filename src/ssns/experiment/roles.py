"""Where roles lie in volumes, and which must not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from ssns.errors import UserError
from ssns.experiment.models import Experiment, Regions, Role
from ssns.sampling import seen_by_patches
from ssns.space import Box, Triple
from ssns.training import SupervisedObjective

APART: tuple[Role, ...] = ("labelled", "unlabelled", "validation", "test")
"""The roles that are looked at: a target may lie anywhere."""


def region_boxes(regions: Regions, bounds: Box, name: str = "region") -> tuple[Box, ...]:
    """The boxes of several regions, called ``name`` in errors, in a volume of ``bounds``."""
    return tuple(box for region in regions for box in region.boxes(bounds, name))


@dataclass(frozen=True)
class _Part:
    """Where one role lies in one volume.

    Attributes:
        name: For messages.
        role: Which.
        raw: The volume's file.
        bounds: The box of the volume.
        boxes: Those of the role.
    """

    name: str
    role: Role
    raw: str
    bounds: Box
    boxes: tuple[Box, ...]


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
        _Part(f"volumes.{name}.{role}", role, files[name], bounds[name], boxes)
        for name, volume in experiment.volumes.items()
        for role in APART
        if (boxes := region_boxes(getattr(volume, role), bounds[name], f"volumes.{name}.{role}"))
    ]
    warnings = []
    for first, second in combinations(parts, 2):
        common = _overlap(first.boxes, second.boxes) if first.raw == second.raw and first.role != second.role else None
        if common is None:
            continue
        told = f"{second.name} overlaps {first.name} at {common}"
        if "unlabelled" not in (first.role, second.role):
            raise UserError(f"{told}: such scores say nothing; move one of them")
        if "test" in (first.role, second.role):
            warnings.append(f"{told}: the scores will be transductive")
    unlabelled, test = ([part for part in parts if part.role == role] for role in ("unlabelled", "test"))
    for learned, scored in product(unlabelled, test):
        if learned.raw == scored.raw and _overlap(learned.boxes, scored.boxes) is None:
            warnings += _seen_beyond(learned, scored, _raw_patches(experiment), experiment.network.extents.shrink)
    return warnings


def _seen_beyond(learned: _Part, scored: _Part, patches: Iterable[Triple], shrink: Triple) -> Iterator[str]:
    """Warnings of what patches see of a scored part around boxes that are smaller, or that they predict."""
    for patch in patches:
        seen = [seen_by_patches(box, patch, learned.bounds, shrink) for box in learned.boxes]
        common = _overlap(seen, scored.boxes)
        if common is not None:
            yield (
                f"{learned.name}: patches of {patch} see raw beyond it, at {common}, which is {scored.name}: the scores"
                " will be transductive"
            )


def _raw_patches(experiment: Experiment) -> list[Triple]:
    """The shapes of patches that are drawn from unlabelled raw, each once."""
    loops = [] if isinstance(experiment.objective, SupervisedObjective) else [experiment.training]
    loops += [experiment.pretraining.training] if experiment.pretraining is not None else []
    return sorted({loop.patch for loop in loops})


def _overlap(first: Sequence[Box], second: Sequence[Box]) -> Box | None:
    """The first overlap of two lists of boxes, if any."""
    return next((a.intersection(b) for a in first for b in second if a.overlaps(b)), None)
