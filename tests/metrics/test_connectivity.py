import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label
from toy_affinities import same_partition

from ssns.blockwise.grid import blocks
from ssns.errors import UserError
from ssns.metrics import BlockwiseComponents, components, score
from ssns.space import Box
from ssns.volume import from_array

AXES = {6: 1, 18: 2, 26: 3}
VOLUMES = arrays(
    st.sampled_from([np.uint8, np.int16, np.uint64]),
    array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5),
    elements=st.integers(0, 2),
)


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


def by_blocks(labels, shape, background=0, connectivity=26) -> tuple[np.ndarray, np.ndarray]:
    """Components and, for each, its id in the labels."""
    finder = BlockwiseComponents(from_array(labels), background, connectivity)
    pieces = np.zeros(labels.shape, np.int64)
    for block in blocks(Box.of_shape(labels.shape), shape):
        pieces[block.write.slices] = finder.pieces(block)
    joined = finder.joined()
    return joined.components[pieces], joined.labels


@given(VOLUMES, st.tuples(*[st.integers(1, 5)] * 3), st.sampled_from([0, 1, None]), st.sampled_from([6, 18, 26]))
def test_blocks_are_joined_to_the_components_of_the_whole(labels, shape, background, connectivity):
    found, sources = by_blocks(labels, shape, background, connectivity)
    assert same_partition(found, components(labels, background, connectivity))
    assert len(sources) == found.max() + 1
    foreground = found > 0
    assert np.array_equal(sources[found][foreground], labels[foreground])
    assert np.array_equal(foreground, np.ones_like(foreground) if background is None else labels != background)


def test_one_block_numbers_components_as_the_whole_does():
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    found, _ = by_blocks(labels, labels.shape)
    assert np.array_equal(found, components(labels))


def test_a_neuron_that_winds_through_blocks_is_one():
    """An S through four blocks of 2 x 2, touching only at corners."""
    labels = np.array([[[5, 0, 0, 5], [0, 5, 5, 0], [0, 0, 0, 5], [2, 0, 5, 0]]])
    found, sources = by_blocks(labels, (1, 2, 2))
    assert found.tolist() == [[[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1], [2, 0, 1, 0]]]
    assert sources.tolist() == [0, 5, 2]


@pytest.mark.real_data
def test_real_labels_hold_pieces_that_leave_the_box(development_data):
    labels = tifffile.imread(development_data / "AC4_labels.tif", key=range(40, 44))[:, :256, :256]
    pieces = components(labels)
    assert same_partition(pieces, label(labels, connectivity=3))
    assert same_partition(by_blocks(labels, (3, 100, 90))[0], pieces)
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
