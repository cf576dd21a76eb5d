import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from ssns.metrics import Contingency
from ssns.metrics.detection import IOU_THRESHOLDS, Detection, detect

VOLUMES = arrays(np.int64, (3, 4, 5), elements=st.integers(0, 4))


def detected(segmentation, labels) -> Detection:
    segmentation, labels = np.asarray(segmentation), np.asarray(labels)
    return detect(Contingency.count(segmentation, labels, labels > 0))


def by_assignment(segmentation: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The best one-to-one matching at each threshold, voxel by voxel."""
    known = labels > 0
    neurons, segments = np.unique(labels[known]), np.setdiff1d(segmentation[known], [0])
    iou = np.array(
        [[((segmentation == s) & (labels == n)).sum() / (((segmentation == s) | (labels == n)) & known).sum()
          for s in segments] for n in neurons]
    ).reshape(len(neurons), len(segments))  # fmt: skip
    hits, first_sum = [], 0.0
    for threshold in IOU_THRESHOLDS:
        good = iou >= threshold
        pairs = linear_sum_assignment(good + iou / 100, maximize=True)
        hits.append(int(good[pairs].sum()))
        first_sum = first_sum or float(iou[pairs][good[pairs]].sum())
    averages = [hit / (len(neurons) + len(segments) - hit) for hit in hits]
    return {
        "object_precision": hits[0] / len(segments) if len(segments) else 0.0,
        "object_recall": hits[0] / len(neurons),
        "panoptic_quality": 2 * first_sum / (len(neurons) + len(segments)),
        "ap_50": averages[0],
        "ap_75": averages[5],
        "ap": float(np.mean(averages)),
    }


@given(VOLUMES, VOLUMES)
def test_equals_the_best_assignment(segmentation, labels):
    assume(labels.any())
    assert detected(segmentation, labels)._asdict() == pytest.approx(by_assignment(segmentation, labels))


def test_equals_the_best_assignment_where_most_is_right():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(1, 9), 20).reshape(4, 5, 8)
    segmentation = np.where(random.random(labels.shape) < 0.2, random.integers(0, 9, labels.shape), labels)
    found = detected(segmentation, labels)
    assert 0 < found.ap < found.ap_50
    assert found._asdict() == pytest.approx(by_assignment(segmentation, labels))


@given(VOLUMES)
def test_truth_finds_every_object(labels):
    assume(labels.any())
    assert detected(labels, labels) == Detection(1, 1, 1, 1, 1, 1)


def test_one_neuron_of_three_is_found():
    """Truth 1111 2222 33.., segments 1112 5555 5.66, background not scored.

    Neuron 1: IoU 3/4. Neuron 2: segment 5 covers it and half of 3, IoU 4/5. Neuron 3: segment 5 has 1/6 of it.
    """
    found = detected([1, 1, 1, 2, 5, 5, 5, 5, 5, 0, 6, 6], [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 0, 0])
    assert found.object_precision == 2 / 3  # segments 1, 2, 5; 6 is outside
    assert found.object_recall == 2 / 3
    assert found.ap_50 == 2 / 4
    assert found.ap_75 == 2 / 4
    assert found.ap == pytest.approx((6 * 2 / 4 + 1 * 1 / 5 + 0) / 10)
    assert found.panoptic_quality == pytest.approx((3 / 4 + 4 / 5) / 3)


@pytest.mark.parametrize(("segmentation", "labels"), [([1, 2], [3, 3]), ([3, 3], [1, 2])])
def test_two_halves_are_matched_once(segmentation, labels):
    found = detected(segmentation, labels)
    assert found.ap_50 == 1 / 2
    assert found.panoptic_quality == pytest.approx(1 / 3)


def test_nothing_segmented_finds_nothing():
    assert detected([0, 0], [1, 2]) == Detection(0, 0, 0, 0, 0, 0)
