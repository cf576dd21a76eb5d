import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label

from ssns.errors import UserError
from ssns.metrics import components, score

AXES = {6: 1, 18: 2, 26: 3}
VOLUMES = arrays(
    st.sampled_from([np.uint8, np.int16, np.uint64]),
    array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5),
    elements=st.integers(0, 2),
)


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    both = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1).shape[1]
    return both == len(np.unique(first)) == len(np.unique(second))


@given(VOLUMES, st.sampled_from([6, 18, 26]), st.sampled_from([0, 1, None]))
def test_equals_scikit_image(labels, connectivity, background):
    ours = components(labels, background, connectivity)
    theirs = label(
        labels.astype(np.int64), background=-1 if background is None else background, connectivity=AXES[connectivity]
    )
    assert same_partition(ours, theirs)
    assert sorted(set(ours.ravel())) == sorted(set(theirs.ravel()))
    if background is not None:
        assert np.array_equal(ours == 0, labels == background)


def test_pieces_of_one_neuron_are_parted_and_touching_neurons_stay_apart():
    labels = np.array([[[7, 7, 0, 7], [0, 0, 0, 7], [7, 3, 3, 0]]])
    assert components(labels).tolist() == [[[1, 1, 0, 2], [0, 0, 0, 2], [3, 4, 4, 0]]]
    assert components(labels).dtype == np.uint8


def test_largest_ids_are_kept_apart():
    labels = np.array([[[2**64 - 1, 2**64 - 2, 0]]], dtype=np.uint64)
    assert components(labels, None).tolist() == [[[1, 2, 3]]]


@pytest.mark.real_data
def test_real_labels_hold_pieces_that_leave_the_box(development_data):
    labels = tifffile.imread(development_data / "AC4_labels.tif", key=range(40, 44))[:, :256, :256]
    pieces = components(labels)
    assert same_partition(pieces, label(labels, connectivity=3))
    scores = score(pieces, labels)
    assert scores.voi_split > 0
    assert scores.voi_merge == 0


@pytest.mark.parametrize(
    ("labels", "connectivity", "message"),
    [
        (np.ones((2, 2), int), 26, "wanted three axes"),
        (np.ones((2, 2, 2)), 26, "wanted integer ids"),
        (np.ones((2, 2, 2), int), 8, "connectivity: wanted 6, 18 or 26, got 8"),
    ],
)
def test_mistakes_are_told(labels, connectivity, message):
    with pytest.raises(UserError, match=message):
        components(labels, connectivity=connectivity)
