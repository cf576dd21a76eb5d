import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.space import Box
from ssns.volume import Volume, from_array
from ssns.volume.volume import ArrayInMemory
from ssns.volume.window import Cropped, loaded, read_reflected

RAW = np.arange(4 * 5 * 6, dtype=np.int32).reshape(4, 5, 6)
starts = st.tuples(*[st.integers(-12, 12)] * 3)
extents = st.tuples(*[st.integers(1, 14)] * 3)


class Counting:
    """An array on disk that counts what is read of it."""

    shape, dtype = RAW.shape, RAW.dtype

    def __init__(self):
        self.reads = 0

    def __getitem__(self, index):
        self.reads += 1
        return RAW[index]


@st.composite
def boxes_inside(draw):
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in RAW.shape]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


class TestReadReflected:
    @given(starts, extents, boxes_inside())
    def test_equals_a_reflecting_pad_of_the_bounds(self, start, shape, bounds):
        box = Box.of_shape(shape, start)
        margin = 30
        padded = np.pad(RAW[bounds.slices], margin, mode="reflect")
        expected = padded[box.relative_to(tuple(a - margin for a in bounds.start)).slices]
        np.testing.assert_array_equal(read_reflected(from_array(RAW).read, box, bounds), expected)

    @given(starts, extents)
    def test_reads_once_and_inside(self, start, shape):
        volume, asked = from_array(RAW), []

        def read(box):
            asked.append(box)
            return volume.read(box)

        box = Box.of_shape(shape, start)
        read_reflected(read, box, volume.box)
        assert len(asked) == 1
        assert volume.box.contains(asked[0])
        assert all(n <= m for n, m in zip(asked[0].shape, box.shape, strict=True))

    def test_the_face_is_not_doubled(self):
        row = from_array(np.array([[[1, 2, 3]]]))
        seen = read_reflected(row.read, Box((0, 0, -3), (1, 1, 6)), row.box)
        assert seen[0, 0].tolist() == [2, 3, 2, 1, 2, 3, 2, 1, 2]

    def test_a_single_voxel_is_repeated(self):
        voxel = from_array(np.array([[[7]]]))
        assert (read_reflected(voxel.read, Box((-1, -2, 0), (2, 3, 4)), voxel.box) == 7).all()


class TestLoaded:
    @given(boxes_inside(), boxes_inside())
    def test_reads_the_same_voxels(self, window, box):
        volume = loaded(from_array(RAW, origin=(3, 4, 5)), window)
        np.testing.assert_array_equal(volume.read(box), RAW[box.slices])
        assert (volume.shape, volume.dtype, volume.origin) == (RAW.shape, RAW.dtype, (3, 4, 5))

    @given(boxes_inside(), boxes_inside())
    def test_goes_to_the_file_for_what_is_not_in_memory_alone(self, window, box):
        source = Counting()
        volume = loaded(Volume(source, "file"), window)
        assert source.reads == 1
        volume.read(box)
        assert source.reads == (1 if window.contains(box) else 2)

    def test_what_is_read_can_be_written_to(self):
        volume = loaded(from_array(RAW), Box((0, 0, 0), (2, 5, 6)))
        for box in (Box((0, 0, 0), (1, 1, 1)), Box((0, 0, 0), (2, 5, 6)), Box((0, 0, 0), (4, 5, 6))):
            volume.read(box)[:] = -1
            np.testing.assert_array_equal(volume.read(box), RAW[box.slices])

    def test_it_travels_to_another_process(self):
        volume = pickle.loads(pickle.dumps(loaded(from_array(RAW), Box((1, 1, 1), (3, 3, 3)))))
        np.testing.assert_array_equal(volume.read(), RAW)

    @pytest.mark.parametrize("start", [(0, 0, 0), (2, 3, 4)])
    def test_boxes_are_in_the_volumes_own_indices(self, start):
        box = Box.of_shape((1, 1, 1), start)
        assert loaded(from_array(RAW, origin=(10, 10, 10)), box).read(box).item() == RAW[start]


@pytest.mark.parametrize("leading", [(), (slice(1, 3),)])
def test_cropped_is_the_box_with_all_channels(leading):
    array = np.stack([RAW, RAW + 1, RAW + 2]) if leading else RAW
    box, inside = Box((1, 0, 2), (4, 4, 6)), Box((1, 2, 0), (3, 4, 3))
    cropped = Cropped(ArrayInMemory(array), box)
    assert cropped.shape == (*array.shape[:-3], *box.shape)
    expected = array[..., *box.slices]
    np.testing.assert_array_equal(cropped[*leading, *inside.slices], expected[*leading, *inside.slices])
