import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import from_array

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
