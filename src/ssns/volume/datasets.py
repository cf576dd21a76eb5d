"""Which array of a file that holds several: by name, or by the conventions of the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ssns.errors import UserError, nearest

Role = Literal["raw", "labels"]

_CREMI: Mapping[Role, str] = {"raw": "volumes/raw", "labels": "volumes/labels/neuron_ids"}
_LISTED = 12


def choose_dataset(shapes: Mapping[str, tuple[int, ...]], path: str, *, wanted: str | None, role: Role) -> str:
    """The dataset to open.

    Without a wanted one: ``main`` (SSNS-Net, PyTorch Connectomics), else the one of CREMI for the role, else the only
    array of three axes, else the only one of four.

    Args:
        shapes: Every array in the file, by name.
        path: For errors.
        wanted: Name given by the user.
        role: What the array is to be used as.

    Raises:
        UserError: There is no such dataset, or no single candidate; lists what there is.
    """
    listing = _listing(shapes)
    if wanted is not None:
        name = wanted.strip("/")
        if name not in shapes:
            raise UserError(f"{path} has no dataset {name}{nearest(name, shapes)}; it holds {listing}")
        return name
    for name in ("main", _CREMI[role]):
        if name in shapes:
            return name
    others = {name for other, name in _CREMI.items() if other != role}
    for axes in (3, 4):
        candidates = [name for name, shape in shapes.items() if len(shape) == axes and name not in others]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            break
    raise UserError(f"{path}: which dataset holds the {role}? Write {path}:NAME; it holds {listing}")


def _listing(shapes: Mapping[str, tuple[int, ...]]) -> str:
    parts = [f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in sorted(shapes.items())]
    more = f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return (", ".join(parts[:_LISTED]) or "no arrays") + more
