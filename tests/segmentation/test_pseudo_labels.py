import numpy as np
from toy_affinities import blurred_noise, boxes, perfect

from ssns.segmentation import DEFAULT_METHOD, segment, value_of, with_value
from ssns.segmentation.pseudo_labels import _joined, pseudo_labels

LABELS = boxes(([2, 3], [20] * 3, [15, 25, 20]))
NOISE = blurred_noise((4, 80, 80), level=3)


def renamed(first, second):
    """Whether two segmentations differ in names alone."""
    pairs = len(np.unique(np.stack([first, second]).reshape(2, -1), axis=1).T)
    return pairs == len(np.unique(first)) == len(np.unique(second))


def test_membranes_are_background():
    for affinities in (perfect(LABELS), (perfect(LABELS) * 255).astype(np.uint8)):
        found = pseudo_labels(affinities, DEFAULT_METHOD)
        np.testing.assert_array_equal(found.ids == 0, LABELS == 0)
        assert renamed(found.ids, LABELS)
        assert renamed(found.bold[found.ids], LABELS)


def test_offsets_may_be_the_opposite_ones():
    opposite = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(NOISE)])
    found = pseudo_labels(opposite, DEFAULT_METHOD, offsets=[(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    np.testing.assert_array_equal(found.ids == 0, pseudo_labels(NOISE, DEFAULT_METHOD).ids == 0)


def test_both_segmentations_are_those_of_their_thresholds():
    for margin in (0.1, 0.3, 0.7):
        found = pseudo_labels(NOISE, DEFAULT_METHOD, margin)
        seen = found.ids > 0
        middle = value_of(DEFAULT_METHOD)
        for ids, threshold in [(found.ids, max(0, middle - margin)), (found.bold[found.ids], min(1, middle + margin))]:
            wanted = segment(NOISE, with_value(DEFAULT_METHOD, threshold))
            assert renamed(ids[seen], wanted[seen])
    assert len(np.unique(found.bold)) < len(found.bold) / 2  # they do differ


def test_bold_segments_that_share_a_cautious_one_count_as_one():
    cautious, bold = np.uint32([0, 1, 1, 2, 3, 4]), np.uint32([0, 1, 2, 2, 3, 0])
    np.testing.assert_array_equal(_joined(cautious, bold), [0, 1, 1, 2, 0])


def test_what_a_bold_segment_joins_through_others_alone_is_apart():
    # Two neurons above a third one: both touch it weakly, each other hardly.
    ids = np.ones((2, 40, 60), int)
    ids[:, :20, 30:], ids[:, 20:] = 2, 3
    affinities = np.ones((3, *ids.shape), np.float32)
    affinities[1:, :, 18:23] = 0.25
    affinities[1:, :, :18, 28:33] = 0.02
    found = pseudo_labels(affinities, with_value(DEFAULT_METHOD, 0.8))
    first, second, below = found.ids[0, 5, 5], found.ids[0, 5, 50], found.ids[0, 30, 30]
    assert len({first, second, below}) == 3
    assert len(set(found.bold[[first, second, below]])) == 1
    assert found.apart.tolist() == [sorted((first, second))]
    assert not len(pseudo_labels(perfect(LABELS), DEFAULT_METHOD).apart)


def test_a_voxel_with_an_edge_inside_a_neuron_is_no_background():
    found = pseudo_labels(NOISE, DEFAULT_METHOD)
    y, x = NOISE[1] > 0.5, NOISE[2] > 0.5
    y[:, 0], x[:, :, 0] = False, False  # to voxels that are not there
    inside = y | x
    inside[:, :-1] |= y[:, 1:]
    inside[:, :, :-1] |= x[:, :, 1:]
    np.testing.assert_array_equal(found.ids > 0, inside)
