import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssns.errors import UserError
from ssns.metrics import Contingency, ScoringSettings, score
from ssns.metrics.objects import object_errors

VOLUMES = arrays(np.uint64, (2, 3, 4), elements=st.sampled_from([0, 1, 2, 3, 2**40]))
CONVENTIONS = ["skimage", "singletons", "excluded", "reference"]


def errors(segmentation, labels, convention="skimage"):
    table = Contingency.count(np.asarray(segmentation), np.asarray(labels))
    return table, *object_errors(table, ScoringSettings(convention=convention))


@given(VOLUMES, VOLUMES, st.sampled_from(CONVENTIONS))
def test_contributions_add_up_to_the_scores(segmentation, labels, convention):
    assume((segmentation[labels > 0] > 0).any())
    _, *sides = errors(segmentation, labels, convention)
    scores = score(segmentation, labels, settings=ScoringSettings(convention=convention))
    for objects in sides:
        assert objects.voi_split.sum() == pytest.approx(scores.voi_split, abs=1e-12)
        assert objects.voi_merge.sum() == pytest.approx(scores.voi_merge, abs=1e-12)


@given(VOLUMES, VOLUMES)
def test_neurons_and_segments_are_counted_voxel_by_voxel(segmentation, labels):
    assume(labels.any())
    table, neurons, segments = errors(segmentation, labels)
    known = labels > 0
    for objects, own, other in ((neurons, labels, segmentation), (segments, segmentation, labels)):
        assert objects.ids.tolist() == np.unique(own[known]).tolist()
        for row, each in enumerate(objects.ids):
            partners, shared = np.unique(other[known & (own == each)], return_counts=True)
            assert objects.voxels[row] == shared.sum()
            assert objects.pieces[row] == len(partners)
            assert objects.main[row] in partners[shared == shared.max()]
        ends = table.labels if own is labels else table.segments
        assert np.array_equal(ends[objects.worst_pair], objects.ids)
        assert (table.labels[objects.worst_pair] > 0).all()


@given(VOLUMES)
def test_truth_has_no_errors(labels):
    assume(labels.any())
    for objects in errors(labels, labels)[1:]:
        assert not objects.voi_split.any()
        assert not objects.voi_merge.any()
        assert not objects.is_merged.any()
        assert np.array_equal(objects.main, objects.ids)
        assert (objects.pieces == 1).all()


def test_the_worst_is_named():
    """Truth 7777 8888 99, segments 1122 2222 55: 7 is cut, and half of it is merged with 8; 9 is right."""
    table, neurons, segments = errors([1, 1, 2, 2, 2, 2, 2, 2, 5, 5], [7, 7, 7, 7, 8, 8, 8, 8, 9, 9])
    assert neurons.ids.tolist() == [7, 8, 9]
    assert neurons.voxels.tolist() == [4, 4, 2]
    assert neurons.pieces.tolist() == [2, 1, 1]
    assert neurons.voi_split == pytest.approx([4 / 10, 0, 0])
    assert neurons.voi_merge == pytest.approx([2 / 10 * math.log2(3), 4 / 10 * math.log2(1.5), 0])
    assert neurons.main.tolist() == [1, 2, 5]
    assert neurons.is_merged.tolist() == [True, True, False]
    assert neurons.merged_with.tolist() == [8, 7, 0]
    assert [table.segments[row] for row in neurons.worst_pair] == [2, 2, 5]
    assert segments.ids.tolist() == [1, 2, 5]
    assert segments.pieces.tolist() == [1, 2, 1]
    assert segments.voi_split == pytest.approx([2 / 10, 2 / 10, 0])
    assert segments.voi_merge == pytest.approx([0, neurons.voi_merge.sum(), 0])
    assert segments.main.tolist() == [7, 8, 9]
    assert segments.merged_with.tolist() == [0, 7, 0]
    assert [table.labels[row] for row in segments.worst_pair] == [7, 7, 9]


def test_what_has_less_than_a_hundredth_is_no_piece():
    labels = np.repeat([1, 2], 1000)
    _, neurons, segments = errors(np.repeat([5, 6], [1009, 991]), labels)
    assert neurons.pieces.tolist() == [1, 1]
    assert segments.pieces.tolist() == [1, 1]
    _, neurons, segments = errors(np.repeat([5, 6], [1010, 990]), labels)
    assert neurons.pieces.tolist() == [1, 2]
    assert segments.pieces.tolist() == [1, 1]


def test_the_partner_is_the_largest_other_neuron_of_the_costliest_segment():
    """Segment 1 holds 6 of neuron 4, 3 of 5 and 1 of 6; 6 has 1 more in segment 2, with 2 of neuron 5."""
    _, neurons, segments = errors([1] * 10 + [2] * 3, [4] * 6 + [5] * 3 + [6] + [6] + [5] * 2)
    assert neurons.merged_with.tolist() == [5, 4, 4]
    assert segments.main.tolist() == [4, 5]
    assert segments.merged_with.tolist() == [5, 6]


def test_singletons_are_merged_with_nothing():
    _, neurons, _ = errors([0, 0, 0, 3], [1, 1, 2, 2], "singletons")
    assert not neurons.is_merged.any()


def test_nothing_to_score_is_said():
    with pytest.raises(UserError, match="labels: wanted voxels to score, got none of 2"):
        errors([1, 1], [0, 0])
