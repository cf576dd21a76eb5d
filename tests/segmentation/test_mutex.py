import numpy as np
import pytest
from toy_affinities import boxes, letters, perfect

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.errors import UserError
from ssns.metrics import score
from ssns.segmentation import Multicut, MutexClustering, MutexWatershed, segment
from ssns.segmentation.inputs import AffinityVolume

OFFSETS = [*NEAREST, (0, 0, -3), (0, -3, 0), (-2, 0, 0)]


def row(nearest: list[float], apart: float, **settings) -> tuple[str, ...]:
    """Regions of a row of voxels, whose ends are the only pair of long range."""
    affinities = np.zeros((4, 1, 1, len(nearest) + 1), np.float32)
    affinities[2, 0, 0, 1:] = nearest
    affinities[3, 0, 0, -1] = apart
    volume = AffinityVolume.checked(affinities, [*NEAREST, (0, 0, -len(nearest))], None)
    return letters(MutexWatershed(**settings).flood(volume))


def test_what_was_forbidden_before_does_not_merge():
    assert row([0.9, 0.7, 0.8], 0.1) == ("aabb",)
    assert row([0.9, 0.7, 0.8], 0.4) == ("aaaa",)
    assert row([0.9, 0.7, 0.8], 0.1, bias=0.3) == ("aaaa",)


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("method", ["mutex-watershed", "lifted-multicut", Multicut(solver=MutexClustering())], ids=str)
def test_perfect_affinities_of_long_range_give_the_labels_back(method, kind):
    labels = boxes(([2, 2], [16, 18], [17, 20]))
    affinities, _ = labels_to_affinities(labels, OFFSETS)
    affinities = (affinities * (255 if kind is np.uint8 else 1)).astype(kind)
    mask = labels > 0
    segments = segment(affinities, method, offsets=OFFSETS, mask=mask, threads=1)
    assert np.array_equal(segments > 0, mask)
    scores = score(segments, labels)
    assert (scores.arand, scores.voi_sum) == pytest.approx((0, 0), abs=1e-12)


def test_ids_under_a_mask_are_dense():
    labels = boxes(([2, 2], [16, 18], [17, 20]))
    segments = segment(labels_to_affinities(labels, OFFSETS)[0], "mutex-watershed", offsets=OFFSETS, mask=labels > 0)
    assert segments.max() == len(np.unique(segments)) - 1
    assert segments.dtype == np.uint8


def test_order_and_direction_of_channels_do_not_matter():
    labels = boxes(([2, 2], [16, 18], [17, 20]))
    turned = [(1, 0, 0), (0, 3, 0), (0, 1, 0), (0, 0, -3), (2, 0, 0), (0, 0, 1)]
    found = [
        segment(labels_to_affinities(labels, offsets)[0], "mutex-watershed", offsets=offsets, mask=labels > 0)
        for offsets in (OFFSETS, turned)
    ]
    assert np.array_equal(*found)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("mutex-watershed", "offsets: the mutex watershed wanted some beyond the nearest neighbours, got"),
        ("lifted-multicut", "offsets: lifted edges of long range wanted some beyond the nearest neighbours, got"),
    ],
)
def test_affinities_of_nearest_neighbours_only_are_told(method, message):
    with pytest.raises(UserError, match=message):
        segment(perfect(boxes(([2], [16], [16]))), method)
