from types import ModuleType

import bioimage_cpp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label, maximum_filter
from skimage.feature import peak_local_max
from toy_affinities import blurred_noise, boxes, perfect, same_partition

from ssns.affinities import NEAREST
from ssns.segmentation import (
    DistanceTransformWatershed,
    GridSeeds,
    LsdWatershed,
    MaximaSeeds,
    MinimaSeeds,
    SeededWatershed,
)
from ssns.segmentation.inputs import AffinityVolume

AFFINITIES = blurred_noise((3, 40, 50))
KINDS = [
    SeededWatershed(),
    SeededWatershed(seeds=MinimaSeeds()),
    SeededWatershed(seeds=GridSeeds()),
    LsdWatershed(dimensions=2),
    DistanceTransformWatershed(),
]
WHOLE = [kind.model_copy(update={"dimensions": 3}) for kind in KINDS]


@pytest.fixture
def mahotas() -> ModuleType:
    return pytest.importorskip("mahotas")


def volume(affinities=AFFINITIES, mask=None) -> AffinityVolume:
    return AffinityVolume.checked(affinities, NEAREST, mask)


def seeds_of_paper(mahotas: ModuleType, kind: str, boundary: np.ndarray) -> np.ndarray:
    if kind == "grid":
        seeds = np.zeros(boundary.shape, dtype=np.int32)
        nodes = np.ix_(*(range(0, size, 10) for size in boundary.shape))
        seeds[nodes] = np.arange(1, seeds[nodes].size + 1).reshape(seeds[nodes].shape)
        return seeds
    if kind == "minima":
        return mahotas.label(mahotas.regmin(boundary))[0]
    return mahotas.label(mahotas.regmax(mahotas.distance(boundary < 0.5)))[0]


@pytest.mark.parametrize("levels", [None, 255, 9])
@pytest.mark.parametrize("seeds", [MaximaSeeds(), MinimaSeeds(), GridSeeds()], ids=lambda seeds: seeds.type)
def test_seeded_watershed_is_the_papers(mahotas, seeds, levels):
    affinities = AFFINITIES if levels is None else (AFFINITIES * levels).round() / np.float32(levels)
    boundary = 1 - 0.5 * (affinities[1] + affinities[2])
    wanted, count = np.zeros(boundary.shape, dtype=np.uint32), 0
    for z in range(len(boundary)):
        wanted[z] = mahotas.cwatershed(boundary[z], seeds_of_paper(mahotas, seeds.type, boundary[z])) + count
        count = wanted[z].max()
    assert count > 20
    assert np.array_equal(SeededWatershed(seeds=seeds).flood(volume(affinities)), wanted)

    boundary = 1 - (affinities[0] + affinities[1] + affinities[2]) / np.float32(3)
    wanted = mahotas.cwatershed(boundary, seeds_of_paper(mahotas, seeds.type, boundary))
    assert np.array_equal(SeededWatershed(seeds=seeds, dimensions=3).flood(volume(affinities)), wanted)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_lsd_watershed_is_that_of_lsds(mahotas, dimensions):
    mean = AFFINITIES[3 - dimensions :].mean(axis=0)
    wanted, count = np.zeros(mean.shape, dtype=np.uint32), 0
    for part, here in zip(mean, wanted, strict=True) if dimensions == 2 else [(mean, wanted)]:
        distance = distance_transform_edt(part > 0.5)
        seeds, _ = mahotas.label(maximum_filter(distance, 10) == distance)
        here[...] = mahotas.cwatershed(distance.max() - distance, seeds) + count
        count = here.max()
    assert count > 3
    assert np.array_equal(LsdWatershed(dimensions=dimensions).flood(volume()), wanted)


def test_lsd_watershed_drops_fragments_of_low_affinity():
    every, some = (LsdWatershed(dimensions=2, minimum_affinity=least).flood(volume()) for least in (0, 0.8))
    mean = 0.5 * (AFFINITIES[1] + AFFINITIES[2])
    low = [name for name in range(1, every.max() + 1) if mean[every == name].mean() < 0.8]
    assert 0 < len(low) < every.max()
    assert np.array_equal(some == 0, np.isin(every, low))
    assert same_partition(some, np.where(some > 0, every, 0))


@pytest.mark.parametrize("minimum_size", [0, 100])
def test_distance_transform_watershed_is_made_of_the_steps_of_python_elf(minimum_size):
    method = DistanceTransformWatershed(minimum_size=minimum_size)
    count = 0
    for boundary, got in zip(1 - AFFINITIES[1:].min(axis=0), method.flood(volume()), strict=True):
        distance = bioimage_cpp.distance.distance_transform(boundary <= 0.25)
        distance = bioimage_cpp.filters.gaussian_smoothing(distance, 2.0)
        maxima = np.zeros(distance.shape, bool)
        maxima[tuple(peak_local_max(distance, min_distance=1, exclude_border=False).T)] = True
        seeds, _ = label(maxima, np.ones((3, 3)))
        smooth = bioimage_cpp.filters.gaussian_smoothing(boundary, 2.0)
        height = 0.9 * smooth + (1 - 0.9) * (1 - (distance - distance.min()) / distance.max())
        wanted = bioimage_cpp.segmentation.watershed(height, seeds.astype(np.uint32))
        small = np.bincount(wanted.ravel()) < minimum_size
        wanted = bioimage_cpp.segmentation.watershed(height, np.where(small[wanted], 0, wanted).astype(np.uint32))
        assert same_partition(got, wanted)
        assert got.min() == count + 1
        count = got.max()


@pytest.mark.parametrize("kind", KINDS + WHOLE, ids=str)
def test_fragments_are_connected_dense_and_cover_the_mask(kind):
    mask = np.ones(AFFINITIES.shape[1:], dtype=bool)
    mask[:, 10:13] = False
    mask[1] = False
    fragments = kind.flood(volume(mask=mask))
    assert np.array_equal(fragments > 0, mask)
    assert np.array_equal(np.unique(fragments), np.arange(fragments.max() + 1))
    for name in range(1, int(fragments.max()) + 1):
        assert label(fragments == name)[1] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_sections_are_independent(kind):
    fragments = kind.flood(volume())
    count = 0
    for z in range(3):
        alone = kind.flood(volume(AFFINITIES[:, z : z + 1]))
        assert np.array_equal(fragments[z : z + 1], alone + count)
        count += alone.max()
        assert np.array_equal(kind.model_copy(update={"dimensions": 2}).flood(volume(AFFINITIES[:, z : z + 1])), alone)


@pytest.mark.parametrize("kind", KINDS + WHOLE, ids=str)
def test_threads_and_the_type_of_affinities_do_not_matter(kind):
    coarse = (AFFINITIES * 255).round().astype(np.uint8)
    floats = (coarse / np.float32(255)).astype(np.float32)
    fragments = kind.flood(volume(coarse), threads=1)
    assert np.array_equal(fragments, kind.flood(volume(coarse), threads=3))
    assert np.array_equal(fragments, kind.flood(volume(floats)))


@pytest.mark.parametrize(
    "kind",
    [each for each in KINDS + WHOLE if not isinstance(each, SeededWatershed) or each.seeds.type != "grid"],
    ids=str,
)
@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 1, 1), (3, 1, 9), (3, 9, 1)])
@pytest.mark.parametrize("affinity", [0, 1])
def test_what_has_no_contrast_is_one_fragment(kind, affinity, shape):
    fragments = kind.flood(volume(np.full((3, *shape), affinity, dtype=np.float32)))
    parts = np.arange(1, shape[0] + 1) if kind.dimensions == 2 else np.ones(shape[0])
    assert np.array_equal(fragments, np.broadcast_to(parts[:, None, None], shape))


@pytest.mark.parametrize("kind", KINDS + WHOLE, ids=str)
@pytest.mark.parametrize("shape", [(3, 1, 40), (3, 40, 1), (1, 40, 1), (40, 1, 1)])
def test_lines_are_cut_into_fragments_without_gaps(kind, shape):
    affinities = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    fragments = kind.flood(volume(affinities))
    assert np.array_equal(np.unique(fragments), np.arange(1, fragments.max() + 1))


@pytest.mark.parametrize("kind", KINDS + WHOLE, ids=str)
def test_a_mask_of_nothing_leaves_nothing(kind):
    assert not kind.flood(volume(mask=np.zeros(AFFINITIES.shape[1:], dtype=bool))).any()


def test_mask_fragments_leaves_out_what_is_boundary():
    fragments = SeededWatershed(mask_fragments=0.3).flood(volume())
    inside = 0.5 * (AFFINITIES[1] + AFFINITIES[2])
    assert np.array_equal(fragments == 0, inside < 0.3)
    assert (fragments == 0).any()


def test_distance_transform_watershed_finds_each_box():
    labels = boxes(([1, 1], [16, 20], [18, 17]))
    fragments = DistanceTransformWatershed().flood(volume(perfect(labels)))
    assert same_partition(fragments[labels > 0], labels[labels > 0])


def test_small_fragments_of_distance_transform_watershed_are_given_away():
    sizes = {
        minimum: np.bincount(DistanceTransformWatershed(minimum_size=minimum).flood(volume()).ravel())[1:]
        for minimum in (0, 100)
    }
    assert sizes[0].min() < 100 <= sizes[100].min()
    assert sizes[0].sum() == sizes[100].sum() == AFFINITIES[0].size
    assert same_partition(DistanceTransformWatershed(minimum_size=10**6).flood(volume()), np.indices((3, 40, 50))[0])
