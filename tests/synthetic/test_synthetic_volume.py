import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from ssns.errors import UserError
from ssns.space import Box, cover
from ssns.synthetic import Defects, Imaging, Neurites, Organelles, SyntheticSettings, synthesize
from ssns.synthetic.sections import Section
from ssns.synthetic.volume import SyntheticVolume

NO_DEFECTS = Defects(
    jitter_voxels=0,
    jump_probability=0,
    missing_probability=0,
    repeated_probability=0,
    contrast_probability=0,
    fold_probability=0,
    blur_probability=0,
    contrast_spread=0,
)
MANY_DEFECTS = Defects(
    jump_probability=0.3,
    missing_probability=0.2,
    repeated_probability=0.3,
    contrast_probability=0.4,
    fold_probability=0.5,
    blur_probability=0.5,
)


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, np.ndarray]:
    return synthesize(SyntheticSettings(shape=(34, 224, 224), defects=NO_DEFECTS, seed=1))


@pytest.fixture(scope="module")
def damaged() -> tuple[SyntheticVolume, np.ndarray, np.ndarray]:
    volume = SyntheticSettings(shape=(9, 75, 90), defects=MANY_DEFECTS, seed=4).build()
    raw, labels = volume.read(Box.of_shape((9, 75, 90)))
    return volume, raw, labels


@settings(max_examples=12)
@given(block=st.tuples(st.integers(2, 9), st.integers(20, 75), st.integers(20, 90)))
def test_any_partition_into_blocks_equals_the_whole(damaged, block):
    volume, raw, labels = damaged
    for box in cover(Box.of_shape(raw.shape), block):
        block_raw, block_labels = volume.read(box)
        assert np.array_equal(block_raw, raw[box.slices])
        assert np.array_equal(block_labels, labels[box.slices])


def test_the_damaged_volume_has_every_defect(damaged):
    sections = damaged[0]._sections
    assert any(section.fold for section in sections)
    assert any(section.blur for section in sections)
    assert any(section.blank for section in sections)
    assert len({section.plane for section in sections}) < len(sections)
    assert len({np.round(section.shift, -1).tobytes() for section in sections}) > 1


def test_synthesize_does_not_depend_on_the_block():
    wanted = SyntheticSettings(shape=(3, 40, 50), voxel_size_nm=(8.0, 8.0, 8.0), seed=7)
    raw, labels = synthesize(wanted)
    parts_raw, parts_labels = synthesize(wanted, block=(2, 17, 50))
    assert np.array_equal(raw, parts_raw)
    assert np.array_equal(labels, parts_labels)
    assert (raw.dtype, labels.dtype) == (np.uint8, np.uint32)


def test_the_seed_decides():
    first, again, other = (synthesize(SyntheticSettings(shape=(2, 32, 32), seed=seed)) for seed in (5, 5, 6))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_a_neurite_is_one_piece_but_for_the_faces(clean):
    """Of each id, a 26-connected component that touches no face of the volume is the only one."""
    _, labels = clean
    for index, place in enumerate(ndimage.find_objects(labels.astype(np.int64)), start=1):
        if place is None:
            continue
        components, count = ndimage.label(labels[place] == index, np.ones((3, 3, 3)))
        for part, inner in enumerate(ndimage.find_objects(components), start=1):
            start = [outer.start + within.start for outer, within in zip(place, inner, strict=True)]
            stop = [outer.start + within.stop for outer, within in zip(place, inner, strict=True)]
            cut = 0 in start or any(a == b for a, b in zip(stop, labels.shape, strict=True))
            speck = (components == part).sum() < 20
            assert count == 1 or cut or speck


def test_labels_cover_the_neuropil(clean):
    _, labels = clean
    assert 0.08 < (labels == 0).mean() < 0.25
    in_section = [len(np.unique(section)) - 1 for section in labels]
    assert 10 < np.mean(in_section) < 45


def test_boundaries_are_dark_and_the_rest_is_light(clean):
    raw, labels = clean
    assert raw[labels == 0].mean() < raw[labels > 0].mean() - 25


def test_boundaries_that_are_cut_obliquely_are_lighter(clean):
    """A membrane that moves far from one section to the next is smeared over more of the section."""
    raw, labels = clean
    background = labels[1:-1] == 0
    upright = background & (labels[:-2] == 0) & (labels[2:] == 0)
    darkest = ndimage.minimum_filter(raw, (1, 5, 5))[1:-1]
    assert darkest[upright].mean() < darkest[background & ~upright].mean()


def _with_section(volume: SyntheticVolume, index: int, **changes: object) -> SyntheticVolume:
    sections: list[Section] = list(volume._sections)
    sections[index] = replace(sections[index], **changes)
    volume._sections = sections
    return volume


@pytest.fixture
def small() -> SyntheticVolume:
    return SyntheticSettings(shape=(3, 64, 64), defects=NO_DEFECTS, seed=2).build()


def test_a_displaced_section_takes_its_labels_along(small):
    whole = Box.of_shape((3, 64, 64))
    labels = small.read(whole)[1]
    moved = _with_section(small, 1, shift=(8.0, -16.0)).read(whole)[1]
    assert np.array_equal(moved[1, :-8, 16:], labels[1, 8:, :-16])
    assert np.array_equal(moved[[0, 2]], labels[[0, 2]])


def test_a_lost_section_is_black_and_keeps_its_labels(small):
    whole = Box.of_shape((3, 64, 64))
    labels = small.read(whole)[1]
    raw, kept = _with_section(small, 1, blank=True).read(whole)
    assert not raw[1].any()
    assert np.array_equal(kept, labels)


def test_a_repeated_section_shows_its_predecessor(small):
    whole = Box.of_shape((3, 64, 64))
    small._sections[2] = small._sections[1]
    raw, labels = small.read(whole)
    assert np.array_equal(raw[2], raw[1])
    assert np.array_equal(labels[2], labels[1])


def test_a_section_out_of_focus_has_no_fine_detail(small):
    whole = Box.of_shape((3, 64, 64))
    sharp = np.abs(np.diff(small.read(whole)[0][1].astype(int))).mean()
    blurred = np.abs(np.diff(_with_section(small, 1, blur=2.0).read(whole)[0][1].astype(int))).mean()
    assert blurred < 0.7 * sharp


@pytest.mark.parametrize("box", [Box((0, 0, 0), (4, 64, 64)), Box((-1, 0, 0), (2, 9, 9)), Box((1, 1, 1), (1, 2, 2))])
def test_boxes_outside_are_refused(small, box):
    with pytest.raises(UserError, match=r"box: wanted voxels within z 0\.\.3"):
        small.read(box)


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        SyntheticSettings(shape=(0, 5, 5))
    with pytest.raises(ValidationError):
        Defects(fold_probability=1.5)
    with pytest.raises(ValidationError):
        SyntheticSettings(mebrane=3)


@pytest.mark.parametrize("model", [SyntheticSettings, Neurites, Organelles, Imaging, Defects])
def test_every_setting_is_described(model):
    assert all(field.description for field in model.model_fields.values())


def test_importing_is_light():
    code = "import sys, ssns.synthetic; sys.exit(any(name in sys.modules for name in ('torch', 'numba', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _spectrum(image: np.ndarray) -> np.ndarray:
    """Logarithm (base 10) of the power in 25 rings of spatial frequency up to Nyquist's."""
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :])
    ring = (frequency * 50).astype(int)
    return np.log10([power[ring == index].mean() for index in range(25)])


@pytest.mark.real_data
def test_it_resembles_real_sections(development_data):
    tifffile = pytest.importorskip("tifffile")
    real = tifffile.imread(development_data / "AC4_inputs.tif", key=10)[200:712, 200:712].astype(float)
    ids = tifffile.imread(development_data / "AC4_labels.tif", key=10)[200:712, 200:712]
    volume = SyntheticSettings(shape=(2, 512, 512), defects=NO_DEFECTS, seed=3).build()
    raw, labels = volume.read(Box((1, 0, 0), (2, 512, 512)))
    made = raw[0].astype(float)
    assert made.std() == pytest.approx(real.std(), rel=0.25)
    assert np.abs(_spectrum(made) - _spectrum(real)).max() < 0.5
    assert len(np.unique(labels)) == pytest.approx(len(np.unique(ids)), rel=0.4)
    assert (labels == 0).mean() == pytest.approx((ids == 0).mean(), abs=0.07)
