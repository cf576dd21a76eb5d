import numpy as np
import pytest

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import Volume, check_labels, check_raw, from_array

RAW = from_array(np.zeros((100, 16, 16), np.uint8))


class Unreadable:
    """An array that must not be read."""

    shape = (5, 16, 16)

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def __getitem__(self, index):
        raise AssertionError("read")


def ids(shape, dtype="uint16", origin=(0, 0, 0)):
    return from_array(np.ones(shape, dtype), origin=origin)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int32", "int64"])
def test_integers_inside_raw_are_labels(dtype):
    labels = Volume(Unreadable(dtype), "labels.tif", origin=(95, 0, 0))
    assert check_labels(labels, RAW).shape == (5, 16, 16)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_other_types_are_refused_without_reading(dtype):
    with pytest.raises(UserError, match=f"labels.tif: labels are whole ids .*these are {dtype}"):
        check_labels(Volume(Unreadable(dtype), "labels.tif"), RAW)


def test_negative_labels_are_refused_where_they_are_read():
    array = np.ones((5, 16, 16), np.int32)
    array[3, 4, 5] = -7
    labels = check_labels(from_array(array), RAW)
    np.testing.assert_array_equal(labels.read(Box((0, 0, 0), (3, 16, 16))), 1)
    with pytest.raises(UserError, match="-7 is at z 3, y 4, x 5"):
        labels.read(Box((2, 2, 2), (4, 16, 16)))


@pytest.mark.parametrize(
    ("shape", "origin", "message"),
    [
        (
            (105, 16, 16),
            (0, 0, 0),
            r"labels reach z 100\.\.105 but raw ends at z 100: say where they begin",
        ),
        ((5, 16, 16), (98, 0, 0), r"labels reach z 100\.\.103 but"),
        ((5, 16, 16), (200, 0, 0), r"labels reach z 200\.\.205 but"),
        ((5, 20, 16), (0, 0, 0), r"labels reach y 16\.\.20 but raw ends at y 16"),
        ((5, 8, 8), (0, 0, 9), r"labels reach x 16\.\.17 but raw ends at x 16"),
        ((5, 8, 8), (-2, 0, 0), r"labels begin at z -2 but raw begins at z 0: say where they begin"),
    ],
)
def test_labels_outside_raw_are_refused(shape, origin, message):
    with pytest.raises(UserError, match=message):
        check_labels(ids(shape, origin=origin), RAW)


def test_origins_of_raw_and_labels_are_in_one_frame():
    raw = from_array(np.zeros((100, 16, 16), np.uint8), origin=(1000, 0, 0))
    check_labels(ids((5, 16, 16), origin=(1095, 0, 0)), raw)
    with pytest.raises(UserError, match=r"labels begin at z 0 but raw begins at z 1000"):
        check_labels(ids((5, 16, 16)), raw)


def test_four_axes_are_neither_raw_nor_labels():
    with pytest.raises(UserError, match=r"labels have 3 axes .*these have 4 \(2, 5, 16, 16\)"):
        check_labels(ids((2, 5, 16, 16)), RAW)
    with pytest.raises(UserError, match="raw has 3 axes"):
        check_raw(ids((2, 5, 16, 16)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_types_of_raw(dtype):
    check_raw(Volume(Unreadable(dtype), "raw.tif"))


@pytest.mark.parametrize("dtype", ["int32", "uint64", "bool"])
def test_types_that_are_not_raw(dtype):
    with pytest.raises(UserError, match=f"raw is uint8, uint16 or float, this is {dtype}"):
        check_raw(Volume(Unreadable(dtype), "raw.tif"))
