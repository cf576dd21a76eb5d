import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.blockwise import blocks
from ssns.errors import UserError
from ssns.space import Box

extents = st.tuples(*[st.integers(1, 7)] * 3)
starts = st.tuples(*[st.integers(-3, 3)] * 3)


@given(start=starts, extent=extents, shape=extents, halo=st.tuples(*[st.integers(0, 3)] * 3))
def test_blocks_write_every_voxel_once_and_read_what_their_halo_reaches(start, extent, shape, halo):
    bounds = Box.of_shape(extent, start)
    written = np.zeros(extent, int)
    grid = blocks(bounds, shape, halo)
    for block in grid:
        written[block.write.relative_to(start).slices] += 1
        assert block.read == block.write.grown(halo).intersection(bounds)
        assert block.write.start == tuple(a + i * step for a, i, step in zip(start, block.index, shape, strict=True))
    assert (written == 1).all()
    assert len({block.index for block in grid}) == len(grid)


def test_an_empty_box_has_no_blocks():
    assert blocks(Box((2, 0, 0), (2, 5, 5)), (1, 1, 1)) == []


@pytest.mark.parametrize(("shape", "halo", "named"), [((0, 1, 1), (0, 0, 0), "block"), ((1, 1, 1), (0, -1, 0), "halo")])
def test_impossible_grids_are_refused(shape, halo, named):
    with pytest.raises(UserError, match=f"^{named}: wanted"):
        blocks(Box.of_shape((3, 3, 3)), shape, halo)
