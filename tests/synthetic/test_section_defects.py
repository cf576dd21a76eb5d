import numpy as np
import pytest

from ssns.synthetic.sections import Fold, largest_shift, plan_sections
from ssns.synthetic.settings import Defects


def test_draws_depend_on_seed_and_index_alone():
    defects = Defects(missing_probability=0.3, repeated_probability=0.3, jump_probability=0.3, fold_probability=0.5)
    many = plan_sections(defects, 1, (40, 100, 100))
    assert plan_sections(defects, 1, (15, 100, 100)) == many[:15]
    assert plan_sections(defects, 2, (15, 100, 100)) != many[:15]


def test_repeated_sections_are_their_predecessors():
    sections = plan_sections(Defects(repeated_probability=0.5), 0, (50, 10, 10))
    repeated = [index for index, section in enumerate(sections) if section.plane != index]
    assert 10 < len(repeated) < 40
    assert all(sections[index] is sections[index - 1] for index in repeated)
    assert sections[0].plane == 0


def test_chances_of_zero_leave_sections_as_they_are():
    none = Defects(
        jump_probability=0, missing_probability=0, repeated_probability=0, contrast_probability=0,
        fold_probability=0, blur_probability=0, jitter_voxels=0, contrast_spread=0,
    )  # fmt: skip
    for index, section in enumerate(plan_sections(none, 3, (20, 10, 10))):
        assert section.plane == index
        assert section.shift == (0.0, 0.0)
        assert (section.contrast, section.brightness, section.blur) == (1.0, 0.0, 0.0)
        assert not section.blank
        assert section.fold is None


def test_frequencies_are_as_set():
    sections = plan_sections(Defects(missing_probability=0.2, blur_probability=0.4), 0, (1000, 10, 10))
    assert np.mean([section.blank for section in sections]) == pytest.approx(0.2, abs=0.05)
    assert np.mean([section.blur > 0 for section in sections]) == pytest.approx(0.4, abs=0.06)


def test_jumps_last_and_stay_within_their_bound():
    defects = Defects(jump_probability=0.1, jitter_voxels=0, jump_voxels=9, repeated_probability=0)
    shifts = np.array([section.shift for section in plan_sections(defects, 0, (200, 10, 10))])
    jumps = (np.diff(shifts, axis=0) != 0).any(1).sum()
    assert 8 < jumps < 40
    assert np.abs(shifts).max() <= 9 < largest_shift(defects)


def test_a_fold_hides_tissue_between_its_sides_and_darkens_its_band():
    fold = Fold(point=(50.0, 50.0), normal=(1.0, 0.0), hidden=20.0, band=8.0, darkness=0.6)
    y, x = np.arange(101.0)[:, None], np.array([[50.0]])
    moved_y, moved_x = fold.displacement(y, x)
    shown = (y + moved_y).ravel()
    assert shown[0] == -10.0
    assert shown[-1] == 110.0
    assert (np.diff(shown) > 0).all()
    assert not moved_x.any()
    shade = fold.shade(y, x).ravel()
    assert shade[50] == pytest.approx(0.4)
    assert (shade[np.abs(np.arange(101) - 50) > 8] == 1).all()
