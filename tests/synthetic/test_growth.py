import numpy as np
import pytest
from scipy.spatial import cKDTree

from ssns.synthetic.growth import Growth, Skeletons
from ssns.synthetic.organelles import Capsules, Placement, Synapses, runs, skeleton_capsules
from ssns.synthetic.settings import Neurites, Organelles

BOUNDS = np.array([[0.0, 0.0, 0.0], [2000.0, 1800.0, 2200.0]])


@pytest.fixture(scope="module", params=[0, 1, 2])
def skeletons(request) -> Skeletons:
    return Growth(Neurites(), BOUNDS, np.random.default_rng(request.param)).run()


@pytest.fixture(scope="module")
def placed(skeletons) -> tuple[Capsules, Synapses]:
    return Placement(Organelles(), skeletons, np.random.default_rng(0)).run()


def test_spheres_of_two_neurites_never_overlap(skeletons):
    reach = 2 * skeletons.radius.max()
    pairs = cKDTree(skeletons.position).query_pairs(reach, output_type="ndarray")
    first, second = pairs[skeletons.neurite[pairs[:, 0]] != skeletons.neurite[pairs[:, 1]]].T
    distance = np.linalg.norm(skeletons.position[first] - skeletons.position[second], axis=1)
    assert len(distance) > 1000
    assert (distance > skeletons.radius[first] + skeletons.radius[second]).all()


def test_every_neurite_is_one_tree(skeletons):
    roots = np.flatnonzero(skeletons.parent < 0)
    assert np.array_equal(skeletons.neurite[roots], np.arange(1, len(skeletons.dendrite)))
    joined = np.flatnonzero(skeletons.parent >= 0)
    assert (skeletons.parent[joined] < joined).all()
    assert np.array_equal(skeletons.neurite[skeletons.parent[joined]], skeletons.neurite[joined])


def test_everything_stays_within_the_bounds(skeletons):
    assert (skeletons.position >= BOUNDS[0]).all()
    assert (skeletons.position <= BOUNDS[1]).all()


def test_there_are_thick_dendrites_and_thin_axons_that_branch(skeletons):
    dendritic = skeletons.dendrite[skeletons.neurite]
    assert 2 <= skeletons.dendrite.sum() < 0.2 * len(skeletons.dendrite)
    assert np.median(skeletons.radius[~dendritic]) < 110 < np.percentile(skeletons.radius[dendritic], 80)
    children = np.bincount(skeletons.parent[skeletons.parent >= 0])
    roots = np.flatnonzero(skeletons.parent < 0)
    children[roots[roots < len(children)]] -= 1
    assert (children > 1).any()


def test_neurites_run_in_all_directions(skeletons):
    joined = np.flatnonzero((skeletons.parent >= 0) & ~skeletons.dendrite[skeletons.neurite])
    steps = skeletons.position[joined] - skeletons.position[skeletons.parent[joined]]
    share = (steps**2).sum(0) / (steps**2).sum()
    assert (share > 0.15).all()


def test_no_wide_gap_stays(skeletons):
    rng = np.random.default_rng(0)
    points = BOUNDS[0] + 400 + (BOUNDS[1] - BOUNDS[0] - 800) * rng.random((500, 3))
    nearest = [(np.linalg.norm(skeletons.position - point, axis=1) - skeletons.radius).min() for point in points]
    assert max(nearest) < 150


def test_runs_are_the_skeleton(skeletons):
    pieces = skeleton_capsules(skeletons)
    assert len(pieces.owner) == len(skeletons.parent) - (len(skeletons.dendrite) - 1)
    found = sum(len(run.position) for run in runs(skeletons))
    assert 0.9 * len(skeletons.parent) < found <= len(skeletons.parent)


def test_organelles_lie_inside_their_neurite(skeletons, placed):
    pieces, _ = placed
    assert set(pieces.kind) == {0, 1, 2, 3}
    for index in np.random.default_rng(0).permutation(len(pieces.owner))[:800]:
        own = skeletons.neurite == pieces.owner[index]
        depth = skeletons.radius[own] - np.linalg.norm(skeletons.position[own] - pieces.ends[index, 0], axis=1)
        assert depth.max() > pieces.radii[index, 0] - 15.0


def test_synapses_join_two_neurites(skeletons, placed):
    _, synapses = placed
    assert len(synapses.radius) > 3
    assert (synapses.before != synapses.after).all()
    for position, before, after in zip(synapses.position, synapses.before, synapses.after, strict=True):
        for neurite in (before, after):
            own = skeletons.neurite == neurite
            gap = np.linalg.norm(skeletons.position[own] - position, axis=1) - skeletons.radius[own]
            assert -60.0 < gap.min() < 31.0


def test_tissue_without_axon_boutons_has_no_synapse():
    skeletons = Growth(Neurites(dendrite_share=1.0, bouton_spacing_nm=1e12), BOUNDS / 2, np.random.default_rng(0)).run()
    only = skeletons._replace(dendrite=np.ones_like(skeletons.dendrite))
    pieces, synapses = Placement(Organelles(), only, np.random.default_rng(0)).run()
    assert len(synapses.radius) == 0
    assert 3 not in pieces.kind
