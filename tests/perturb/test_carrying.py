"""affinities(move(labels)) = carried(affinities(labels)) wherever the carried ones say that they are known."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from scipy.spatial import cKDTree

from ssns.affinities import GRID_SYMMETRIES, NEAREST, labels_to_affinities
from ssns.networks.extents import Extents, valid_extents
from ssns.perturb import AnyPerturbation, Elastic, Fold, Misalign, Motion, Rotation, Scale
from ssns.perturb.carrying import BAND, Carried, Warp
from ssns.perturb.geometry import Zoom
from ssns.perturb.rotation import Turn
from ssns.perturb.sections import SectionShifts
from ssns.space import Box

FAMILIES = get_args(get_args(AnyPerturbation)[0])
MOTIONS = [family for family in FAMILIES if issubclass(family, Motion)]
LONG = (*NEAREST, (-2, 0, 0), (0, -3, 0), (0, 0, -3), (0, 3, -3))
FORWARD = tuple(tuple(-o for o in offset) for offset in NEAREST)
OFFSETS = [NEAREST, LONG, FORWARD, ((0, 0, -1), (-1, 1, 0), (0, -4, 0))]

shapes = st.tuples(st.integers(1, 6), st.integers(2, 12), st.integers(2, 12))
offset_lists = st.lists(
    st.tuples(st.integers(-2, 2), st.integers(-4, 4), st.integers(-4, 4)).filter(any),
    min_size=1,
    max_size=5,
    unique=True,
).map(tuple)


def cells(shape, seed=0, volume=600, background=0.0):
    """Voronoi cells, elongated along z; ids from 1, 0 for a share of them."""
    draws = np.random.default_rng(seed)
    count = max(2, int(np.prod(shape)) // volume)
    seeds = draws.uniform(0, shape, (count, 3)) * (0.4, 1, 1)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3) * (0.4, 1, 1)
    ids = 1 + cKDTree(seeds).query(grid)[1]
    ids[np.isin(ids, 1 + np.flatnonzero(draws.random(count) < background))] = 0
    return torch.from_numpy(ids.reshape(shape).astype(np.int32))


def random_labels(shape, seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, shape).astype(np.int32))


def carried(labels, offsets, moves, **options):
    return Carried(*labels_to_affinities(labels, offsets), offsets).moved(moves, **options)


def closed_under_turns(offsets):
    """Offsets and what quarter turns make of them, each edge once: none whose reverse is there."""
    closed = []
    for z, y, x in offsets:
        for turned in [(z, y, x), (z, -x, y), (z, -y, -x), (z, x, -y)]:
            if turned not in closed and tuple(-o for o in turned) not in closed:
                closed.append(turned)
    return tuple(closed)


def moved(labels, moves):
    for move in moves:
        labels = move.apply(labels)
    return labels


def far_from_boundaries(labels, offsets):
    """Per channel: no end of the edge is within |offset| + 2 voxels of a boundary in its section."""
    labels = labels.numpy()
    edge = np.zeros(labels.shape, bool)
    for axis in (1, 2):
        differ = np.diff(labels, axis=axis) != 0
        for ahead in (slice(1, None), slice(None, -1)):
            index = [slice(None)] * 3
            index[axis] = ahead
            edge[tuple(index)] |= differ
    far = np.ones((len(offsets), *labels.shape), bool)
    for channel, offset in enumerate(offsets):
        size = 2 * (BAND + max(abs(offset[1]), abs(offset[2]))) + 1
        near = binary_dilation(edge, np.ones((1, size, size), bool))
        far[channel] = ~near
        for z in range(len(labels)):
            if 0 <= z + offset[0] < len(labels):
                far[channel, z] &= ~near[z + offset[0]]
    return torch.from_numpy(far)


class TestExactMoves:
    @given(shape=shapes, offsets=offset_lists, symmetry=st.sampled_from(GRID_SYMMETRIES), seed=st.integers(0, 99))
    @settings(max_examples=150)
    def test_flips_transposes_and_quarter_turns(self, shape, offsets, symmetry, seed):
        shape = (shape[0], shape[1], shape[1]) if symmetry.transpose else shape
        labels = random_labels(shape, seed)
        found = carried(labels, offsets, [symmetry])
        wanted, possible = labels_to_affinities(symmetry.apply(labels), offsets)
        assert torch.equal(found.affinities[found.known], wanted[found.known])
        assert not (found.known & ~possible).any()
        for channel, offset in enumerate(offsets):
            source = symmetry.inverse.displacement(offset)
            held = source in offsets or tuple(-o for o in source) in offsets
            assert torch.equal(found.known[channel], possible[channel] & held)

    @given(shape=shapes, offsets=offset_lists, seed=st.integers(0, 99), largest=st.integers(0, 5))
    @settings(max_examples=150)
    def test_shifts_of_sections_by_whole_voxels(self, shape, offsets, seed, largest):
        labels = random_labels(shape, seed)
        shifts = torch.from_numpy(np.random.default_rng(seed).integers(-largest, largest, (shape[0], 2), endpoint=True))
        move = SectionShifts(shifts)
        found = carried(labels, offsets, [move])
        wanted, _ = labels_to_affinities(move.apply(labels), offsets)
        assert torch.equal(found.affinities[found.known], wanted[found.known])
        for channel, offset in enumerate(offsets):
            for section in range(shape[0]):
                partner = section + offset[0]
                together = 0 <= partner < shape[0] and torch.equal(shifts[section], shifts[partner])
                if not together:
                    assert not found.known[channel, section].any()

    def test_everything_that_stays_inside_is_known_after_a_shift(self):
        labels = cells((3, 12, 14))
        shifts = torch.tensor([[0, 0], [2, -3], [2, -3]])
        known = carried(labels, NEAREST, [SectionShifts(shifts)]).known
        # Sections 1 and 2 moved alike: z edges between them are known, those between 0 and 1 are not.
        assert known[0].any(dim=(1, 2)).tolist() == [False, False, True]
        # Rows 0 to 9 of section 2 show rows 2 to 11, columns 3 to 13 show 0 to 10: all are known along z.
        assert torch.equal(known[0, 2].nonzero().amin(0), torch.tensor([0, 3]))
        assert torch.equal(known[0, 2].nonzero().amax(0), torch.tensor([9, 13]))
        assert int(known[0, 2].sum()) == 10 * 11
        assert int(known[1, 2].sum()) == 9 * 11  # the edge of row 0 leaves the section
        assert int(known[2, 2].sum()) == 10 * 10

    @pytest.mark.parametrize("offsets", [NEAREST, FORWARD, (*NEAREST, (-2, 0, 0), (0, -3, 0), (0, 0, -3))])
    def test_one_after_the_other(self, offsets):
        labels = cells((5, 24, 24), volume=90)
        generator = torch.Generator().manual_seed(3)
        moves = [
            GRID_SYMMETRIES[11],
            Misalign(largest=4, section_probability=0.5).draw((5, 24, 24), generator),
            GRID_SYMMETRIES[6],
        ]
        found = carried(labels, offsets, moves)
        wanted, possible = labels_to_affinities(moved(labels, moves), offsets)
        assert torch.equal(found.affinities[found.known], wanted[found.known])
        assert not (found.known & ~possible).any()
        assert found.known.float().mean() > 0.1


class TestInterpolatingMoves:
    SHAPE = (6, 96, 96)

    @pytest.mark.parametrize("offsets", OFFSETS)
    @pytest.mark.parametrize("family", [family for family in MOTIONS if family not in (Misalign,)])
    def test_agree_away_from_boundaries(self, family, offsets):
        agreeing, counted = 0, 0
        for seed in range(6):
            labels = cells(self.SHAPE, seed, volume=2500, background=0.1)
            move = family().draw(self.SHAPE, torch.Generator().manual_seed(seed))
            found = carried(labels, offsets, [move], keep_uncertain=True)
            wanted, _ = labels_to_affinities(move.apply(labels), offsets)
            judged = found.known & far_from_boundaries(move.apply(labels), offsets)
            agreeing += int(((found.affinities > 0.5) == (wanted > 0.5))[judged].sum())
            counted += int(judged.sum())
        assert counted > 0.05 * 6 * len(wanted) * labels.numel() / len(offsets)
        assert agreeing >= 0.98 * counted

    @given(
        shape=st.tuples(st.integers(1, 6), st.integers(40, 110), st.integers(40, 110)),
        offsets=offset_lists,
        family=st.sampled_from([Scale, Elastic, Rotation]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=40)
    def test_agree_at_any_size_and_with_any_offsets(self, shape, offsets, family, seed):
        labels = cells(shape, seed, volume=2500, background=0.1)
        move = family().draw(shape, torch.Generator().manual_seed(seed))
        found = carried(labels, offsets, [move], keep_uncertain=True)
        wanted, possible = labels_to_affinities(move.apply(labels), offsets)
        assert not (found.known & ~possible).any()
        judged = found.known & far_from_boundaries(move.apply(labels), offsets)
        agree = ((found.affinities > 0.5) == (wanted > 0.5))[judged]
        assert agree.sum() >= 0.98 * judged.sum()

    @given(size=st.integers(3, 12), offsets=offset_lists, quarters=st.sampled_from([1, 2, 3]), seed=st.integers(0, 99))
    @settings(max_examples=60)
    def test_a_turn_by_right_angles_is_the_symmetry_of_the_grid(self, size, offsets, quarters, seed):
        # Random labels, all of them boundaries: an edge that is read from a wrong place shows.
        labels = random_labels((3, size, size), seed)
        offsets = closed_under_turns(offsets)
        affinities, known = labels_to_affinities(labels, offsets)
        known &= torch.from_numpy(np.random.default_rng(seed).random(known.shape) > 0.2)
        start = Carried(affinities, known, offsets)
        probe = torch.arange(2 * 3 * 3).reshape(2, 3, 3)
        turned = torch.rot90(probe, quarters, (1, 2))
        (symmetry,) = (each for each in GRID_SYMMETRIES if torch.equal(each.apply(probe), turned))
        wanted = start.moved([symmetry])
        found = start.moved([Turn(90.0 * quarters)], keep_uncertain=True)
        assert torch.equal(found.known, wanted.known)
        torch.testing.assert_close(found.affinities[found.known], wanted.affinities[wanted.known], rtol=0, atol=1e-3)

    @pytest.mark.parametrize("offsets", OFFSETS)
    def test_agree_one_after_the_other(self, offsets):
        for seed, families in enumerate([(Scale, Rotation, Elastic), (Elastic, Misalign, Scale), (Rotation, Fold)]):
            labels = cells(self.SHAPE, seed, volume=2500)
            generator = torch.Generator().manual_seed(seed)
            moves = [family().draw(self.SHAPE, generator) for family in families]
            found = carried(labels, offsets, moves)
            wanted, possible = labels_to_affinities(moved(labels, moves), offsets)
            assert not (found.known & ~possible).any()
            assert found.known.float().mean() > 0.01
            agree = ((found.affinities > 0.5) == (wanted > 0.5))[found.known]
            assert agree.float().mean() >= 0.98

    @pytest.mark.parametrize("offsets", OFFSETS)
    # Beside a fold other tissue comes to lie: that boundary is none of those that the teacher saw.
    @pytest.mark.parametrize(("family", "left"), [(Scale, 0), (Elastic, 0), (Rotation, 0), (Fold, 0.01)])
    def test_the_mask_leaves_the_uncertain_band_out(self, family, left, offsets):
        for seed in range(4):
            labels = cells(self.SHAPE, seed, volume=2500)
            move = family().draw(self.SHAPE, torch.Generator().manual_seed(seed))
            sure = carried(labels, offsets, [move])
            all_of_them = carried(labels, offsets, [move], keep_uncertain=True)
            assert not (sure.known & ~all_of_them.known).any()
            wanted, _ = labels_to_affinities(move.apply(labels), offsets)
            agree = (sure.affinities > 0.5) == (wanted > 0.5)
            assert agree[sure.known].float().mean() >= 0.98
            band = all_of_them.known & ~far_from_boundaries(move.apply(labels), offsets)
            assert band.float().mean() > 0.05
            assert sure.known[band].float().mean() <= left

    def test_sections_that_moved_apart_have_no_known_z_edges_between_them(self):
        labels = cells(self.SHAPE)
        fold = Fold(sections=(1, 1), decay=(1e-5, 1e-5)).draw(self.SHAPE, torch.Generator().manual_seed(1))
        section = fold.folds[0].section
        field = fold.displacement(self.SHAPE, torch.device("cpu"))
        apart = field.abs().amax(0) > 1.01
        known = carried(labels, NEAREST, [fold], keep_uncertain=True).known
        assert apart[section].any()
        assert not known[0][apart].any()
        others = [z for z in range(1, 6) if z not in (section, section + 1)]
        assert known[0][others].all()

    def test_an_edge_whose_image_no_channel_holds_is_masked_whole(self):
        labels = cells(self.SHAPE)
        offsets = (*NEAREST, (0, -9, 0))
        known = carried(labels, offsets, [Zoom((64, 64), (96, 96))], keep_uncertain=True).known
        assert not known[3].any()  # 6 voxels long before
        assert known[:3].flatten(1).float().mean(1).min() > 0.5


class TestScaleOfTheReference:
    """reference 5.5 and 10.1: what counts of a patch of 160 x 160 whose student saw s x s."""

    def share(self, size, *, honest):
        shape = (1, 160, 160)
        affinities = torch.ones(3, *shape)
        start = Carried(affinities, torch.ones_like(affinities, dtype=torch.bool), NEAREST)
        moves = [Zoom((size, size), (160, 160))]
        found = start.moved(moves, keep_uncertain=True) if honest else start.moved_as_images(moves)
        return found.known[0 if not honest else 1].float().mean().item()

    @pytest.mark.parametrize(("size", "share"), [(240, (107 / 160) ** 2), (106, (106 / 160) ** 2)])
    def test_as_images(self, size, share):
        assert self.share(size, honest=False) == pytest.approx(share, rel=1e-6)

    @pytest.mark.parametrize("angle", [10.0, 90.0, 180.0])
    def test_turns_are_ignored_as_images(self, angle):
        affinities = torch.rand(3, 1, 20, 20)
        start = Carried(affinities, torch.ones_like(affinities, dtype=torch.bool), NEAREST)
        found = start.moved_as_images([Turn(angle)])
        assert torch.equal(found.affinities, affinities)
        assert found.known.all()

    def test_honestly_all_of_a_magnified_patch_counts(self):
        assert self.share(106, honest=True) == pytest.approx(159 / 160)  # but for edges that leave the patch
        assert self.share(240, honest=True) == pytest.approx((106 / 160) * (105 / 160))


@pytest.mark.parametrize("extents", [Extents(shrink=(1, 10, 10)), valid_extents(1)], ids=["thin", "mala"])
class TestSmallerPredictions:
    """Networks without padding predict the inner part of a patch."""

    SHAPE = (17, 61, 61)

    @pytest.mark.parametrize("family", MOTIONS)
    def test_are_carried_in_the_frame_of_the_patch(self, family, extents):
        inside = (slice(None), *extents.predicted(Box.of_shape(self.SHAPE)).slices)
        for seed in range(5):
            labels = cells(self.SHAPE, seed, volume=5000)
            move = family().draw(self.SHAPE, torch.Generator().manual_seed(seed))
            inner = labels_to_affinities(labels, NEAREST)[0][inside]
            start = Carried(inner, torch.ones_like(inner, dtype=torch.bool), NEAREST, extents.shrink)
            found = start.moved([move])
            wanted = labels_to_affinities(move.apply(labels), NEAREST)[0][inside]
            agree = (found.affinities > 0.5) == (wanted > 0.5)
            if isinstance(move, Warp) and not move.exact:
                assert agree[found.known].float().mean() >= 0.98
            else:
                assert agree[found.known].all()
            assert found.known.any()


def test_an_unknown_kind_of_move_is_refused():
    affinities = torch.zeros(3, 2, 4, 4)
    with pytest.raises(TypeError, match="wanted symmetries of the grid and warps, got a str"):
        Carried(affinities, affinities > 0, NEAREST).moved(["up"])
