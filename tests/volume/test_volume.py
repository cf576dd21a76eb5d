import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import Volume, from_array

RAW = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_an_array_in_memory_is_a_volume():
    volume = from_array(RAW, voxel_size_nm=(30, 6, 6), origin=(1, 2, 3), attributes={"offsets": [[-1, 0, 0]]})
    assert volume.shape == (3, 4, 5)
    assert volume.channels is None
    assert volume.box == Box((0, 0, 0), (3, 4, 5))
    assert (volume.voxel_size_nm, volume.origin) == ((30.0, 6.0, 6.0), (1, 2, 3))
    assert volume.attributes == {"offsets": [[-1, 0, 0]]}
    np.testing.assert_array_equal(volume.read(), RAW)


@st.composite
def boxes(draw):
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in RAW.shape]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


@given(boxes())
def test_reading_a_box_is_slicing(box):
    np.testing.assert_array_equal(from_array(RAW).read(box), RAW[box.slices])
    channels = np.stack([RAW, RAW + 100])
    np.testing.assert_array_equal(from_array(channels).read(box), channels[(slice(None), *box.slices)])


def parts(length):
    """An integer or a slice that NumPy takes along an axis."""
    ends = st.none() | st.integers(-length - 2, length + 2)
    steps = st.none() | st.integers(-3, 3).filter(bool)
    return st.integers(-length, length - 1) | st.builds(slice, ends, ends, steps)


@st.composite
def indices(draw, shape):
    """What NumPy calls a basic index, without new axes."""
    count = draw(st.integers(0, len(shape)))
    if draw(st.booleans()):
        return tuple(draw(parts(length)) for length in shape[:count])
    front = draw(st.integers(0, count))
    back = shape[len(shape) - (count - front) :]
    return (*(draw(parts(n)) for n in shape[:front]), Ellipsis, *(draw(parts(n)) for n in back))


class Watched:
    """An array that keeps what was asked of it."""

    def __init__(self, source):
        self.source, self.shape, self.dtype, self.asked = source, source.shape, source.dtype, []

    def __getitem__(self, index):
        self.asked.append(index)
        return self.source[index]


@given(st.data())
@pytest.mark.parametrize("array", [RAW, np.stack([RAW, RAW + 100])], ids=["3 axes", "4 axes"])
def test_an_index_gives_what_numpy_gives_and_reads_no_more_than_the_box_around_it(array, data):
    index = data.draw(indices(array.shape))
    watched = Watched(array)
    got, wanted = Volume(watched, "x")[index], array[index]
    np.testing.assert_array_equal(got, wanted)
    assert (np.shape(got), got.dtype) == (wanted.shape, wanted.dtype)
    places = np.arange(array.size).reshape(array.shape)[index]
    assert bool(watched.asked) == bool(places.size)
    for asked in watched.asked:
        axes = np.unravel_index(places.ravel(), array.shape)
        assert asked == tuple(slice(axis.min(), axis.max() + 1) for axis in axes)


def test_an_index_may_be_alone_and_a_loop_goes_over_sections():
    volume = from_array(RAW)
    np.testing.assert_array_equal(volume[1], RAW[1])
    np.testing.assert_array_equal(volume[np.int64(-1)], RAW[-1])
    np.testing.assert_array_equal(volume[...], RAW)
    np.testing.assert_array_equal(list(volume), RAW)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, "index: wanted -3 to 2 along this axis, got 3: stay inside"),
        ((0, -5), "index: wanted -4 to 3 along this axis, got -5: stay inside"),
        ((0, 0, 0, 0), r"index: wanted at most 3 integers and slices and one ellipsis, got \(0, 0, 0, 0\)"),
        ((..., ...), r"index: wanted at most 3 integers .* one ellipsis"),
        (True, "index: wanted integers, slices and an ellipsis, got True: read what holds it"),
        (None, "index: wanted integers, slices and an ellipsis, got None"),
        (1.0, "index: wanted integers, slices and an ellipsis, got 1.0"),
        ([0, 2], r"index: wanted integers, slices and an ellipsis, got \[0, 2\]"),
        (RAW > 5, "index: wanted integers, slices and an ellipsis, got array"),
        (slice(0, 2, 0), r"index: wanted integers, slices and an ellipsis, got slice\(0, 2, 0\)"),
    ],
)
def test_another_index_is_refused(index, message):
    with pytest.raises(UserError, match=message):
        from_array(RAW)[index]


def test_a_read_is_a_new_array_in_native_byte_order():
    source = RAW.astype(">u2")
    volume = from_array(source)
    data = volume.read()
    data[:] = 0
    assert volume.dtype == data.dtype == np.dtype("uint16")
    assert data.dtype.isnative
    np.testing.assert_array_equal(volume.read(), RAW)


def test_channels_come_first():
    volume = from_array(np.zeros((2, 3, 4, 5), np.float32))
    assert (volume.channels, volume.shape) == (2, (3, 4, 5))


def test_a_box_outside_is_refused():
    with pytest.raises(UserError, match=r"z 0\.\.4, y 0\.\.4, x 0\.\.5 reaches outside array in memory.* z 0\.\.3"):
        from_array(RAW).read(Box((0, 0, 0), (4, 4, 5)))
    with pytest.raises(UserError, match="reaches outside"):
        from_array(RAW).read(Box((-1, 0, 0), (2, 4, 5)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5), np.uint8), "has 2 axes"),
        (np.zeros((1, 2, 3, 4, 5), np.uint8), "has 5 axes"),
        (np.zeros((0, 4, 5), np.uint8), "holds no voxels"),
        (np.zeros((3, 4, 5), np.complex64), "complex64"),
    ],
)
def test_what_is_no_volume_is_refused(array, message):
    with pytest.raises(UserError, match=message):
        from_array(array)


@pytest.mark.parametrize("size", [(30, 6), (30, 6, 0), (30, 6, -6), (30, 6, float("nan"))])
def test_a_voxel_size_is_three_positive_numbers(size):
    with pytest.raises(UserError, match="wanted three nanometres"):
        from_array(RAW, voxel_size_nm=size)


@pytest.mark.parametrize("origin", [(1, 2), (0, 0.5, 0)])
def test_an_origin_is_three_whole_numbers(origin):
    with pytest.raises(UserError, match="wanted three whole voxels"):
        from_array(RAW, origin=origin)


def test_a_volume_can_be_sent_to_another_process():
    volume = pickle.loads(pickle.dumps(from_array(RAW, origin=(1, 2, 3))))
    assert volume.origin == (1, 2, 3)
    np.testing.assert_array_equal(volume.read(), RAW)


def test_numpy_takes_a_volume_for_the_array_that_it_is():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    volume = from_array(array)
    np.testing.assert_array_equal(np.asarray(volume), array)
    assert np.asarray(volume, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="cannot be had without a copy"):
        np.array(volume, copy=False)
