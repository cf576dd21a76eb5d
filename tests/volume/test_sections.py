from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssns.space import Box
from ssns.volume import from_array
from ssns.volume.sections import runs, spread_sections

SECTIONS = st.sets(st.integers(0, 30), min_size=1, max_size=8).map(sorted)


class Watched:
    """Pages that keep what was read of them."""

    def __init__(self, source):
        self.source, self.shape, self.dtype, self.asked = source, source.shape, source.dtype, []

    def __getitem__(self, index):
        self.asked += range(index[0].start, index[0].stop)
        return self.source[index]


@given(SECTIONS, st.data())
def test_pages_are_read_at_their_sections_and_0_elsewhere(sections, data):
    pages = np.random.default_rng(0).integers(1, 9, (len(sections), 3, 4)).astype(np.uint16)
    expected = np.zeros((31, 3, 4), np.uint16)
    expected[sections] = pages
    volume = spread_sections(from_array(pages), sections)
    assert volume.shape == (sections[-1] - sections[0] + 1, 3, 4)
    assert volume.dtype == np.uint16
    watched = Watched(pages)
    volume = spread_sections(type(volume)(watched, "pages"), sections)
    start, stop = sorted(data.draw(st.tuples(*2 * [st.integers(0, volume.shape[0])])))
    box = Box((start, 1, 0), (stop, 3, 3))
    np.testing.assert_array_equal(volume.read(box), expected[sections[0] :][box.slices])
    assert watched.asked == [page for page, z in enumerate(sections) if start <= z - sections[0] < stop]


@given(st.lists(st.integers(0, 30)))
def test_runs_are_the_numbers_once_and_do_not_touch(numbers):
    found = list(runs(numbers))
    assert [z for start, stop in found for z in range(start, stop)] == sorted(set(numbers))
    assert all(a[1] < b[0] for a, b in pairwise(found))
