import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy import ndimage

from ssns.perturb import Fold, Misalign, Patch
from ssns.perturb.sections import Folds, SectionFold, SectionShifts, fold_field, shift_sections


def shifted_by_numpy(section, dy, dx, pad=60):
    height, width = section.shape
    padded = np.pad(section, pad, mode="reflect")
    return padded[pad + dy : pad + dy + height, pad + dx : pad + dx + width]


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.int32, torch.int64, torch.bool, torch.uint8]),
)
def test_shifts_are_slices_of_the_reflected_section(shape, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randint(0, 200, shape, generator=generator).to(dtype)
    shifts = torch.randint(-30, 31, (shape[0], 2), generator=generator)
    moved = shift_sections(volume, shifts)
    assert moved.dtype == dtype
    for z, (dy, dx) in enumerate(shifts.tolist()):
        assert_array_equal(moved[z], shifted_by_numpy(volume[z].numpy(), dy, dx))


def test_shifts_keep_large_ids_and_leading_axes():
    volume = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) + 2**40
    shifts = torch.tensor([[0, 0], [1, -2], [-1, 3]])
    assert torch.equal(shift_sections(volume, shifts), torch.stack([shift_sections(part, shifts) for part in volume]))


def reference_fold(section, line, half_width, reach, decay, order):
    """Reference 6.12, written out voxel by voxel on the padded section."""
    pad = 40
    padded = np.pad(section, pad, mode="reflect")
    (y0, x0), (y1, x1) = line
    folded, fold = np.zeros(section.shape), np.zeros(section.shape, dtype=bool)
    direction = np.array([y1 - y0, x1 - x0]) / np.hypot(y1 - y0, x1 - x0)
    for place in np.ndindex(section.shape):
        to_place = np.array(place) - (y0, x0)
        away = to_place - direction * (to_place @ direction)
        distance = np.linalg.norm(away)
        fold[place] = distance <= half_width
        step = distance if fold[place] else max(0.0, (reach - half_width) - decay * (distance - half_width))
        source = np.array(place) + (away / distance * step if distance > 0 else 0)
        folded[place] = ndimage.map_coordinates(padded, (source + pad)[:, None], order=order)[0]
    return folded, fold


@pytest.mark.parametrize(
    ("line", "half_width", "reach", "decay"),
    [
        (((-40.0, 3.5), (70.0, 21.25)), 5, 20, 0.05),
        (((12.0, -40.0), (12.0, 63.0)), 3, 38, 0.07),
        (((-40.0, 50.0), (9.3, -40.0)), 9, 12, 0.3),
    ],
)
def test_fold_is_the_references(line, half_width, reach, decay):
    draws = np.random.default_rng(0)
    section, ids = draws.random((30, 24)), draws.integers(0, 2**20, (30, 24))
    wanted, wanted_fold = reference_fold(section, line, half_width, reach, decay, order=1)
    folds = Folds((SectionFold(0, line, half_width, reach, decay),))
    volume = torch.from_numpy(section[None]).float()
    assert_array_equal(folds.hidden(volume)[0], wanted_fold)
    assert_allclose(folds.apply(volume)[0], wanted, atol=1e-5)
    labels = folds.apply(torch.from_numpy(ids[None]))[0]
    wanted_labels, _ = reference_fold(ids, line, half_width, reach, decay, order=0)
    assert (labels.numpy() == wanted_labels).mean() > 0.99  # but for near ties of rounding


def folded_raw(section, monkeypatch, *drawn):
    """What the family makes of a section where a fold is drawn, and where nothing is known of the labels."""
    monkeypatch.setattr(Fold, "draw", lambda *_: Folds((SectionFold(1, *drawn),)))
    raw = torch.stack([section, section])
    patch = Fold().perturb(Patch(raw, valid=torch.ones_like(raw, dtype=torch.bool)), torch.Generator())
    assert torch.equal(patch.raw[0], section)
    assert patch.valid[0].all()
    return patch.raw[1], ~patch.valid[1]


def test_fold_is_opencvs_remap_of_the_padded_section(monkeypatch):
    section = ndimage.gaussian_filter(np.random.default_rng(0).random((160, 160), dtype=np.float32), 1.5)
    line, drawn = ((-40.0, 30.5), (120.25, 199.0)), (7, 33, 0.03)
    displacement, fold = fold_field((160, 160), line, *drawn)
    down, across = (np.indices((160, 160)) + displacement.numpy() + 40).astype(np.float32)
    padded = cv2.copyMakeBorder(section, 40, 40, 40, 40, cv2.BORDER_REFLECT_101)
    wanted = np.where(fold, 0, cv2.remap(padded, across, down, cv2.INTER_LINEAR))
    folded, hidden = folded_raw(torch.from_numpy(section), monkeypatch, line, *drawn)
    assert_allclose(folded, wanted, atol=1e-5)
    assert torch.equal(hidden, fold)


def test_fold_swallows_tissue_on_both_sides_of_a_dark_line(monkeypatch):
    columns = torch.arange(100.0).expand(3, 100)
    folded, fold = folded_raw(columns, monkeypatch, ((0.0, 50.0), (2.0, 50.0)), 2, 12, 0.0)
    assert torch.equal(fold[0].nonzero().flatten(), torch.arange(48, 53))
    assert (folded[fold] == 0).all()
    assert torch.equal(folded[1, 53:89], columns[1, 63:99])
    assert torch.equal(folded[1, 10:48], columns[1, :38])


def test_misalignment_never_moves_the_first_section_and_is_as_frequent_as_the_paper_says():
    generator = torch.Generator().manual_seed(0)
    shifts = torch.stack([Misalign().draw((18, 8, 8), generator).shifts for _ in range(4000)])
    assert not shifts[:, 0].any()
    assert (int(shifts.min()), int(shifts.max())) == (-17, 17)
    moved = shifts.any(dim=2).sum(dim=1).float()
    slipped, shifted = 17 * 0.2, 17 - 4 * (1 - 0.8**17)
    assert float(moved.mean()) == pytest.approx((slipped + shifted) / 2 * (1 - 35**-2), abs=0.25)
    assert float((moved == 0).float().mean()) == pytest.approx(0.8**17, abs=0.01)
    # measured with the paper's code
    assert float(moved.mean()) == pytest.approx(8.4, abs=0.4)
    assert float((moved == 0).float().mean()) == pytest.approx(0.021, abs=0.006)


def test_shift_moves_all_sections_from_one_on_and_slip_moves_them_singly():
    generator = torch.Generator().manual_seed(3)
    shifts = Misalign(slip=0.0).draw((18, 8, 8), generator).shifts
    first = int(shifts.any(dim=1).nonzero()[0])
    assert (shifts[first:] == shifts[first]).all()
    slips = Misalign(slip=1.0, section_probability=1.0).draw((18, 8, 8), generator).shifts
    assert len(slips.unique(dim=0)) > 10


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), shape=st.tuples(st.integers(1, 6), st.integers(2, 20), st.integers(2, 20)))
def test_misaligned_raw_and_labels_stay_together(seed, shape):
    labels = torch.arange(shape[0] * shape[1] * shape[2], dtype=torch.int32).reshape(shape)
    patch = Patch(labels / labels.numel(), labels, labels % 3 > 0)
    moved = Misalign(section_probability=1.0).apply(patch, torch.Generator().manual_seed(seed))
    assert moved.labels.dtype == torch.int32
    assert torch.equal(moved.raw, moved.labels / labels.numel())
    assert torch.equal(moved.valid, moved.labels % 3 > 0)


def test_shifts_of_nothing_return_the_volume_itself():
    volume = torch.rand(2, 3, 3)
    assert SectionShifts(torch.zeros(2, 2, dtype=torch.int64)).apply(volume) is volume


def test_folded_patch_is_dark_and_unknown_in_the_folds_alone():
    labels = torch.arange(18 * 60 * 60).reshape(18, 60, 60)
    patch = Patch(labels / labels.numel() * 0.5 + 0.5, labels)
    moved = Fold().apply(patch, torch.Generator().manual_seed(0))
    dark = moved.raw == 0
    assert dark.any()
    assert torch.equal(moved.valid, ~dark)
    folded = (moved.labels != labels).flatten(1).any(dim=1)
    assert 1 <= int(folded.sum()) <= 5
    assert torch.equal(moved.raw[~folded], patch.raw[~folded])


def test_folds_keep_what_was_unknown_and_hide_tissue_of_unlabelled_patches_too():
    patch = Patch(
        torch.ones(4, 60, 60), torch.ones(4, 60, 60, dtype=torch.int64), torch.zeros(4, 60, 60, dtype=torch.bool)
    )
    assert not Fold().apply(patch, torch.Generator().manual_seed(0)).valid.any()
    folded = Fold().apply(Patch(patch.raw), torch.Generator().manual_seed(0))
    assert torch.equal(folded.valid, folded.raw > 0)


def test_folds_are_drawn_as_the_paper_draws_them():
    generator = torch.Generator().manual_seed(0)
    moves = [Fold().draw((18, 160, 160), generator) for _ in range(200)]
    assert {len(move.folds) for move in moves} == {1, 2, 3, 4, 5}
    folds = [fold for move in moves for fold in move.folds]
    assert all(len({fold.section for fold in move.folds}) == len(move.folds) for move in moves)
    assert all(5 <= fold.half_width <= 10 and fold.half_width < fold.reach <= 40 for fold in folds)
    borders = (-40, 199)
    assert all(y in borders or x in borders for fold in folds for y, x in fold.line)
    visible = [bool(fold.field((160, 160), torch.device("cpu"))[1].any()) for fold in folds]
    assert sum(visible) / len(visible) == pytest.approx(0.75, abs=0.06)


def test_fold_that_swallows_nothing_is_refused():
    with pytest.raises(ValidationError, match="reach: wanted more than half_width, whose largest is 10, got 10"):
        Fold(reach=10)
