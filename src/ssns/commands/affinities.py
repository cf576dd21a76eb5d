"""The affinities of a part: predicted into the run folder, or a file of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ssns.commands.inputs import Part
from ssns.commands.run_folder import RunFolder
from ssns.commands.stamps import artefact_state
from ssns.errors import UserError
from ssns.experiment import Experiment
from ssns.space import Box, triple
from ssns.volume import Volume, fingerprint, open_volume
from ssns.volume.window import Cropped


def to_be_predicted(found: Iterable[Part]) -> list[Part]:
    """The parts whose affinities are no file of the user's."""
    return [part for part in found if part.source.settings.affinities is None]


def open_affinities(experiment: Experiment, folder: RunFolder, part: Part) -> Volume:
    """The affinities of a part.

    Raises:
        UserError: There are none, or they are of another box or other offsets than the experiment says.
    """
    given = part.source.settings.affinities
    affinities = _predicted(folder, part) if given is None else _cropped(open_volume(given), part)
    offsets = [list(offset) for offset in experiment.offsets]
    told = affinities.attributes.get("offsets", offsets)
    advice = "run `ssns predict` first" if given is None else "set offsets to those of the file"
    if told != offsets:
        raise UserError(f"affinities: {affinities.path} has the offsets {told}, the experiment {offsets}: {advice}")
    if affinities.channels != len(offsets):
        raise UserError(
            f"affinities: wanted a channel for each of the offsets {offsets}, got"
            f" {affinities.channels or 'no channels'} in {affinities.path}: {advice}"
        )
    return affinities


def affinities_state(experiment: Experiment, folder: RunFolder, part: Part, hash_up_to: float) -> dict[str, Any]:
    """What tells whether the affinities of a part are others."""
    settings = part.source.settings
    if settings.affinities is None:
        return artefact_state(folder.affinities(part.name))
    start = settings.affinities_start
    return fingerprint(_cropped(open_volume(settings.affinities), part), hash_up_to=hash_up_to) | {
        "box": str(part.box),
        "start": None if start is None else list(start),
        "offsets": [list(offset) for offset in experiment.offsets],
    }


def _predicted(folder: RunFolder, part: Part) -> Volume:
    """What `ssns predict` has written."""
    path = folder.affinities(part.name)
    if not path.exists():
        raise UserError(
            f"affinities: none of {part.name} in {folder.path}: run `ssns predict` first, or name a file of yours in"
            f" volumes.{part.source.name}.affinities"
        )
    affinities = open_volume(path)
    if (affinities.shape, affinities.origin) != (part.box.shape, part.origin):
        raise UserError(f"affinities: {path} is not of {part.box}, as {part.name} is now: run `ssns predict` first")
    return affinities


def _cropped(affinities: Volume, part: Part) -> Volume:
    """What a file has of the part."""
    name, raw, start = part.source.name, part.source.raw, part.source.settings.affinities_start
    if start is None:
        start = triple(a - b for a, b in zip(affinities.origin, raw.origin, strict=True))
    covered = Box.of_shape(affinities.shape, start)
    if not covered.contains(part.box):
        raise UserError(
            f"volumes.{name}.affinities: {affinities.path} covers {covered} of raw, not {part.box} of {part.name}: make"
            f" volumes.{name}.{part.role} smaller, or set volumes.{name}.affinities_start"
        )
    array = Cropped(affinities.array, part.box.relative_to(start))
    return replace(affinities, array=array, origin=part.origin)
