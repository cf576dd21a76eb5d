import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ssns.errors import UserError
from ssns.metrics import Contingency

HUGE = 2**64 - 1
IDS = st.sampled_from([0, 1, 2, 300, 2**32, 2**63, HUGE])
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=4)


def pairs(table: Contingency) -> list[tuple[int, int, int]]:
    return list(zip(table.labels.tolist(), table.segments.tolist(), table.counts.tolist(), strict=True))


def counted_one_by_one(segmentation: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, int]]:
    counts: dict[tuple[int, int], int] = {}
    for label, segment in zip(labels.ravel().tolist(), segmentation.ravel().tolist(), strict=True):
        counts[label, segment] = counts.get((label, segment), 0) + 1
    return [(label, segment, counts[label, segment]) for label, segment in sorted(counts)]


@st.composite
def two_arrays(draw):
    shape = draw(SHAPES)
    return tuple(draw(arrays(np.uint64, shape, elements=IDS)) for _ in range(2))


@given(two_arrays())
def test_counts_every_pair_of_ids_up_to_the_largest(both):
    segmentation, labels = both
    assert pairs(Contingency.count(segmentation, labels)) == counted_one_by_one(segmentation, labels)


@given(two_arrays(), st.data())
def test_tables_of_blocks_add_up_to_the_whole(both, data):
    segmentation, labels = both
    cut = data.draw(st.integers(0, segmentation.shape[2]))
    parts = [Contingency.count(segmentation[:, :, s], labels[:, :, s]) for s in (slice(cut), slice(cut, None))]
    assert pairs(parts[0] + parts[1]) == pairs(Contingency.count(segmentation, labels))


@given(two_arrays(), st.data())
def test_mask_leaves_voxels_out(both, data):
    segmentation, labels = both
    mask = data.draw(arrays(np.bool_, labels.shape))
    assert pairs(Contingency.count(segmentation, labels, mask)) == counted_one_by_one(segmentation[mask], labels[mask])


@given(two_arrays())
def test_segments_get_other_names(both):
    segmentation, labels = both[0] % np.uint64(50), both[1]
    names = np.random.default_rng(0).integers(0, 5, 50)
    table = Contingency.count(segmentation, labels).renamed(names)
    assert pairs(table) == pairs(Contingency.count(names[segmentation], labels))


def test_sizes_of_labels_and_segments_are_told_for_each_pair():
    table = Contingency.count(np.array([1, 1, 2, 2, 2]), np.array([7, 8, 8, 8, 9]))
    assert pairs(table) == [(7, 1, 1), (8, 1, 1), (8, 2, 2), (9, 2, 1)]
    assert table.label_sizes.tolist() == [1, 3, 3, 1]
    assert table.segment_sizes.tolist() == [2, 2, 3, 3]
    assert table.voxels == 5


@pytest.mark.parametrize(
    ("segmentation", "labels", "mask", "message"),
    [
        (np.ones(3), np.ones(3, int), None, r"segmentation: wanted integer ids, got float64"),
        (np.ones(3, int), np.ones(3, bool), None, r"labels: wanted integer ids, got bool"),
        (np.ones(3, int), np.array([1, -1, 2]), None, r"labels: wanted ids of 0 or more, got -1"),
        (np.ones(3, int), np.ones(4, int), None, r"labels: wanted the shape of segmentation, \(3,\), got \(4,\)"),
        (np.ones(3, int), np.ones(3, int), np.ones(2, bool), r"mask: wanted the shape of segmentation"),
        (np.ones(3, int), np.ones(3, int), np.ones(3, int), r"mask: wanted bool, got int64"),
    ],
)
def test_mistakes_are_told(segmentation, labels, mask, message):
    with pytest.raises(UserError, match=message):
        Contingency.count(segmentation, labels, mask)
