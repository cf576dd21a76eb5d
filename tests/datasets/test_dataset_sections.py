import numpy as np
import pytest

from ssns.datasets.sections import Ids, Interpolated, Reversed, blank_sections
from ssns.errors import UserError
from ssns.space import Box
from ssns.volume.volume import ArrayInMemory

RAW = np.random.default_rng(0).integers(1, 255, (6, 5, 7), dtype=np.uint8)
BOX = Box((1, 0, 2), (5, 4, 7))


def whole(array):
    return array[Box.of_shape(array.shape).slices]


def test_reversed_is_the_array_turned_along_z():
    turned = Reversed(ArrayInMemory(RAW))
    np.testing.assert_array_equal(whole(turned), RAW[::-1])
    np.testing.assert_array_equal(turned[BOX.slices], RAW[::-1][BOX.slices])
    np.testing.assert_array_equal(whole(Reversed(turned)), RAW)


def test_a_ramp_along_z_is_restored_exactly():
    ramp = np.broadcast_to(np.arange(0, 60, 10, dtype=np.uint8)[:, None, None], RAW.shape).copy()
    damaged = ramp.copy()
    damaged[[1, 3, 4]] = 99
    repaired = Interpolated(ArrayInMemory(damaged), frozenset({1, 3, 4}))
    np.testing.assert_array_equal(whole(repaired), ramp)
    np.testing.assert_array_equal(repaired[BOX.slices], ramp[BOX.slices])
    assert (damaged[1] == 99).all()


def test_at_the_ends_the_nearest_sound_section_is_repeated():
    repaired = whole(Interpolated(ArrayInMemory(RAW), frozenset({0, 1, 5})))
    np.testing.assert_array_equal(repaired, RAW[[2, 2, 2, 3, 4, 4]])


@pytest.mark.parametrize(
    ("dtype", "stored"), [("uint8", "u1"), ("uint16", "u2"), (">u2", "u2"), ("int32", "u4"), ("uint64", "u4")]
)
def test_ids_keep_their_values_and_need_no_64_bits(dtype, stored):
    ids = Ids(ArrayInMemory(RAW.astype(dtype)), "ids.h5")
    assert ids.dtype == whole(ids).dtype == np.dtype(stored)
    np.testing.assert_array_equal(whole(ids), RAW)


def test_what_cremi_marks_as_without_an_id_is_background():
    labels = RAW.astype(np.uint64)
    labels[0, 0, :3] = 2**64 - np.array([1, 2, 3], dtype=object)
    np.testing.assert_array_equal(whole(Ids(ArrayInMemory(labels), "a"))[0, 0, :4], [0, 0, 0, RAW[0, 0, 3]])


@pytest.mark.parametrize(("dtype", "value"), [("int16", -1), ("uint64", 2**32)])
def test_ids_that_do_not_fit_are_refused(dtype, value):
    labels = RAW.astype(dtype)
    labels[2, 2, 2] = value
    with pytest.raises(UserError, match=rf"ids\.h5: wanted ids from 0 to \d+, got .*{value}"):
        whole(Ids(ArrayInMemory(labels), "ids.h5"))


def test_a_section_is_blank_from_a_quarter_of_zeros_on():
    raw = np.ones((4, 8, 8), np.uint8)
    raw[1, :2] = 0
    raw[2, :2, 1:] = 0
    raw[3] = 0
    assert blank_sections(ArrayInMemory(raw)) == (1, 3)
