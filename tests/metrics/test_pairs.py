from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ssns.errors import UserError
from ssns.metrics import pairs
from ssns.metrics.contingency import Contingency
from ssns.metrics.pairs import PairCounter

DTYPES = [np.uint8, np.int8, ">u2", np.int16, np.uint32, np.int64, np.uint64]
SHAPE = (3, 7, 6)


def same(first: Contingency, second: Contingency) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("labels", "segments", "counts"))


def counted(segmentation, labels, mask=None, threads=1) -> PairCounter:
    counter = PairCounter(threads)
    counter.add(segmentation, labels, mask)
    return counter


def ids(seed: int = 0, high: int = 5) -> tuple[np.ndarray, np.ndarray]:
    segmentation, labels = np.random.default_rng(seed).integers(0, high, (2, *SHAPE))
    return segmentation, labels


@pytest.mark.parametrize(("first", "second"), list(product(DTYPES, DTYPES)))
def test_every_type_counts_the_same(first, second):
    segmentation, labels = ids()
    assert same(
        counted(segmentation.astype(first), labels.astype(second)).table(), counted(segmentation, labels).table()
    )


@given(
    st.sampled_from([1, 4, 40, 10**6]),
    st.sampled_from([1, 2, 3]),
    array_shapes(min_dims=1, max_dims=4, max_side=5),
    st.data(),
)
def test_pieces_threads_layout_and_mask_do_not_matter(voxels, threads, shape, data):
    values = arrays(np.uint16, shape, elements=st.integers(0, 3))
    segmentation, labels, mask = data.draw(values), data.draw(values), data.draw(arrays(np.bool_, shape))
    whole = counted(segmentation[mask], labels[mask]).table()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "PIECE_VOXELS", voxels)
        assert same(counted(segmentation, np.asfortranarray(labels), mask, threads).table(), whole)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_table_grows_with_the_pairs(threads):
    labels = np.arange(20_000, dtype=np.uint64).reshape(2, 100, 100) + 2**40
    table = counted(labels * 3, labels, threads=threads).table()
    assert np.array_equal(table.labels, labels.ravel())
    assert np.array_equal(table.segments, 3 * labels.ravel())
    assert np.array_equal(table.counts, np.ones(20_000))


def test_read_only_and_empty_arrays_are_counted():
    segmentation, labels = ids()
    segmentation.flags.writeable = False
    assert counted(segmentation, np.broadcast_to(labels[:1], SHAPE)).table().voxels == labels.size
    assert counted(segmentation[:0], labels[:0]).table().voxels == 0


@given(st.sampled_from([3, 10**6]), st.sampled_from([1, 2]), st.data())
def test_a_place_is_inside_its_pair(voxels, threads, data):
    values = arrays(np.uint8, SHAPE, elements=st.integers(0, 2))
    segmentation, labels, mask = data.draw(values), data.draw(values), data.draw(arrays(np.bool_, SHAPE))
    counter = PairCounter(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "PIECE_VOXELS", voxels)
        for z in range(SHAPE[0]):
            counter.add(segmentation[z : z + 1], labels[z : z + 1], mask[z : z + 1], start=(10 + z, 20, 30))
    table, places = counter.table(), counter.places() - (10, 20, 30)
    assert places.shape == (len(table.counts), 3)
    found = tuple(places.T)
    assert np.array_equal(labels[found], table.labels)
    assert np.array_equal(segmentation[found], table.segments)
    assert mask[found].all()


@given(st.sampled_from([1, 2]), st.data())
def test_labels_may_be_renamed_afterwards(threads, data):
    values = arrays(np.uint8, SHAPE, elements=st.integers(0, 5))
    segmentation, labels, names = data.draw(values), data.draw(values), np.array([0, 2, 2, 1, 2, 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "PIECE_VOXELS", 20)
        counter = counted(segmentation, labels, threads=threads)
        table = counter.table(names)
        assert same(table, counted(segmentation, names[labels]).table())
    found = tuple(counter.places(names).T)
    assert np.array_equal(names[labels[found]], table.labels)
    assert np.array_equal(segmentation[found], table.segments)


def test_a_place_is_the_middle_of_the_longest_run():
    """Label 1 has runs of 2 and 5 voxels, label 2 two of 3, of which the first counts."""
    labels = np.array([[[1, 1, 0, 2, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 2, 2, 2]]])
    counter = counted(labels, labels)
    assert counter.table().labels.tolist() == [0, 1, 2]
    assert counter.places()[1:].tolist() == [[0, 1, 2], [0, 0, 4]]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_negative_id_is_found_wherever_it_is(threads, monkeypatch):
    monkeypatch.setattr(pairs, "PIECE_VOXELS", 10)
    segmentation, labels = ids()
    labels[2, 5, 3] = -4
    with pytest.raises(UserError, match="labels: wanted ids of 0 or more, got -4"):
        counted(segmentation, labels, threads=threads)
