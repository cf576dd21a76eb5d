import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from ssns.errors import UserError
from ssns.perturb import CutOut, MissingSection, Patch, occlusion
from ssns.perturb.occlusion import blank_sections, cut_boxes


def ones(*shape):
    return Patch(torch.ones(shape), torch.arange(shape[0] * shape[1] * shape[2]).reshape(shape))


@pytest.mark.parametrize("sections", [[1, 3], torch.tensor([1, 3]), torch.tensor([False, True, False, True])])
def test_blank_sections_by_index_or_mask(sections):
    raw = torch.rand(4, 2, 3)
    blanked = blank_sections(raw, sections, 0.25)
    assert (blanked[[1, 3]] == 0.25).all()
    assert torch.equal(blanked[[0, 2]], raw[[0, 2]])
    assert (raw != 0.25).all()


def test_blank_no_section():
    raw = torch.rand(4, 2, 3)
    assert torch.equal(blank_sections(raw, []), raw)


def test_cut_boxes_may_overlap():
    cut = cut_boxes(torch.ones(2, 4, 4), torch.tensor([[0, 0, 0], [1, 1, 1]]), (1, 2, 2), 0.5)
    wanted = torch.ones(2, 4, 4)
    wanted[0, :2, :2] = 0.5
    wanted[1, 1:3, 1:3] = 0.5
    assert torch.equal(cut, wanted)


def test_occluded_raw_is_that_of_numpy():
    draws = np.random.default_rng(0)
    raw = draws.random((6, 20, 25))
    starts, lost = draws.integers(0, 4, (9, 3)), draws.random(6) < 0.5
    wanted_boxes, wanted_sections = raw.copy(), np.where(lost[:, None, None], 0.25, raw)
    for z, y, x in starts:
        wanted_boxes[z : z + 2, y : y + 5, x : x + 5] = 0
    assert_array_equal(cut_boxes(torch.from_numpy(raw), torch.from_numpy(starts), (2, 5, 5)), wanted_boxes)
    assert_array_equal(blank_sections(torch.from_numpy(raw), torch.from_numpy(lost), 0.25), wanted_sections)


def test_cut_out_covers_what_the_paper_covers():
    generator = torch.Generator().manual_seed(0)
    shares = [float((CutOut().apply(ones(18, 160, 160), generator).raw == 0).float().mean()) for _ in range(200)]
    assert sum(shares) / 200 == pytest.approx(0.237, abs=0.02)
    assert min(shares) == pytest.approx(0.067, abs=0.02)
    assert max(shares) == pytest.approx(0.47, abs=0.04)


def test_boxes_keep_out_of_the_margin():
    cut_out = CutOut(boxes=(200, 200), boxes_per=(7, 14, 14), depth=(3, 3), width=(4, 4), margin=(2, 6, 6))
    blank = cut_out.apply(ones(11, 26, 26), torch.Generator().manual_seed(0)).raw == 0
    assert torch.equal(blank.any(2).any(1).nonzero().flatten(), torch.arange(2, 9))
    assert torch.equal(blank.any(0).any(0).nonzero().flatten(), torch.arange(6, 20))
    assert torch.equal(blank.any(0).any(1).nonzero().flatten(), torch.arange(6, 20))


def test_the_papers_numbers_of_boxes_for_its_valid_network(monkeypatch):
    counts = []

    def counted(raw, starts, size, value):
        counts.append((len(starts), size[0], size[1]))
        return raw

    monkeypatch.setattr(occlusion, "cut_boxes", counted)
    cut_out = CutOut(boxes=(40, 60), boxes_per=(25, 56, 56), depth=(5, 8), width=(5, 12), margin=(14, 106, 106))
    generator = torch.Generator().manual_seed(0)
    patch = Patch(torch.zeros(53, 268, 268))
    for _ in range(400):
        cut_out.apply(patch, generator)
    boxes, depths, widths = (set(each) for each in zip(*counts, strict=True))
    assert (boxes, depths, widths) == (set(range(40, 61)), set(range(5, 9)), set(range(5, 13)))


def test_a_margin_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match=r"wanted a margin below half of the patch, got \(0, 3, 0\) in \(4, 6, 9\)"):
        CutOut(margin=(0, 3, 0)).apply(ones(4, 6, 9), torch.Generator().manual_seed(0))


def test_cut_out_keeps_its_share_in_other_patches():
    generator = torch.Generator().manual_seed(0)
    settings = CutOut(boxes=(80, 80), depth=(2, 2), width=(4, 4))
    shares = [
        float((settings.apply(ones(*shape), generator).raw == 0).float().mean()) for shape in [(18, 160, 160)] * 8
    ]
    wide = [float((settings.apply(ones(18, 320, 320), generator).raw == 0).float().mean()) for _ in range(4)]
    assert sum(wide) / 4 == pytest.approx(sum(shares) / 8, rel=0.05)


def test_boxes_larger_than_the_patch_are_cut_to_it():
    assert (CutOut().apply(ones(3, 5, 4), torch.Generator().manual_seed(0)).raw == 0).all()


def test_whole_sections_go_missing_as_often_as_set():
    missing = MissingSection(partial=0.0, section_probability=0.2)
    raw = missing.apply(ones(5000, 1, 3), torch.Generator().manual_seed(0)).raw
    lost = raw.flatten(1) == 0
    assert torch.equal(lost.all(dim=1), lost.any(dim=1))
    assert float(lost.float().mean()) == pytest.approx(0.2, abs=0.02)


def test_missing_rectangles_have_sides_of_a_third_to_two_thirds():
    missing = MissingSection(partial=1.0, rectangle_probability=1.0, value=0.5)
    raw = missing.apply(ones(200, 20, 30), torch.Generator().manual_seed(0)).raw
    rows = (raw == 0.5).any(dim=2).sum(dim=1)
    columns = (raw == 0.5).any(dim=1).sum(dim=1)
    assert torch.equal((raw == 0.5).flatten(1).sum(dim=1), rows * columns)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 9, 21)


@pytest.mark.parametrize("perturbation", [CutOut(), MissingSection()])
def test_labels_stay_what_they_are(perturbation):
    patch = ones(6, 30, 30)
    moved = perturbation.apply(patch, torch.Generator().manual_seed(0))
    assert moved.labels is patch.labels
    assert moved.valid is None
