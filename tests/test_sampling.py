import re
from collections import Counter
from functools import reduce
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ssns.affinities import labels_to_affinities
from ssns.errors import UserError
from ssns.sampling import LabelledPatches, LabelledVolume, RawPatches, RawVolume, seen_by_patches
from ssns.space import Box
from ssns.volume import Volume, from_array
from ssns.volume.normalization import IntensityRange

SHAPE = (12, 20, 22)
PATCH = (4, 8, 6)
RAW = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
IDS = np.random.default_rng(1).integers(0, 5, SHAPE).astype(np.uint16)
WHOLE = Box.of_shape(SHAPE)


class OnDisk:
    """An array that counts how often it is read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, 0

    def __getitem__(self, index):
        self.reads += 1
        return self.array[index]


def labelled(*boxes, raw=RAW, ids=IDS, labels_start=(0, 0, 0), **settings):
    return LabelledVolume(
        Volume(OnDisk(raw), "raw.tif"),
        Volume(OnDisk(ids), "labels.tif"),
        labels_start,
        boxes or (WHOLE,),
        IntensityRange(0, 255),
        **settings,
    )


def sampler(*volumes, patch=PATCH, batch=1, seed=0, **settings):
    return LabelledPatches(volumes or (labelled(),), patch, batch, seed=seed, **settings)


def test_raw_that_is_no_number_is_told_with_its_place():
    raw = np.ones((4, 8, 6), np.float32)
    raw[2, 1, 3] = np.nan
    patches = sampler(labelled(Box.of_shape(raw.shape), raw=raw, ids=IDS[:4, :8, :6]), patch=(6, 8, 6))
    with pytest.raises(UserError, match=r"raw\.tif holds NaN at z 2, y 1, x 3 \(1 of the 192 voxels of z 0\.\.4,"):
        patches(0)


def box_of(place):
    """The box at the end of ``raw.tif, z 0..4, y 0..8, x 0..6``."""
    ends = [(int(a), int(b)) for a, b in re.findall(r"(-?\d+)\.\.(-?\d+)", place)]
    return Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))


def drawn(patches, steps):
    """Boxes, raw, labels and validity of the first patches of some steps."""
    for step in range(steps):
        batch = patches(step)
        for place, raw, ids, valid in zip(batch.places, batch.raw, batch.labels, batch.valid, strict=True):
            yield box_of(place), raw[0], ids, valid


def same(a, b):
    return a.places == b.places and all(
        np.array_equal(getattr(a, part), getattr(b, part)) for part in ("raw", "labels", "valid")
    )


def test_a_batch_holds_patches_side_by_side():
    batch = sampler(batch=3)(0)
    assert (batch.raw.shape, batch.raw.dtype) == ((3, 1, *PATCH), np.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((3, *PATCH), np.int32)
    assert (batch.valid.shape, batch.valid.dtype) == ((3, *PATCH), bool)
    assert len(set(batch.places)) == 3
    assert all(place.startswith("raw.tif, z ") for place in batch.places)


class TestPlaces:
    def test_patches_lie_inside_a_box_that_holds_them_and_reach_all_of_it(self):
        box = Box((2, 3, 5), (8, 15, 16))
        starts = set()
        for place, raw, ids, valid in drawn(sampler(labelled(box)), 200):
            assert place.shape == PATCH
            assert box.contains(place)
            assert valid.all()
            np.testing.assert_array_equal(raw, RAW[place.slices].astype(np.float32) * np.float32(1 / 255))
            np.testing.assert_array_equal(ids, IDS[place.slices])
            starts.add(place.start)
        assert [set(axis) for axis in zip(*starts, strict=True)] == [{2, 3, 4}, {3, 4, 5, 6, 7}, {5, 6, 7, 8, 9, 10}]

    def test_patches_lie_around_a_smaller_box_with_the_true_raw_beside_it(self):
        box = Box((5, 4, 6), (7, 16, 18))
        starts = set()
        for place, raw, ids, valid in drawn(sampler(labelled(box)), 100):
            common = box.intersection(place)
            assert common.shape[0] == 2
            assert common.shape[1:] == PATCH[1:]
            np.testing.assert_array_equal(raw, RAW[place.slices].astype(np.float32) * np.float32(1 / 255))
            inside = np.zeros(PATCH, bool)
            inside[common.relative_to(place.start).slices] = True
            np.testing.assert_array_equal(valid, inside)
            np.testing.assert_array_equal(ids, np.where(inside, IDS[place.slices], 0))
            starts.add(place.start[0])
        assert starts == {3, 4, 5}

    @pytest.mark.parametrize("box", [Box((0, 0, 0), (1, 9, 9)), Box((11, 11, 15), (12, 20, 22))])
    def test_patches_stay_inside_the_volume_where_they_fit(self, box):
        for place, _, _, valid in drawn(sampler(labelled(box)), 30):
            assert WHOLE.contains(place)
            assert valid.any()

    @pytest.mark.parametrize("box", [WHOLE, Box((0, 0, 0), (3, 20, 22))])
    def test_raw_is_mirrored_at_the_end_of_the_volume_alone(self, box):
        patch = (18, 8, 24)  # longer than the volume along z and x
        margin = 20
        mirrored = np.pad(RAW, margin, mode="reflect").astype(np.float32) * np.float32(1 / 255)
        starts = set()
        for place, raw, _, valid in drawn(sampler(labelled(box), patch=patch), 60):
            assert place.start[0] <= 0
            assert place.stop[0] >= 12
            assert (place.start[2], place.stop[2]) in {(0, 24), (-1, 23), (-2, 22)}
            np.testing.assert_array_equal(raw, mirrored[place.relative_to((-margin,) * 3).slices])
            assert valid.sum() == box.shape[0] * 8 * 22
            starts.add(place.start[0])
        assert starts == set(range(-6, 1))

    def test_boxes_are_drawn_by_their_share_of_the_voxels(self):
        small, large = Box((0, 0, 0), (4, 8, 6)), Box((4, 8, 0), (12, 20, 18))
        other = labelled(Box((0, 0, 0), (4, 8, 12)), raw=RAW[:, :, ::-1].copy())
        counts = Counter()
        for place, raw, *_ in drawn(sampler(labelled(small, large), other, batch=20), 50):
            mirrored = not np.array_equal(raw, RAW[place.slices].astype(np.float32) * np.float32(1 / 255))
            counts["other" if mirrored else "large" if large.contains(place) else "small"] += 1
        total = 192 + 8 * 12 * 18 + 384
        for name, size in {"small": 192, "large": 8 * 12 * 18, "other": 384}.items():
            assert counts[name] / 1000 == pytest.approx(size / total, abs=0.04)

    @settings(max_examples=40)
    @given(st.data())
    def test_what_patches_see_is_all_that_any_of_them_holds(self, data):
        ends = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in (5, 6, 4)]
        box = Box(*zip(*data.draw(st.tuples(*ends)), strict=True))
        patch = data.draw(st.tuples(*[st.integers(1, 8)] * 3))
        raw = RAW[:5, :6, :4]
        places = [box_of(place) for place in sampler(labelled(box, raw=raw), patch=patch, batch=400)(0).places]
        seen = reduce(Box.bounding, places).intersection(Box.of_shape(raw.shape))
        assert seen_by_patches(box, patch, Box.of_shape(raw.shape)) == seen

    @settings(max_examples=40)
    @given(st.data())
    def test_what_is_predicted_of_a_patch_lies_where_a_patch_of_its_size_would(self, data):
        ends = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in (5, 6, 4)]
        box = Box(*zip(*data.draw(st.tuples(*ends)), strict=True))
        predicted = data.draw(st.tuples(*[st.integers(1, 8)] * 3))
        shrink = data.draw(st.tuples(*[st.integers(0, 7)] * 3))
        beyond = data.draw(st.sampled_from(["raw", "reflected"]))
        source = labelled(box, raw=RAW[:5, :6, :4])
        patch = Box.of_shape(predicted).grown(shrink).shape
        plain = sampler(source, patch=predicted, batch=300, beyond=beyond)(0)
        padded = sampler(source, patch=patch, batch=300, beyond=beyond, shrink=shrink)(0)
        inside = tuple(slice(lost, lost + n) for lost, n in zip(shrink, predicted, strict=True))
        for name in ("raw", "labels", "valid"):
            assert np.array_equal(getattr(padded, name)[(..., *inside)], getattr(plain, name))
        assert [box_of(place) for place in padded.places] == [box_of(place).grown(shrink) for place in plain.places]
        if beyond == "raw":
            bounds = Box.of_shape(source.raw.shape)
            seen = reduce(Box.bounding, map(box_of, padded.places)).intersection(bounds)
            assert seen_by_patches(box, patch, bounds, shrink) == seen

    def test_no_boxes_are_refused(self):
        with pytest.raises(UserError, match="at least one box"):
            LabelledPatches([], PATCH, 1, seed=0)


class TestLabels:
    @settings(max_examples=40)
    @given(st.data())
    def test_validity_is_exactly_the_union_of_boxes(self, data):
        ends = [st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True).map(sorted) for n in SHAPE]
        boxes = data.draw(st.lists(st.tuples(*ends), min_size=1, max_size=3))
        boxes = [Box(*zip(*axes, strict=True)) for axes in boxes]
        known = np.zeros(SHAPE, bool)
        for box in boxes:
            known[box.slices] = True
        for place, _, ids, valid in drawn(sampler(labelled(*boxes), seed=data.draw(st.integers(0, 99))), 3):
            np.testing.assert_array_equal(valid, known[place.slices])
            np.testing.assert_array_equal(ids, np.where(valid, IDS[place.slices], 0))

    def test_labels_of_a_part_lie_where_their_start_says(self):
        start = (3, 4, 5)
        part = IDS[3:9, 4:18, 5:20]
        box = Box((4, 5, 6), (8, 17, 19))
        for place, _, ids, valid in drawn(sampler(labelled(box, ids=part, labels_start=start)), 20):
            assert valid.all()
            np.testing.assert_array_equal(ids, IDS[place.slices])

    def test_isolated_sections_supervise_no_affinity_along_z(self):
        sections = (2, 6, 9)
        boxes = [Box((z, 0, 0), (z + 1, 20, 22)) for z in sections]
        for place, _, ids, valid in drawn(sampler(labelled(*boxes), patch=(10, 8, 6)), 20):
            held = [z - place.start[0] for z in sections if place.start[0] <= z < place.stop[0]]
            assert np.flatnonzero(valid.any((1, 2))).tolist() == held
            _, mask = labels_to_affinities(ids, valid=valid)
            assert not mask[0].any()
            assert mask[1].sum() == len(held) * 7 * 6

    @pytest.mark.parametrize(("background", "ignored"), [(0, None), (3, None), (None, None), (0, 4), (2, 4), (None, 0)])
    @pytest.mark.parametrize("offset", [0, 2**31 + 7, 2**40])
    def test_ids_are_told_apart_whatever_their_size(self, background, ignored, offset):
        ids = IDS.astype(np.uint64) + np.uint64(offset)
        background = None if background is None else background + offset
        ignored = None if ignored is None else ignored + offset
        volume = labelled(Box((0, 0, 0), (3, 20, 22)), ids=ids, background=background, ignored=ignored)
        for place, _, seen, valid in drawn(sampler(volume), 10):
            true = ids[place.slices]
            inside = np.zeros(PATCH, bool)
            inside[: 3 - place.start[0]] = True
            np.testing.assert_array_equal(valid, inside if ignored is None else inside & (true != ignored))
            assert seen.min() >= 0
            pairs = set(zip(true[valid].tolist(), seen[valid].tolist(), strict=True))
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
            if background is None:
                assert all(b > 0 for _, b in pairs)
            else:
                assert {a for a, b in pairs if b == 0} <= {background}
                assert {b for a, b in pairs if a == background} <= {0}

    @given(hnp.arrays(np.int64, (2, 3, 3), elements=st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**62])))
    def test_compact_ids_have_the_affinities_of_the_ids(self, ids):
        volume = LabelledVolume(
            from_array(np.zeros((2, 3, 3))),
            from_array(ids),
            (0, 0, 0),
            (Box.of_shape((2, 3, 3)),),
            IntensityRange(0, 1),
        )
        compact, _ = volume.read_labels(Box.of_shape((2, 3, 3)))
        assert compact.dtype == np.int32
        np.testing.assert_array_equal(labels_to_affinities(compact)[0], labels_to_affinities(ids)[0])


class TestDraws:
    @pytest.mark.parametrize("step", [0, 1, 10**9])
    def test_equal_seed_rank_and_step_give_equal_batches_in_any_order(self, step):
        first, second = sampler(batch=2, rank=1), sampler(batch=2, rank=1)
        first(5)
        assert same(first(step), second(step))

    @pytest.mark.parametrize("other", [{"seed": 1}, {"rank": 1}])
    def test_another_seed_or_rank_gives_another_batch(self, other):
        assert not same(sampler(batch=4)(0), sampler(batch=4, **other)(0))

    def test_another_step_gives_another_batch(self):
        patches = sampler(batch=4)
        assert not same(patches(0), patches(1))


class TestMemory:
    BOXES = (Box((1, 2, 3), (3, 18, 20)), Box((8, 0, 0), (9, 20, 22)))

    def test_in_memory_equals_lazy(self, monkeypatch):
        in_memory = sampler(labelled(*self.BOXES), batch=2)
        monkeypatch.setattr("ssns.sampling.psutil.virtual_memory", lambda: SimpleNamespace(available=0))
        volume = labelled(*self.BOXES)
        lazy = sampler(volume, batch=2)
        assert volume.raw.array.reads == volume.labels.array.reads == 0
        for step in range(20):
            assert same(in_memory(step), lazy(step))
        assert volume.raw.array.reads == 40

    def test_what_is_in_memory_is_read_once(self):
        volume = labelled(*self.BOXES)
        patches = sampler(volume, batch=2)
        for step in range(20):
            patches(step)
        assert volume.raw.array.reads == volume.labels.array.reads == 1

    def test_patches_beyond_the_volume_are_in_memory_too(self):
        volume = labelled(Box((0, 0, 0), (2, 20, 22)))
        patches = sampler(volume, patch=(30, 8, 6))
        for step in range(5):
            patches(step)
        assert volume.raw.array.reads == 1


class TestRawPatches:
    def patches(self, *boxes, patch=PATCH, batch=2, **settings):
        volume = RawVolume(Volume(OnDisk(RAW), "raw.tif"), boxes or (WHOLE,), IntensityRange(0, 255))
        return RawPatches([volume], patch, batch, seed=0, **settings)

    def test_they_are_raw_of_their_places_inside_their_boxes(self):
        box = Box((2, 3, 4), (9, 18, 20))
        patches = self.patches(box)
        for step in range(30):
            batch = patches(step)
            assert batch.partners is None
            for place, raw in zip(batch.places, batch.raw, strict=True):
                assert box.contains(box_of(place))
                np.testing.assert_array_equal(
                    raw[0], RAW[box_of(place).slices].astype(np.float32) * np.float32(1 / 255)
                )

    def test_partners_are_other_patches_and_leave_the_first_draw_alone(self):
        with_partners, without = self.patches(partners=True, batch=1), self.patches(batch=1)
        for step in range(5):
            batch = with_partners(step)
            assert batch.partners.shape == batch.raw.shape
            assert not np.array_equal(batch.partners, batch.raw)
            assert batch.places == without(step).places

    def test_what_is_predicted_of_them_lies_inside_their_boxes(self):
        box = Box((2, 3, 5), (8, 15, 16))
        patches = self.patches(box, patch=(6, 10, 12), batch=100, shrink=(2, 3, 4), partners=True)(0)
        starts = {box_of(place).grown((-2, -3, -4)).start for place in patches.places}
        assert [set(axis) for axis in zip(*starts, strict=True)] == [
            set(range(2, 7)),
            set(range(3, 12)),
            set(range(5, 13)),
        ]
        assert patches.raw.shape == patches.partners.shape == (100, 1, 6, 10, 12)

    def test_boxes_come_as_often_as_they_are_large(self):
        small, large = Box((0, 0, 0), (4, 8, 8)), Box((4, 0, 0), (12, 20, 8))
        patches = self.patches(small, large, batch=1)
        found = Counter(small.contains(box_of(patches(step).places[0])) for step in range(300))
        assert found[True] / 300 == pytest.approx(small.size / (small.size + large.size), abs=0.06)

    def test_no_box_is_refused(self):
        with pytest.raises(UserError, match="unlabelled: wanted at least one box of raw"):
            RawPatches([RawVolume(Volume(OnDisk(RAW), "raw.tif"), (), IntensityRange(0, 255))], PATCH, 1, seed=0)

    def test_nan_is_told(self):
        raw = RAW.astype(np.float32)
        raw[:] = np.nan
        volume = RawVolume(Volume(OnDisk(raw), "raw.tif"), (WHOLE,), IntensityRange(0, 255))
        with pytest.raises(UserError, match="NaN"):
            RawPatches([volume], PATCH, 1, seed=0)(0)


class TestReflected:
    def order(self, sections, depth):
        """Which sections the patch shows, from top to bottom."""
        raw = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None], SHAPE).copy()
        ids = (raw + 1).astype(np.uint16)
        volume = labelled(Box((0, 0, 0), (sections, 20, 22)), raw=raw, ids=ids)
        batch = sampler(volume, patch=(depth, 8, 6), beyond="reflected")(0)
        shown = np.rint(batch.raw[0, 0, :, 0, 0] * 255).astype(int).tolist()
        assert (batch.labels[0, :, 0, 0] - 1).tolist() == shown
        assert batch.valid.all()
        return shown

    def test_orders_of_the_reference(self):
        # reference 2.5
        assert self.order(5, 18) == [2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
        assert self.order(10, 18) == [4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5]

    def test_a_box_that_is_large_enough_is_not_reflected(self):
        assert self.order(6, 6) == [0, 1, 2, 3, 4, 5]
