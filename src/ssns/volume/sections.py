"""Labels of scattered sections: pages that do not follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssns.volume.volume import LazyArray, Volume


def runs(sections: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges (first, one past the last) of consecutive numbers, in any order and any number of times."""
    start = previous = None
    for section in sorted(set(sections)):
        if start is None or previous is None:
            start = section
        elif section != previous + 1:
            yield start, previous + 1
            start = section
        previous = section
    if start is not None and previous is not None:
        yield start, previous + 1


def spread_sections(pages: Volume, sections: Sequence[int]) -> Volume:
    """A volume from the first of some sections to the last, of which only these are stored.

    Args:
        pages: One page per section, without channels.
        sections: Where the pages belong, ascending, as many as there are pages.

    Returns:
        Shape (last - first + 1, y, x), 0 in sections without a page; its origin is that of ``pages``.
    """
    return replace(pages, array=_SpreadSections(pages.array, tuple(section - sections[0] for section in sections)))


@dataclass(frozen=True, eq=False)
class _SpreadSections:
    """Pages at their sections, the first one at 0, and 0 between them."""

    pages: LazyArray
    sections: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent with the sections that have no page."""
        return (self.sections[-1] + 1, *self.pages.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return self.pages.dtype

    def __getitem__(self, index: tuple[slice, ...], /) -> NDArray[Any]:
        """The voxels of ``index``; only pages in it are read."""
        wanted, *inside = index
        out = np.zeros([part.stop - part.start for part in index], self.dtype)
        first, end = np.searchsorted(self.sections, (wanted.start, wanted.stop))
        page = int(first)
        for start, stop in runs(self.sections[first:end]):
            pages = slice(page, page + stop - start)
            out[start - wanted.start : stop - wanted.start] = self.pages[(pages, *inside)]
            page = pages.stop
        return out
