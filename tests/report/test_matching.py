import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssns.report.matching import count_overlaps, find_errors, matched_ids

IDS = hnp.arrays(np.uint16, (2, 3, 4), elements=st.integers(0, 4))


def rows(*lines):
    """One section, a character per voxel: digits are ids, a dot is background."""
    return np.array([[[0 if c == "." else int(c) for c in line] for line in lines]])


def matched(truth, segmentation):
    return matched_ids(segmentation, count_overlaps(truth, segmentation))


def test_correct_segments_take_the_ids_of_their_neurons():
    truth = rows("113333.7")
    assert (matched(truth, rows("992222.4")) == truth).all()
    assert (matched(truth, rows("99222244"))[truth > 0] == truth[truth > 0]).all()


def test_a_false_merge_carries_the_id_of_the_larger_neuron():
    assert (matched(rows("1113333.7"), rows("8888888.9")) == rows("3333333.7")).all()


def test_the_smaller_half_of_a_false_split_gets_an_id_of_its_own():
    truth = rows("3333333.11")
    ids = matched(truth, rows("5555666.11"))
    assert (ids[..., :4] == 3).all()
    strays = np.unique(ids[..., 4:7])
    assert len(strays) == 1
    assert strays[0] not in (0, 1, 3)


def test_a_part_is_matched_by_the_whole_volume():
    truth = np.concatenate([rows("11111222"), rows("22222222")])
    segmentation = np.concatenate([rows("44444444"), rows("44444444")])
    part = matched_ids(segmentation[:1], count_overlaps(truth, segmentation))
    assert (part == 2).all()


def test_the_largest_ids_are_matched():
    truth = np.full((1, 1, 3), 2**64 - 1, dtype=np.uint64)
    segmentation = np.array([[[2**64 - 2, 2**64 - 2, 2**64 - 1]]], dtype=np.uint64)
    ids = matched(truth, segmentation)
    assert ids[0, 0, 0] == ids[0, 0, 1] == 2**64 - 1
    assert 0 < ids[0, 0, 2] < 2**32


@given(IDS, IDS)
def test_matched_ids_are_the_same_partition(truth, segmentation):
    ids = matched(truth, segmentation)
    pairs = np.unique(np.stack([ids.ravel(), segmentation.ravel().astype(np.uint64)]), axis=1)
    assert len(np.unique(ids)) == len(np.unique(segmentation)) == pairs.shape[1]
    assert ((ids == 0) == (segmentation == 0)).all()


@given(IDS, st.permutations(range(1, 5)))
def test_a_relabelled_truth_is_recognised(truth, permutation):
    assert (matched(truth, np.array([0, *permutation])[truth]) == truth).all()


@pytest.mark.parametrize(
    ("truth", "segmentation", "split", "merged"),
    [
        ("111222", "444555", "......", "......"),  # correct
        ("111111", "444455", "....xx", "......"),  # false split: the smaller piece
        ("111122", "444444", "......", "....xx"),  # false merge: the smaller neuron
        ("111122222", "444555555", "...x.....", "...x....."),  # a piece of 1 given to 2
        ("111...", "444444", "......", "......"),  # background of the truth is not judged
        ("111122", "4444..", "....xx", "......"),  # a neuron without a segment is lost
    ],
)
def test_errors_are_found(truth, segmentation, split, merged):
    truth, segmentation = rows(truth), rows(segmentation)
    found = find_errors(truth, segmentation, count_overlaps(truth, segmentation))
    assert ["".join(".x"[int(v)] for v in flags.ravel()) for flags in found] == [split, merged]


@given(IDS, IDS)
def test_errors_do_not_depend_on_the_names_of_ids(truth, segmentation):
    # a shift keeps the order, by which ties are decided
    errors = find_errors(truth, segmentation, count_overlaps(truth, segmentation))
    moved = [np.where(ids > 0, ids.astype(np.uint64) + np.uint64(2**40), 0) for ids in (truth, segmentation)]
    assert np.array_equal(errors, find_errors(*moved, count_overlaps(*moved)))


@given(IDS)
def test_swapping_truth_and_segmentation_swaps_splits_and_merges(truth):
    pieces = truth * 2 + (np.arange(4) < 2) * (truth > 0)
    split, merged = find_errors(truth, pieces, count_overlaps(truth, pieces))
    back = find_errors(pieces, truth, count_overlaps(pieces, truth))
    assert not merged.any()
    assert np.array_equal(back, (merged, split))
