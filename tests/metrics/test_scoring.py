import math
from functools import reduce
from operator import add

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from ssns.errors import UserError
from ssns.metrics import (
    WORST,
    Contingency,
    NothingSegmentedError,
    Scores,
    ScoringSettings,
    components,
    score,
    score_table,
)
from ssns.metrics.detection import detect
from ssns.volume import Volume, from_array, open_volume, write_volume

CONVENTIONS = ["skimage", "singletons", "excluded", "reference"]
VOLUMES = arrays(np.int64, (2, 3, 4), elements=st.integers(0, 4))


def settings(convention: str) -> ScoringSettings:
    return ScoringSettings(convention=convention)


def partition(scores: Scores) -> dict[str, float]:
    """What VOI and the Rand error say."""
    return {name: value for name, value in scores.to_dict().items() if name.startswith(("voi", "arand"))}


def blocks(shape: tuple[int, int, int], size: int) -> np.ndarray:
    z, y, x = np.indices(shape)
    return (z * 10**6 + y // size * 10**3 + x // size + 1).astype(np.uint64)


def assert_equal_to_skimage(segmentation: np.ndarray, labels: np.ndarray) -> None:
    ours = score(segmentation, labels)
    segmentation, labels = segmentation.astype(np.int64), labels.astype(np.int64)
    split, merge = variation_of_information(labels, segmentation, ignore_labels=(0,))
    error, first, second = adapted_rand_error(labels, segmentation, ignore_labels=(0,))
    assert (ours.voi_split, ours.voi_merge) == pytest.approx((split, merge), abs=1e-9)
    assert ours.arand == pytest.approx(error, abs=1e-9)
    # scikit-image 0.26 returns precision and recall the other way round than it documents them.
    assert sorted([ours.arand_precision, ours.arand_recall]) == pytest.approx(sorted([first, second]), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_image_on_random_ids(seed):
    random = np.random.default_rng(seed)
    labels, noise = random.integers(0, 6, (2, 4, 12, 12))
    assert_equal_to_skimage(np.where(random.random(labels.shape) < 0.7, labels, noise), labels)


@pytest.mark.real_data
def test_equals_scikit_image_on_real_labels(development_data):
    labels = components(tifffile.imread(development_data / "AC4_labels.tif", key=range(40, 44))[:, :256, :256])
    shifted = np.roll(labels, 5, axis=2)
    assert_equal_to_skimage(shifted, labels)
    assert_equal_to_skimage(np.where(labels > 0, labels + blocks(labels.shape, 100), 0), labels)


def test_split_and_merge_are_told_apart():
    """Truth 7777 8888, segments 1122 2222: neuron 7 is cut in halves, one of which is merged with neuron 8."""
    scores = score(np.array([1, 1, 2, 2, 2, 2, 2, 2]), np.array([7, 7, 7, 7, 8, 8, 8, 8]))
    assert scores.voi_split == pytest.approx(4 / 8 * math.log2(4 / 2))
    assert scores.voi_merge == pytest.approx(2 / 8 * math.log2(6 / 2) + 4 / 8 * math.log2(6 / 4))
    together, in_segments, in_neurons = 2 + 2 + 12, 2 + 30, 12 + 12
    assert scores.arand_precision == pytest.approx(together / in_segments)
    assert scores.arand_recall == pytest.approx(together / in_neurons)
    assert scores.arand == pytest.approx(1 - 2 * together / (in_segments + in_neurons))
    assert scores.cremi == pytest.approx(math.sqrt(scores.voi_sum * scores.arand))
    assert partition(scores) == {
        "voi_split": scores.voi_split,
        "voi_merge": scores.voi_merge,
        "voi_sum": scores.voi_split + scores.voi_merge,
        "arand": scores.arand,
        "arand_precision": scores.arand_precision,
        "arand_recall": scores.arand_recall,
    }


def test_scores_of_the_table_of_objects_are_among_them():
    segmentation, labels = np.random.default_rng(2).integers(0, 3, (2, 40))
    found = detect(Contingency.count(segmentation, labels, labels > 0))._asdict()
    assert score(segmentation, labels).to_dict().items() >= found.items()


@given(VOLUMES, VOLUMES, st.permutations(range(1, 5)), st.sampled_from(CONVENTIONS))
def test_scores_do_not_change_when_segments_or_neurons_are_renamed(segmentation, labels, names, convention):
    assume((segmentation[labels > 0] > 0).any())
    table = np.array([0, *names])
    renamed = score(table[segmentation] * 10**15, table[labels] * 3, settings=settings(convention))
    assert renamed.to_dict() == pytest.approx(score(segmentation, labels, settings=settings(convention)).to_dict())


@given(VOLUMES, st.sampled_from(CONVENTIONS))
def test_truth_scores_perfect_and_nothing_scores_better(labels, convention):
    assume(labels.any())
    perfect = partition(score(labels, labels, settings=settings(convention)))
    wanted = {"voi_split": 0, "voi_merge": 0, "voi_sum": 0, "arand": 0, "arand_precision": 1, "arand_recall": 1}
    assert perfect == pytest.approx(wanted, abs=1e-12)


def reference_scores(segmentation: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The formulas of the paper's evaluation scripts, over a dense matrix."""
    counts = np.zeros((labels.max() + 1, segmentation.max() + 1))
    np.add.at(counts, (labels.ravel(), segmentation.ravel()), 1)
    n = counts.sum()
    joint = counts[1:, 1:] / counts[1:, 1:].sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log2(p)).sum())

    split = entropy(joint) - entropy(joint.sum(1))
    merge = entropy(joint) - entropy(joint.sum(0))
    scored = counts[1:]
    z = scored[:, 0].sum() / n
    together = (scored[:, 1:] ** 2).sum() + z
    precision = together / ((scored[:, 1:].sum(0) ** 2).sum() + z)
    recall = together / (scored.sum(1) ** 2).sum()
    error = 1 - 2 * precision * recall / (precision + recall)
    return {
        "voi_split": split,
        "voi_merge": merge,
        "voi_sum": split + merge,
        "arand": error,
        "arand_precision": precision,
        "arand_recall": recall,
    }


@given(VOLUMES, VOLUMES)
def test_reference_convention_follows_the_papers_scripts(segmentation, labels):
    assume((segmentation[labels > 0] > 0).any())
    ours = partition(score(segmentation, labels, settings=settings("reference")))
    assert ours == pytest.approx(reference_scores(segmentation, labels), abs=1e-9)


@given(VOLUMES, VOLUMES)
def test_singletons_are_segments_of_one_voxel(segmentation, labels):
    assume(labels.any())
    numbered = np.where(segmentation == 0, np.arange(100, 100 + labels.size).reshape(labels.shape), segmentation)
    ours = partition(score(segmentation, labels, settings=settings("singletons")))
    assert ours == pytest.approx(partition(score(numbered, labels)), abs=1e-9)


@given(VOLUMES, VOLUMES)
def test_excluded_voxels_are_as_masked_ones(segmentation, labels):
    assume((segmentation[labels > 0] > 0).any())
    ours = score(segmentation, labels, settings=settings("excluded"))
    assert ours == score(segmentation, labels, mask=segmentation > 0)


def test_background_may_be_another_id_or_none():
    segmentation, labels = np.array([1, 1, 2, 2]), np.array([5, 5, 5, 0])
    assert score(segmentation, labels, settings=ScoringSettings(background=5)).voi_sum == 0
    as_neuron = score(segmentation, labels, settings=ScoringSettings(background=None))
    assert as_neuron == score(segmentation, labels + 1)


def test_scores_of_blocks_equal_the_scores_of_the_whole():
    segmentation, labels = np.random.default_rng(1).integers(0, 5, (2, 6, 8, 8))
    parts = [Contingency.count(segmentation[z : z + 2], labels[z : z + 2]) for z in (0, 2, 4)]
    assert score_table(reduce(add, parts)) == score(segmentation, labels)


def test_volumes_on_disk_are_scored_without_being_loaded(tmp_path, monkeypatch):
    segmentation, labels = np.random.default_rng(1).integers(0, 2**40, (2, 6, 1, 1)) + np.zeros((1, 8, 9), np.int64)
    mask = labels % 3 > 0
    for name, ids in (("segments.zarr", segmentation), ("truth.zarr", labels)):
        write_volume(tmp_path / name, ids)
    opened = [open_volume(tmp_path / name) for name in ("segments.zarr", "truth.zarr")]
    read = []
    monkeypatch.setattr(
        Volume, "read", lambda volume, box, read_box=Volume.read: read.append(box) or read_box(volume, box)
    )
    assert score(*opened, mask=mask) == score(segmentation, labels, mask=mask)
    assert score(opened[0], labels) == score(segmentation, labels)
    assert Contingency.count_volumes(*opened, block=(4, 5, 5)).voxels == labels.size
    assert all(box is not None for box in read)


@pytest.mark.parametrize(
    ("segmentation", "labels", "expected"),
    [
        (np.ones((3, 4, 5), int), np.ones((3, 4, 5), int), (0, 0, 0)),
        (np.zeros((3, 4, 5), int), np.ones((3, 4, 5), int), (0, 0, 0)),
        (np.ones((1, 4, 4), int), np.arange(1, 3).repeat(8).reshape(1, 4, 4), (0, 1, 1 - 2 * 112 / (240 + 112))),
        (np.full((1, 1, 2), 2**63, np.uint64), np.full((1, 1, 2), 2**40), (0, 0, 0)),
    ],
)
def test_trivial_volumes(segmentation, labels, expected):
    """All one, nothing segmented, one voxel thick with two halves merged, ids beyond 32 bits."""
    scores = score(segmentation, labels)
    assert (scores.voi_split, scores.voi_merge, scores.arand) == pytest.approx(expected)


def test_partitions_without_pairs_are_perfect_or_worst():
    alone, joined = np.array([1, 2]), np.array([1, 1])
    assert score(alone, alone).arand == 0
    assert score(joined, alone).arand == 1
    assert score(alone, joined).arand == 1


@pytest.mark.parametrize("convention", ["excluded", "reference"])
def test_nothing_segmented_is_an_error_of_its_own(convention):
    with pytest.raises(NothingSegmentedError, match="the segmentation is 0 wherever there are labels"):
        score([0, 0, 1], [1, 1, 0], settings=settings(convention))


@given(VOLUMES, VOLUMES)
def test_nothing_is_worse_than_the_worst(segmentation, labels):
    assume(labels.any())
    scores = score(segmentation, labels)
    assert scores.voi_sum < WORST.voi_sum
    assert scores.arand <= WORST.arand


@pytest.mark.parametrize(
    ("segmentation", "labels", "convention", "message"),
    [
        ([1, 1], [0, 0], "skimage", "labels: wanted voxels to score, got none of 2"),
        ([0, 0], [1, 1], "excluded", "the segmentation is 0 wherever there are labels"),
        ([1, 1], [1, 1, 1], "skimage", "wanted the shape of segmentation"),
        ([1.0, 1.0], [1, 1], "skimage", "segmentation: wanted integer ids, got float64"),
        ([1, 1], [1, -1], "skimage", "labels: wanted ids of 0 or more, got -1"),
        (from_array(np.ones((1, 2, 2), int)), np.ones((1, 2, 3), int), "skimage", "labels: wanted the shape of segm"),
    ],
)
def test_mistakes_are_told(segmentation, labels, convention, message):
    with pytest.raises(UserError, match=message):
        score(segmentation, labels, settings=settings(convention))
