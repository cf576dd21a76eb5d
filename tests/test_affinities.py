import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label as connected
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import ssns.affinities
from ssns.affinities import (
    GRID_SYMMETRIES,
    NEAREST,
    GridSymmetry,
    edge_ends,
    labels_to_affinities,
    transform_affinities,
    widen_borders,
)
from ssns.errors import UserError

try:
    import torch
except ModuleNotFoundError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")

offsets_of_any_length = st.tuples(st.integers(-3, 3), st.integers(-4, 4), st.integers(-4, 4))
offset_sets = st.lists(offsets_of_any_length, min_size=1, max_size=4, unique=True).map(tuple)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
volumes = hnp.arrays(np.uint16, shapes, elements=st.integers(0, 3))
symmetries = st.sampled_from(GRID_SYMMETRIES)


def one_by_one(labels, offsets, background, ignored, valid):
    """Affinities and mask by the definition, edge by edge."""
    affinities = np.zeros((len(offsets), *labels.shape), np.float32)
    mask = np.zeros(affinities.shape, bool)
    for channel, offset in enumerate(offsets):
        for here in np.ndindex(labels.shape):
            there = tuple(p + o for p, o in zip(here, offset, strict=True))
            if not all(0 <= p < n for p, n in zip(there, labels.shape, strict=True)):
                continue
            a, b = labels[here], labels[there]
            mask[channel, *here] = valid[here] and valid[there] and ignored not in (a, b)
            affinities[channel, *here] = a == b and a != background
    return affinities, mask


def test_the_example_of_the_documentation():
    results = doctest.testmod(ssns.affinities)
    assert results.attempted == 3
    assert results.failed == 0


class TestLabelsToAffinities:
    def test_one_row(self):
        affinities, mask = labels_to_affinities(np.array([[[7, 7, 0, 0, 9, 9]]], np.uint8))
        assert affinities.dtype == np.float32
        assert mask.dtype == bool
        assert affinities.shape == mask.shape == (3, 1, 1, 6)
        assert affinities[2, 0, 0].tolist() == [0, 1, 0, 0, 0, 1]
        assert mask[2, 0, 0].tolist() == [False, True, True, True, True, True]
        assert not mask[:2].any()

    @given(st.data(), volumes, offset_sets, st.sampled_from([0, 2, None]), st.sampled_from([None, 0, 3]))
    def test_numpy_and_torch_follow_the_definition(self, data, labels, offsets, background, ignored):
        valid = data.draw(hnp.arrays(bool, labels.shape))
        expected = one_by_one(labels, offsets, background, ignored, valid)
        known = {"background": background, "ignored": ignored}
        ours = labels_to_affinities(labels, offsets, **known, valid=valid)
        for array, wanted in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(array, wanted)
            assert array.dtype == wanted.dtype
        if torch is not None:
            tensors = labels_to_affinities(
                torch.from_numpy(labels.astype(np.int32)), offsets, **known, valid=torch.from_numpy(valid)
            )
            for tensor, wanted in zip(tensors, expected, strict=True):
                np.testing.assert_array_equal(tensor.numpy(), wanted)

    def test_one_section_of_validity_holds_for_all(self):
        labels = np.ones((3, 4, 5), np.uint8)
        section = np.zeros((4, 5), bool)
        section[:, 2:] = True
        _, mask = labels_to_affinities(labels, NEAREST, valid=section)
        np.testing.assert_array_equal(mask, labels_to_affinities(labels, valid=np.stack([section] * 3))[1])

    def test_leading_axes_are_a_batch(self):
        labels = np.random.default_rng(0).integers(0, 3, (2, 2, 3, 4))
        both = labels_to_affinities(labels, ((0, 1, -1), (-2, 0, 0)))
        for number in range(2):
            for array, alone in zip(both, labels_to_affinities(labels[number], ((0, 1, -1), (-2, 0, 0))), strict=True):
                np.testing.assert_array_equal(array[number], alone)

    def test_ids_beyond_32_bits_are_told_apart(self):
        labels = np.array([[[2**40, 2**40, 2**40 + 2**32]]], np.uint64)
        assert labels_to_affinities(labels)[0][2, 0, 0].tolist() == [0, 1, 0]

    def test_replicate_makes_the_first_plane_of_each_axis_as_the_reference_does(self):
        labels = np.array([[[1, 1, 0], [2, 1, 0]], [[1, 0, 3], [2, 2, 3]]], np.uint16)
        affinities, mask = labels_to_affinities(labels, outside="replicate")
        golden = [
            [[[1, 1, 0], [1, 1, 0]], [[1, 0, 0], [1, 0, 0]]],  # z
            [[[1, 1, 0], [0, 1, 0]], [[1, 0, 1], [0, 0, 1]]],  # y
            [[[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 1, 0]]],  # x
        ]
        assert affinities.tolist() == golden
        assert mask.all()

    def test_replicate_masks_what_is_unknown(self):
        labels = np.array([[[9, 1, 1]]])
        _, mask = labels_to_affinities(labels, [(0, -1, 0), (0, 0, -1)], ignored=9, outside="replicate")
        assert mask[:, 0, 0].tolist() == [[False, True, True], [False, False, True]]

    @given(volumes)
    def test_components_of_affinities_are_the_partition(self, labels):
        # Ids of one neuron in several pieces would come back as several: give each piece its own.
        pieces, count = np.zeros(labels.shape, int), 0
        for value in np.unique(labels[labels > 0]):
            piece, found = connected(labels == value)
            pieces[piece > 0] = piece[piece > 0] + count
            count += found
        affinities, mask = labels_to_affinities(pieces)
        number = np.arange(pieces.size).reshape(pieces.shape)
        ends = []
        for channel, offset in enumerate(NEAREST):
            here, there = edge_ends(pieces.shape, offset)
            joined = (affinities[channel] == 1)[here] & mask[channel][here]
            ends.append((number[here][joined], number[there][joined]))
        a, b = (np.concatenate(side) for side in zip(*ends, strict=True))
        _, component = connected_components(coo_array((np.ones(len(a)), (a, b)), (pieces.size, pieces.size)))
        neuron = pieces.ravel() > 0
        pairs = set(zip(component[neuron].tolist(), pieces.ravel()[neuron].tolist(), strict=True))
        assert len(pairs) == len({c for c, _ in pairs}) == count


@given(shapes, offsets_of_any_length)
def test_the_ends_of_edges_are_all_pairs_an_offset_apart(shape, offset):
    index = np.stack(np.indices(shape), -1)
    here, there = edge_ends(shape, offset)
    np.testing.assert_array_equal(index[here] + offset, index[there])
    assert index[here][..., 0].size == np.prod([max(0, n - abs(o)) for n, o in zip(shape, offset, strict=True)])


ONES = np.ones((2, 3, 4), np.uint8)


class TestMistakes:
    @pytest.mark.parametrize(
        ("labels", "given", "message"),
        [
            ([[[1, 2]]], {}, r"labels: wanted an array of ids, got list: pass np\.asarray\(labels\)"),
            (ONES / 2, {}, "labels: wanted integer ids, got float64"),
            (ONES > 0, {}, "labels: wanted integer ids, got bool"),
            (ONES[0], {}, r"labels: wanted axes \(\.\.\., z, y, x\), got shape \(3, 4\): .* labels\[None\]"),
            (ONES, {"offsets": (0, 0, -1)}, r"offsets: wanted three whole voxels \(z, y, x\) each, got 0: write"),
            (ONES, {"offsets": [(0, -1)]}, r"offsets: wanted three whole voxels .* got \(0, -1\)"),
            (ONES, {"offsets": [(0, 0, -1.0)]}, r"offsets: wanted three whole voxels .* got \(0, 0, -1\.0\)"),
            (ONES, {"valid": ONES}, "valid: wanted an array of bool, got uint8: compare it"),
            (ONES, {"valid": [True]}, "valid: wanted an array of bool, got list"),
            (ONES, {"valid": ONES[:, :2] > 0}, r"valid: wanted the shape of labels, \(2, 3, 4\), .* got \(2, 2, 4\)"),
            (ONES, {"valid": ONES[None] > 0}, r"valid: wanted the shape of labels, \(2, 3, 4\), .* \(1, 2, 3, 4\)"),
        ],
    )
    def test_are_told(self, labels, given, message):
        with pytest.raises(UserError, match=message):
            labels_to_affinities(labels, **given)

    @needs_torch
    def test_of_tensors_are_told_too(self):
        with pytest.raises(UserError, match=r"labels: wanted integer ids, got torch\.float32"):
            labels_to_affinities(torch.ones(2, 3, 4))
        with pytest.raises(UserError, match=r"valid: wanted an array of bool, got torch\.uint8"):
            labels_to_affinities(torch.from_numpy(ONES), valid=torch.from_numpy(ONES))

    @pytest.mark.parametrize("offset", [[0, 0, -1], np.array([0, 0, -1])], ids=["list", "array"])
    def test_triples_may_be_of_any_kind(self, offset):
        for got, wanted in zip(
            labels_to_affinities(ONES, [offset]), labels_to_affinities(ONES, [(0, 0, -1)]), strict=True
        ):
            np.testing.assert_array_equal(got, wanted)


class TestWidenBorders:
    HALVES = np.repeat([[[1] * 6 + [2] * 6]], 4, axis=1).astype(np.uint16)

    @pytest.mark.parametrize(("style", "cleared"), [("reference", [5, 6, 7]), ("symmetric", [5, 6])])
    def test_a_straight_boundary(self, style, cleared):
        for labels in (self.HALVES, self.HALVES.swapaxes(1, 2)):
            widened = widen_borders(labels, style)
            zero = widened == 0
            assert np.unique(np.nonzero(zero)[2 if labels is self.HALVES else 1]).tolist() == cleared
            assert zero.sum() == 4 * len(cleared)
            np.testing.assert_array_equal(widened[~zero], labels[~zero])

    def test_a_single_voxel_clears_what_the_reference_does(self):
        labels = np.ones((1, 7, 7), np.uint8)
        labels[0, 3, 3] = 2
        # Edges (3,3), (3,4) along x and (4,3) along y, dilated by 3 x 3.
        golden = np.ones((7, 7), np.uint8)
        golden[2:5, 2:6] = 0
        golden[5, 2:5] = 0
        np.testing.assert_array_equal(widen_borders(labels, "reference")[0], golden)
        golden = np.ones((7, 7), np.uint8)
        golden[2:5, 2:5] = 0
        np.testing.assert_array_equal(widen_borders(labels, "symmetric")[0], golden)

    def test_none_gives_the_labels_themselves(self):
        assert widen_borders(self.HALVES, "none") is self.HALVES

    def test_boundaries_along_z_stay(self):
        labels = np.stack([np.full((4, 4), 1), np.full((4, 4), 2)])
        for style in ("symmetric", "reference"):
            np.testing.assert_array_equal(widen_borders(labels, style), labels)

    def test_differences_do_not_cancel_in_wide_types(self):
        # 32-bit differences of +1 along y and -1 along x add up to 0 in the reference, which misses the voxel.
        labels = np.array([[[5, 6], [5, 5]]], np.uint32)
        assert (widen_borders(labels, "reference") == 0).all()

    def test_the_background_is_what_is_written(self):
        assert np.unique(widen_borders(self.HALVES, "symmetric", background=9)).tolist() == [1, 2, 9]

    def test_unknown_voxels_bound_nothing(self):
        labels = self.HALVES.copy()
        valid = np.ones(labels.shape, bool)
        valid[..., 6:] = False
        for style in ("symmetric", "reference"):
            np.testing.assert_array_equal(widen_borders(labels, style, valid=valid), labels)
        valid[..., 6:] = True
        valid[..., :2] = False
        assert np.unique(np.nonzero(widen_borders(labels, "symmetric", valid=valid) == 0)[2]).tolist() == [5, 6]

    @needs_torch
    @given(volumes, st.sampled_from(["symmetric", "reference"]))
    def test_numpy_equals_torch(self, labels, style):
        tensor = widen_borders(torch.from_numpy(labels.astype(np.int64)), style)
        np.testing.assert_array_equal(tensor.numpy(), widen_borders(labels, style))

    @given(volumes, symmetries)
    def test_symmetric_borders_commute_with_symmetries(self, labels, symmetry):
        np.testing.assert_array_equal(
            symmetry.apply(widen_borders(labels, "symmetric")), widen_borders(symmetry.apply(labels), "symmetric")
        )


class TestGridSymmetry:
    def test_there_are_sixteen_and_the_first_changes_nothing(self):
        cube = np.arange(27).reshape(3, 3, 3)
        images = [symmetry.apply(cube) for symmetry in GRID_SYMMETRIES]
        assert len({image.tobytes() for image in images}) == 16
        np.testing.assert_array_equal(images[0], cube)

    @pytest.mark.parametrize("symmetry", GRID_SYMMETRIES)
    def test_the_inverse_undoes(self, symmetry):
        volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
        np.testing.assert_array_equal(symmetry.inverse.apply(symmetry.apply(volume)), volume)
        np.testing.assert_array_equal(symmetry.apply(symmetry.inverse.apply(volume)), volume)
        assert symmetry.inverse.inverse == symmetry
        for offset in ((1, 2, 3), (0, -1, 0)):
            assert symmetry.inverse.displacement(symmetry.displacement(offset)) == offset

    @pytest.mark.parametrize("symmetry", GRID_SYMMETRIES)
    def test_displacements_move_with_voxels(self, symmetry):
        start, offset = np.array([1, 1, 2]), (1, 2, -1)
        volume = np.zeros((3, 4, 5), int)
        volume[tuple(start)], volume[tuple(start + offset)] = 1, 2
        moved = symmetry.apply(volume)
        a, b = (np.argwhere(moved == value)[0] for value in (1, 2))
        assert tuple(b - a) == symmetry.displacement(offset)

    @needs_torch
    @pytest.mark.parametrize("symmetry", GRID_SYMMETRIES)
    def test_tensors_move_as_arrays(self, symmetry):
        volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
        np.testing.assert_array_equal(symmetry.apply(torch.from_numpy(volume)).numpy(), symmetry.apply(volume))

    def test_it_mirrors_first_and_transposes_then(self):
        image = np.array([[[1, 2], [3, 4]]])
        assert GridSymmetry((False, True, False), True).apply(image).tolist() == [[[3, 1], [4, 2]]]


class TestTransformAffinities:
    @settings(max_examples=300)
    @given(st.data(), volumes, offset_sets, symmetries)
    def test_equals_the_affinities_of_the_transformed_labels(self, data, labels, offsets, symmetry):
        if data.draw(st.booleans()):  # some sets that hold every image or its opposite
            offsets = tuple(dict.fromkeys((*offsets, *(symmetry.displacement(offset) for offset in offsets))))
        affinities, known = labels_to_affinities(labels, offsets, ignored=3)
        wanted, wanted_known = labels_to_affinities(symmetry.apply(labels), offsets, ignored=3)
        moved, mask = transform_affinities(affinities, offsets, symmetry)
        moved_known, _ = transform_affinities(known, offsets, symmetry)
        both = mask & moved_known
        np.testing.assert_array_equal(moved[both], wanted[both])
        for channel, offset in enumerate(offsets):
            source = symmetry.inverse.displacement(offset)
            if source in offsets or tuple(-o for o in source) in offsets:
                np.testing.assert_array_equal(both[channel], wanted_known[channel])
            else:
                assert not mask[channel].any()

    @pytest.mark.parametrize("symmetry", GRID_SYMMETRIES)
    def test_nearest_neighbours_lose_at_most_the_first_plane(self, symmetry):
        labels = np.random.default_rng(0).integers(0, 3, (3, 4, 5))
        wanted, known = labels_to_affinities(symmetry.apply(labels))
        moved, mask = transform_affinities(labels_to_affinities(labels)[0], NEAREST, symmetry)
        np.testing.assert_array_equal(moved[known], wanted[known])
        assert mask[known].all()

    @needs_torch
    @given(volumes, offset_sets, symmetries)
    def test_numpy_equals_torch(self, labels, offsets, symmetry):
        affinities, _ = labels_to_affinities(labels, offsets)
        arrays = transform_affinities(affinities, offsets, symmetry)
        tensors = transform_affinities(torch.from_numpy(affinities), offsets, symmetry)
        for array, tensor in zip(arrays, tensors, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)

    def test_a_missing_image_is_masked_and_not_invented(self):
        transpose = GridSymmetry(transpose=True)
        _, mask = transform_affinities(np.ones((2, 1, 3, 3), np.float32), [(-1, 0, 0), (0, -1, 0)], transpose)
        assert mask[0].all()
        assert not mask[1].any()
