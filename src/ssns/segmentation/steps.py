"""Affinities to segments: fragments, a partition of them, cleaning, voxels.

A partition tells the segment of each fragment; voxels are written once, at the end. Sweeping a method over its one
swept setting therefore shares fragments and graph, and what the method itself can share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from ssns.affinities import NEAREST
from ssns.errors import UserError
from ssns.segmentation.agglomerate import Agglomeration, MeanScore
from ssns.segmentation.cleaning import merge_small
from ssns.segmentation.fragments import DistanceTransformWatershed
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume
from ssns.segmentation.multicut import Multicut
from ssns.segmentation.relabelling import Ids
from ssns.space import Triple

Method = Annotated[Agglomeration | Multicut, Field(discriminator="type")]

DEFAULT_METHOD = Agglomeration(fragments=DistanceTransformWatershed(), score=MeanScore(), threshold=0.6)
"""Of six combinations of fragments and partition, it had the lowest VOI sum and adapted Rand error on the test sections
of AC4, and with multicut the lowest on the validation sections (see docs/results.md)."""

PRESETS: Mapping[str, Agglomeration | Multicut] = MappingProxyType(
    {
        "default": DEFAULT_METHOD,
        "waterz": Agglomeration(),
        "multicut": Multicut(),
        "paper-waterz": Agglomeration(),
        "paper-multicut": Multicut(),
    }
)
"""Methods by name; ``waterz`` and ``multicut`` have their default settings, which are the paper's."""


def segment(
    affinities: ArrayLike,
    method: Method | str | None = None,
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    threads: int | None = None,
) -> Ids:
    """Segment the neurons that affinities describe.

    Args:
        affinities: Shape (c, z, y, x): uint8, 255 standing for 1, or floats in [0, 1].
        method: A component, or the name of a preset (``PRESETS``): ``default``, or ``waterz`` or ``multicut`` with
            the settings of the paper, which ``paper-waterz`` and ``paper-multicut`` mean too. None: ``default``.
        offsets: Displacement of each channel; nearest neighbours along z, y and x, in either direction, must be
            among them, and no others are used.
        mask: Where to segment, bool (z, y, x). None: everywhere.
        threads: Threads of the steps that can use them. None: one per core.

    Returns:
        Ids 1 .. n (z, y, x) of the smallest sufficient unsigned type; 0 outside of ``mask`` only (and where the
        method's ``mask_fragments`` leaves voxels out).

    Raises:
        UserError: Affinities, offsets, mask or method are not as wanted.

    Example:
        >>> import numpy as np
        >>> segment(np.ones((3, 1, 4, 4), dtype=np.float32)).max()
        np.uint8(1)
    """
    method = resolve_method(method)
    value = getattr(method, method.swept)
    _, segmentation = next(sweep(affinities, method, [value], offsets=offsets, mask=mask, threads=threads))
    return segmentation


def sweep(
    affinities: ArrayLike,
    method: Method | str | None,
    values: Iterable[float],
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    threads: int | None = None,
) -> Iterator[tuple[float, Ids]]:
    """Segment with several values of a method's swept setting: agglomeration's threshold, multicut's beta.

    Fragments, their graph and the tree of their merges are made once; each result equals ``segment`` with that value.

    Args:
        affinities: As in ``segment``.
        method: As in ``segment``; its own value of the swept setting does not matter.
        values: In any order.
        offsets: As in ``segment``.
        mask: As in ``segment``.
        threads: As in ``segment``.

    Returns:
        Pairs of value and segmentation, values ascending, each once; one segmentation is in memory at a time. Input is
        checked at once, work is done as results are asked for.

    Raises:
        UserError: As in ``segment``, or there is no value, or one that the method does not allow.
    """
    method, ascending = _checked_values(method, values)
    volume = AffinityVolume.checked(affinities, offsets, mask)

    def segmentations() -> Iterator[tuple[float, Ids]]:
        fragments, partitions = _partitions(volume, method, ascending, threads)
        for value, segments in partitions:
            yield value, segments[fragments]

    return segmentations()


def sweep_fragments(
    affinities: ArrayLike,
    method: Method | str | None,
    values: Iterable[float],
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    threads: int | None = None,
) -> tuple[NDArray[np.uint32], Iterator[tuple[float, Ids]]]:
    """As `sweep`, but no voxel is written: what can be told from the overlaps of fragments costs next to nothing.

    Args:
        affinities: As in `sweep`, and so is whatever follows.
        method: As in `sweep`.
        values: As in `sweep`.
        offsets: As in `sweep`.
        mask: As in `sweep`.
        threads: As in `sweep`.

    Returns:
        Fragments (z, y, x), dense ids; and pairs of value and segment of each fragment (n + 1,), from which
        ``segments[fragments]`` makes voxels.

    Raises:
        UserError: As in `sweep`.
    """
    method, ascending = _checked_values(method, values)
    return _partitions(AffinityVolume.checked(affinities, offsets, mask), method, ascending, threads)


def _checked_values(
    method: Method | str | None, values: Iterable[float]
) -> tuple[Agglomeration | Multicut, Sequence[float]]:
    """The component, and the values in ascending order.

    Raises:
        UserError: As in `sweep`.
    """
    method = resolve_method(method)
    ascending = sorted({checked_value(method, value) for value in values})
    if not ascending:
        raise UserError(f"values: wanted at least one {method.swept}, got none")
    return method, ascending


def _partitions(
    volume: AffinityVolume, method: Agglomeration | Multicut, values: Sequence[float], threads: int | None
) -> tuple[NDArray[np.uint32], Iterator[tuple[float, Ids]]]:
    fragments = method.fragments.flood(volume, threads)
    graph = RegionGraph.of(fragments, volume, histograms=method.histograms, threads=threads)
    partitions = zip(values, method.partitions(graph, values), strict=True)
    return fragments, ((value, merge_small(segments, graph, method.minimum_size)) for value, segments in partitions)


def resolve_method(method: Method | str | None) -> Agglomeration | Multicut:
    """The component that a preset's name stands for.

    Raises:
        UserError: There is no such preset, or this is neither component nor name.
    """
    if method is None:
        return DEFAULT_METHOD
    if isinstance(method, Agglomeration | Multicut):
        return method
    if not isinstance(method, str):
        raise UserError(
            f"method: wanted a component (Agglomeration, Multicut) or a preset, got {type(method).__name__}"
        )
    if method not in PRESETS:
        near = get_close_matches(method, PRESETS, n=1, cutoff=0.0)[0]
        raise UserError(f"method: wanted one of {', '.join(PRESETS)}, got {method!r}: did you mean {near!r}?")
    return PRESETS[method]


def checked_value(method: Agglomeration | Multicut, value: float, argument: str = "values") -> float:
    """A value of the swept setting of a method.

    Raises:
        UserError: The method does not allow it; the message blames ``argument``.
    """
    try:
        type(method).model_validate({**method.model_dump(), method.swept: value})
    except ValidationError as error:
        raise UserError(
            f"{argument}: wanted a {method.swept} for {method.type}, got {value!r}: {error.errors()[0]['msg']}"
        ) from None
    return float(value)
