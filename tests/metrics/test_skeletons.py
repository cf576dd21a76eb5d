import numpy as np
import pytest
import tifffile

from ssns.errors import UserError
from ssns.metrics import components
from ssns.metrics.run_length import expected_run_length
from ssns.metrics.skeletons import Skeletons, ids_at, read_swc, skeleton_step, skeletonize
from ssns.space import Box
from ssns.volume import from_array

SWC = """# a Y: two branches from the node at x = 20
1 1 0 40 60 1 -1
2 0 20 40 60 1 1
3 0 40 40 60 1 2   # first
4 0 20 40 90 1 2

7 0 100 0 0 1 -1
"""


@pytest.fixture
def swc(tmp_path):
    (tmp_path / "a.swc").write_text(SWC)
    (tmp_path / "b.swc").write_text("1 0 1 2 3 1 -1\n2 0 1 2 7 1 1\n")
    return tmp_path


def test_a_file_is_a_neuron_and_positions_are_z_y_x(swc):
    skeletons = read_swc(swc / "a.swc")
    assert skeletons.nodes.tolist() == [[60, 40, 0], [60, 40, 20], [60, 40, 40], [90, 40, 20], [0, 0, 100]]
    assert skeletons.edges.tolist() == [[1, 0], [2, 1], [3, 1]]
    assert skeletons.neurons.tolist() == [0] * 5
    assert skeletons.lengths_nm.tolist() == [20, 20, 30]
    assert skeletons.inner.all()


def test_a_folder_holds_a_neuron_in_each_file(swc):
    skeletons = read_swc(swc)
    assert skeletons.neurons.tolist() == [0] * 5 + [1] * 2
    assert skeletons.edges.tolist() == [[1, 0], [2, 1], [3, 1], [6, 5]]
    assert expected_run_length(skeletons, skeletons.neurons + 1).nerl == pytest.approx(1)


def test_a_box_cuts_skeletons_into_trees():
    """A line along x from 0 to 90 nm and back beside it; the box holds voxels 2 to 6 of 10 nm."""
    nodes = [(0, 0, x) for x in range(0, 100, 10)] + [(0, 10, x) for x in range(90, -10, -10)]
    whole = Skeletons(
        np.array(nodes, float),
        np.array([(i, i + 1) for i in range(19)]),
        np.zeros(20, int),
        np.arange(20) % 2 == 0,
    )
    part = whole.within(Box((0, 0, 2), (1, 2, 7)), (30, 10, 10))
    assert part.voxels((30, 10, 10)).tolist() == [[0, 0, x] for x in range(5)] + [[0, 1, x] for x in range(4, -1, -1)]
    assert part.edges.tolist() == [[i, i + 1] for i in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert part.neurons.tolist() == [0] * 10
    assert part.trees.tolist() == [0] * 5 + [1] * 5
    assert part.inner.tolist() == [whole.inner[i] for i in (2, 3, 4, 5, 6, 13, 14, 15, 16, 17)]


def test_nothing_may_be_within():
    one = Skeletons(np.zeros((2, 3)), np.array([[0, 1]]), np.zeros(2, int), np.ones(2, bool))
    assert len(one.within(Box((5, 5, 5), (6, 6, 6)), (1, 1, 1)).nodes) == 0


def tubes() -> tuple[np.ndarray, tuple[float, float, float]]:
    """Two straight neurites of 20 x 20 voxels along z, 40 sections."""
    labels = np.zeros((40, 30, 60), np.uint16)
    labels[:, 5:25, 5:25] = 3
    labels[:, 5:25, 35:55] = 8
    return labels, (30.0, 6.0, 6.0)


def test_labels_give_a_centre_line_for_each_neuron():
    labels, size = tubes()
    step = skeleton_step(size)
    assert step == (1, 5, 5)
    skeletons = skeletonize(labels[:: step[0], :: step[1], :: step[2]], (30.0, 30.0, 30.0))
    at = ids_at(from_array(labels), skeletons.voxels(size))
    assert np.array_equal(at, skeletons.neurons)
    assert set(at) == {3, 8}
    for neuron in (3, 8):
        assert skeletons.lengths_nm[at[skeletons.edges[:, 0]] == neuron].sum() == pytest.approx(39 * 30, rel=0.1)
    assert expected_run_length(skeletons, at).nerl == 1
    assert expected_run_length(skeletons, np.ones(len(at), int)).nerl == 0


def test_a_neurite_thinner_than_the_surface_has_inner_nodes_too():
    labels = np.zeros((20, 3, 3), np.uint16)
    labels[:, 1, 1] = 1
    assert skeletonize(labels, (30.0, 30.0, 30.0)).inner.any()


def test_ids_are_read_block_by_block(monkeypatch):
    monkeypatch.setattr("ssns.metrics.skeletons.BLOCK", (2, 3, 2))
    volume = np.random.default_rng(0).integers(0, 2**40, (5, 6, 7))
    voxels = np.argwhere(volume % 3 == 0)
    assert np.array_equal(ids_at(from_array(volume), voxels), volume[tuple(voxels.T)])


@pytest.mark.real_data
def test_real_labels_are_perfect_by_themselves(development_data):
    labels = components(tifffile.imread(development_data / "AC4_labels.tif", key=range(20))[:, :300, :300])
    skeletons = skeletonize(labels[:, ::5, ::5], (30.0, 30.0, 30.0))
    at = ids_at(from_array(labels), skeletons.voxels((30.0, 6.0, 6.0)))
    assert np.array_equal(at, skeletons.neurons)
    assert expected_run_length(skeletons, at).nerl == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 1 2 3 1\n", r"line 1: wanted 'id type x y z radius parent', got '1 0 1 2 3 1'"),
        ("# fine\n1 0 one 2 3 1 -1\n", "line 2: wanted 'id type"),
        ("1 0 1 2 3 1 9\n", "line 1: wanted a parent in the file, got 9"),
    ],
)
def test_mistakes_in_a_file_are_told(tmp_path, text, message):
    (tmp_path / "a.swc").write_text(text)
    with pytest.raises(UserError, match=message):
        read_swc(tmp_path / "a.swc")


@pytest.mark.parametrize("name", ["b.swc", "."])
def test_files_that_are_not_there_are_told(tmp_path, name):
    with pytest.raises(UserError, match=r"wanted an SWC file or a folder of them, got .*: no such file is there"):
        read_swc(tmp_path / name)


def test_what_is_no_text_is_told(tmp_path):
    (tmp_path / "a.swc").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"a\.swc cannot be read"):
        read_swc(tmp_path)
