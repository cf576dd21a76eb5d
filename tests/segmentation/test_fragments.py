import mahotas
import numpy as np
import pytest
from scipy.ndimage import label
from toy_affinities import blurred_noise, boxes, perfect, same_partition

from ssns.affinities import NEAREST
from ssns.segmentation import (
    DistanceTransformWatershed,
    GridSeeds,
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
    DistanceTransformWatershed(),
]


def volume(affinities=AFFINITIES, mask=None) -> AffinityVolume:
    return AffinityVolume.checked(affinities, NEAREST, mask)


def seeds_of_paper(kind: str, boundary: np.ndarray, next_id: int) -> tuple[np.ndarray, int]:
    if kind == "grid":
        seeds = np.zeros(boundary.shape, dtype=np.int32)
        rows, columns = np.ogrid[0 : boundary.shape[0] : 10, 0 : boundary.shape[1] : 10]
        count = rows.size * columns.size
        seeds[rows, columns] = np.arange(next_id, next_id + count).reshape(rows.size, columns.size)
        return seeds, count
    if kind == "minima":
        seeds, count = mahotas.label(mahotas.regmin(boundary))
    else:
        seeds, count = mahotas.label(mahotas.regmax(mahotas.distance(boundary < 0.5)))
    seeds += next_id
    seeds[seeds == next_id] = 0
    return seeds, count


@pytest.mark.parametrize("seeds", [MaximaSeeds(), MinimaSeeds(), GridSeeds()], ids=lambda seeds: seeds.type)
def test_seeded_watershed_is_the_papers(seeds):
    boundary = 1.0 - 0.5 * (AFFINITIES[1] + AFFINITIES[2])
    wanted, next_id = np.zeros(boundary.shape, dtype=np.uint64), 1
    for z in range(len(boundary)):
        markers, count = seeds_of_paper(seeds.type, boundary[z], next_id)
        wanted[z] = mahotas.cwatershed(boundary[z], markers)
        next_id += count
    fragments = SeededWatershed(seeds=seeds).flood(volume())
    assert fragments.max() > 20
    assert same_partition(fragments, wanted)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fragments_are_connected_dense_in_one_section_and_cover_the_mask(kind):
    mask = np.ones(AFFINITIES.shape[1:], dtype=bool)
    mask[:, 10:13] = False
    mask[1] = False
    fragments = kind.flood(volume(mask=mask))
    assert np.array_equal(fragments > 0, mask)
    assert np.array_equal(np.unique(fragments), np.arange(fragments.max() + 1))
    for name in range(1, int(fragments.max()) + 1):
        assert label(fragments == name)[1] == 1


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_threads_and_the_type_of_affinities_do_not_matter(kind):
    coarse = (AFFINITIES * 255).round().astype(np.uint8)
    floats = (coarse / np.float32(255)).astype(np.float32)
    fragments = kind.flood(volume(coarse), threads=1)
    assert np.array_equal(fragments, kind.flood(volume(coarse), threads=3))
    assert np.array_equal(fragments, kind.flood(volume(floats)))


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[3]], ids=str)
@pytest.mark.parametrize("affinity", [0, 1])
def test_a_section_without_contrast_is_one_fragment(kind, affinity):
    fragments = kind.flood(volume(np.full((3, 2, 5, 6), affinity, dtype=np.float32)))
    assert fragments.tolist() == [[[z] * 6] * 5 for z in (1, 2)]


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
