"""Affinities to segments: fragments, a partition of them, cleaning, voxels.

A partition tells the segment of each fragment; voxels are written once, at the end. Methods that are compared therefore
share fragments and graph, and values of the one swept setting of a method what it can share itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from ssns.affinities import NEAREST
from ssns.errors import UserError, nearest
from ssns.segmentation.agglomerate import Agglomeration, MeanScore
from ssns.segmentation.cleaning import Cleaning, Extent
from ssns.segmentation.costs import LearnedAffinity, QuantileAffinity
from ssns.segmentation.fragments import DistanceTransformWatershed, SeededWatershed
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.inputs import AffinityVolume, check_far, given_fragments
from ssns.segmentation.lifted import LongRange
from ssns.segmentation.multicut import Multicut
from ssns.segmentation.mutex import MutexWatershed
from ssns.segmentation.relabelling import Ids
from ssns.settings import Component
from ssns.space import Triple

Method = Annotated[Agglomeration | Multicut, Field(discriminator="type")]

DEFAULT_METHOD = Agglomeration(
    fragments=DistanceTransformWatershed(), score=MeanScore(), threshold=0.6, cleaning=Cleaning(islands=True)
)
"""Of all methods it has the lowest VOI sum on the validation sections of AC4 where five sections are labelled, but for
that with a minimum size of 2000 voxels; where 35 are, it is within 0.013 bits of the lowest (docs/segmentation.md)."""

PRESETS: Mapping[str, Method] = MappingProxyType(
    {
        "default": DEFAULT_METHOD,
        "waterz": Agglomeration(),
        "multicut": Multicut(),
        "lifted-multicut": Multicut(lifted=LongRange()),
        "mutex-watershed": Agglomeration(fragments=MutexWatershed(), score=MeanScore(), threshold=0),
        "paper-waterz": Agglomeration(),
        "paper-multicut": Multicut(),
    }
)
"""Methods by name; ``waterz`` and ``multicut`` have their default settings, which are the paper's; ``lifted-multicut``
and ``mutex-watershed`` need affinities of long range."""

CANDIDATES: tuple[Method, ...] = tuple(
    method.model_copy(update={"fragments": fragments, "cleaning": Cleaning(islands=True)})
    for fragments in (DistanceTransformWatershed(), SeededWatershed())
    for method in (
        Agglomeration(score=MeanScore()),
        Agglomeration(),
        Multicut(),
        Multicut(affinity=QuantileAffinity(quantile=75)),
    )
)
"""What a sweep of methods compares where nothing else is asked for: each kind of fragments in each partition."""


def segment(
    affinities: ArrayLike,
    method: Method | str | None = None,
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    fragments: ArrayLike | None = None,
    threads: int | None = None,
) -> Ids:
    """Segment the neurons that affinities describe.

    Args:
        affinities: Shape (c, z, y, x): uint8, 255 standing for 1, or floats in [0, 1].
        method: A component, or the name of a preset (``PRESETS``): ``default``, or ``waterz`` or ``multicut`` with
            the settings of the paper, which ``paper-waterz`` and ``paper-multicut`` mean too, or, for affinities of
            long range, ``lifted-multicut`` or ``mutex-watershed``. None: ``default``.
        offsets: Displacement of each channel; nearest neighbours along z, y and x, in either direction, must be
            among them. Others are used by lifted edges of long range and by the mutex watershed only.
        mask: Where to segment, bool (z, y, x). None: everywhere.
        fragments: Over-segmentation to start from, integer ids (z, y, x), 0 for what is to stay 0. None: the method
            makes its own.
        threads: Threads of the steps that can use them. None: one per core.

    Returns:
        Ids 1 .. n (z, y, x) of the smallest sufficient unsigned type; 0 outside of ``mask`` only (and where
        ``fragments`` are 0, or the method's ``mask_fragments`` leaves voxels out).

    Raises:
        UserError: Affinities, offsets, mask, fragments, threads or method are not as wanted.

    Example:
        >>> import numpy as np
        >>> segment(np.ones((3, 1, 4, 4), dtype=np.float32)).max()
        np.uint8(1)
    """
    swept = sweep_methods(
        affinities, [resolve_method(method)], offsets=offsets, mask=mask, fragments=fragments, threads=threads
    )
    pieces, partitions = next(swept)
    _, segments = next(partitions)
    return segments[pieces]


def sweep(
    affinities: ArrayLike,
    method: Method | str | None,
    values: Iterable[float],
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    fragments: ArrayLike | None = None,
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
        fragments: As in ``segment``.
        threads: As in ``segment``.

    Returns:
        Pairs of value and segmentation, values ascending, each once; one segmentation is in memory at a time. Input is
        checked at once, work is done as results are asked for.

    Raises:
        UserError: As in ``segment``, or there is no value, or one that the method does not allow.
    """
    method = resolve_method(method)
    checked = [with_value(method, checked_value(method, value)) for value in values]
    if not checked:
        raise UserError(f"values: wanted at least one {method.swept}, got none")
    swept = sweep_methods(affinities, checked, offsets=offsets, mask=mask, fragments=fragments, threads=threads)
    return ((value_of(each), segments[pieces]) for pieces, partitions in swept for each, segments in partitions)


def sweep_methods(
    affinities: ArrayLike,
    methods: Iterable[Method],
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    fragments: ArrayLike | None = None,
    threads: int | None = None,
) -> Iterator[tuple[NDArray[np.uint32], Iterator[tuple[Method, Ids]]]]:
    """Partition with several methods, without writing a voxel: what overlaps of fragments tell costs next to nothing.

    Methods of the same fragments share these and their graph, and those that differ in the swept value alone the tree
    of merges too.

    Args:
        affinities: As in ``segment``.
        methods: At least one, each with its own value of the swept setting.
        offsets: As in ``segment``.
        mask: As in ``segment``.
        fragments: As in ``segment``; all methods start from them.
        threads: As in ``segment``.

    Returns:
        For each kind of fragments, in the order in which methods first name them: the fragments (z, y, x), dense ids;
        and pairs of method and segment of each fragment (n + 1,), from which ``segments[fragments]`` makes voxels:
        methods in order, values of the swept setting ascending. Input is checked at once, work is done as results are
        asked for.

    Raises:
        UserError: As in ``segment``.
    """
    several = list(methods)
    volume = AffinityVolume.checked(affinities, offsets, mask)
    _check_threads(threads)
    for method in several:
        check_offsets(method, volume.offsets, given=fragments is not None)
    given = None if fragments is None else given_fragments(fragments, volume)
    groups = [several] if given is not None else _grouped(several, lambda method: method.fragments)
    return (
        _partitioned(volume, same, same[0].fragments.flood(volume, threads) if given is None else given, threads)
        for same in groups
    )


def _check_threads(threads: int | None) -> None:
    if threads is not None and threads < 1:
        raise UserError(f"threads: wanted 1 or more, got {threads}: leave it out for one per core")


def _partitioned(
    volume: AffinityVolume, methods: Sequence[Method], fragments: NDArray[np.uint32], threads: int | None
) -> tuple[NDArray[np.uint32], Iterator[tuple[Method, Ids]]]:
    """Fragments that methods share, and the partitions of each."""
    graph = RegionGraph.of(
        fragments,
        volume,
        histograms=any(method.histograms for method in methods),
        far=any(method.far for method in methods),
        running=any(method.running for method in methods),
        threads=threads,
    )
    extent = Extent.of(fragments) if any(method.cleaning.needs_extent for method in methods) else None

    def partitions() -> Iterator[tuple[Method, Ids]]:
        for same in _grouped(methods, without_value):
            values = sorted(set(map(value_of, same)))
            for value, segments in zip(values, same[0].partitions(graph, values), strict=True):
                yield with_value(same[0], value), same[0].cleaning.clean(segments, graph, extent)

    return fragments, partitions()


def _grouped(methods: Iterable[Method], key: Callable[[Method], Component]) -> Iterable[Sequence[Method]]:
    """Methods of equal key together, in the order in which keys first appear."""
    groups: dict[Component, list[Method]] = {}
    for method in methods:
        groups.setdefault(key(method), []).append(method)
    return groups.values()


def check_offsets(method: Method, offsets: Sequence[Triple], *, given: bool = False) -> None:
    """Refuse offsets that a method, with its own fragments unless these are ``given``, cannot segment with.

    Raises:
        UserError: It needs long-range ones, and there are none.
    """
    if method.far:
        check_far(offsets, "lifted edges of long range")
    if isinstance(method.fragments, MutexWatershed) and not given:
        check_far(offsets, "the mutex watershed")


def learn_affinity(
    affinities: ArrayLike,
    labels: ArrayLike,
    method: Multicut | None = None,
    *,
    offsets: Sequence[Triple] = NEAREST,
    mask: ArrayLike | None = None,
    fragments: ArrayLike | None = None,
    threads: int | None = None,
) -> LearnedAffinity:
    """Learn from labelled sections which fragments in contact are one neuron.

    Contacts of fragments that labels know, those between sections and those within apart, are told from their
    statistics by logistic regression.

    Args:
        affinities: As in `segment`; best of sections that the network has not been trained on.
        labels: Ids of neurons (z, y, x); 0 where there is none, or where it is not known, as in sections between.
        method: Its ``fragments`` are learned on. None: those of ``Multicut()``.
        offsets: As in `segment`.
        mask: As in `segment`.
        fragments: As in `segment`.
        threads: As in `segment`.

    Returns:
        What to take as ``affinity`` of a `Multicut` of the same fragments.

    Raises:
        UserError: As in `segment`; labels of another shape, or that know too little.
    """
    volume = AffinityVolume.checked(affinities, offsets, mask)
    _check_threads(threads)
    known = np.asarray(labels)
    if known.dtype.kind not in "iu" or known.shape != volume.shape:
        raise UserError(
            f"labels: wanted integer ids of the shape of the affinities, {volume.shape}, got {known.dtype}"
            f" {known.shape}: crop both to the same box, and set sections without labels to 0"
        )
    flood = (method or Multicut()).fragments.flood
    pieces = flood(volume, threads) if fragments is None else given_fragments(fragments, volume)
    return LearnedAffinity.fitted([(RegionGraph.of(pieces, volume, histograms=True, threads=threads), pieces, known)])


def learned(
    methods: Iterable[Method],
    samples: Callable[[], Iterable[tuple[ArrayLike, NDArray[Any]]]],
    *,
    offsets: Sequence[Triple] = NEAREST,
) -> list[Method]:
    """Methods with affinities fitted where they have to be: see `is_unlearned`.

    Args:
        methods: Any.
        samples: Affinities and labels of each volume, as in `learn_affinity`; called once for each kind of fragments.
        offsets: As in `segment`.

    Raises:
        UserError: As in `learn_affinity`.
    """
    fitted: dict[Component, LearnedAffinity] = {}
    result: list[Method] = []
    for method in methods:
        if is_unlearned(method):
            if method.fragments not in fitted:
                fitted[method.fragments] = LearnedAffinity.fitted(
                    _sample(method, AffinityVolume.checked(affinities, offsets, None), labels)
                    for affinities, labels in samples()
                )
            method = method.model_copy(update={"affinity": fitted[method.fragments]})
        result.append(method)
    return result


def _sample(
    method: Method, volume: AffinityVolume, labels: NDArray[Any]
) -> tuple[RegionGraph, NDArray[np.uint32], NDArray[Any]]:
    pieces = method.fragments.flood(volume)
    return RegionGraph.of(pieces, volume, histograms=True), pieces, labels


def is_unlearned(method: Method) -> bool:
    """Whether a method has an affinity without weights, which has to be fitted before it segments."""
    return isinstance(method, Multicut) and method.affinity == LearnedAffinity()


def unlearned(method: Method) -> Method:
    """A method without the weights of a learned affinity, if it has any."""
    if isinstance(method, Multicut) and isinstance(method.affinity, LearnedAffinity):
        return method.model_copy(update={"affinity": LearnedAffinity()})
    return method


def value_of(method: Method) -> float:
    """The value of a method's swept setting."""
    return float(getattr(method, method.swept))


def with_value(method: Method, value: float) -> Method:
    """A method with another value of its swept setting, which is not checked."""
    return method.model_copy(update={method.swept: value})


def without_value(method: Method) -> Method:
    """A method with the default of its swept setting: equal for methods that differ in nothing else."""
    return with_value(method, type(method).model_fields[method.swept].default)


def resolve_method(method: Method | str | None) -> Method:
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
        raise UserError(f"method: wanted one of {', '.join(PRESETS)}, got {method!r}{nearest(method, PRESETS)}")
    return PRESETS[method]


def checked_value(method: Method, value: float, argument: str = "values") -> float:
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
