import pickle

import h5py
import numpy as np
import pytest

from ssns.errors import UserError
from ssns.space import Box, cover
from ssns.volume import from_array, open_volume
from ssns.volume.hdf5 import write_hdf5

RAW = np.random.default_rng(0).integers(0, 255, (5, 20, 30), dtype=np.uint8)
IDS = np.random.default_rng(1).integers(0, 2**63, (3, 10, 12), dtype=np.uint64)


def save(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name.replace("__", "/"), data=array, chunks=True, compression="gzip")
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32", "uint32", "uint64", "int64"])
def test_main_is_found_and_read_lazily(tmp_path, dtype):
    save(tmp_path / "a.h5", main=RAW.astype(dtype), other=RAW)
    volume = open_volume(tmp_path / "a.h5")
    assert volume.path == f"{tmp_path / 'a.h5'}:main"
    assert volume.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(volume.read(), RAW)
    box = Box((1, 3, 4), (3, 11, 30))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(box), RAW[box.slices])


def test_cremi(tmp_path):
    save(tmp_path / "a.hdf", volumes__raw=RAW, volumes__labels__neuron_ids=IDS, volumes__labels__clefts=IDS)
    with h5py.File(tmp_path / "a.hdf", "a") as file:
        file["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["volumes/labels/neuron_ids"].attrs["resolution"] = np.float32([40, 4, 4])
        file["volumes/labels/neuron_ids"].attrs["offset"] = (40.0, 8.0, 12.0)
    raw = open_volume(tmp_path / "a.hdf")
    labels = open_volume(tmp_path / "a.hdf", role="labels")
    assert (raw.voxel_size_nm, raw.origin) == ((40, 4, 4), (0, 0, 0))
    assert (labels.voxel_size_nm, labels.origin) == ((40, 4, 4), (1, 2, 3))
    np.testing.assert_array_equal(raw.read(), RAW)
    np.testing.assert_array_equal(labels.read(), IDS)
    assert open_volume(tmp_path / "a.hdf", role="labels", origin=(0, 0, 7)).origin == (0, 0, 7)


def test_raw_of_cremi_is_not_taken_for_labels(tmp_path):
    save(tmp_path / "a.h5", volumes__raw=RAW)
    with pytest.raises(UserError, match=r"which dataset holds the labels.*volumes/raw 5x20x30"):
        open_volume(tmp_path / "a.h5", role="labels")


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/gone"), h5py.ExternalLink("gone.h5", "/main")], ids=["soft", "external"]
)
def test_a_link_to_nothing_is_no_dataset(tmp_path, link):
    with h5py.File(save(tmp_path / "a.h5", main=RAW), "a") as file:
        file["link"] = link
    with pytest.raises(UserError, match="has no dataset link"):
        open_volume(f"{tmp_path / 'a.h5'}:link")


@pytest.mark.parametrize("name", ["soft", "hard", "elsewhere"])
def test_links_are_followed_where_they_are_named(tmp_path, name):
    save(tmp_path / "other.h5", main=RAW)
    with h5py.File(save(tmp_path / "a.h5", main=RAW), "a") as file:
        file["soft"], file["hard"] = h5py.SoftLink("/main"), file["main"]
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/main")
    np.testing.assert_array_equal(open_volume(f"{tmp_path / 'a.h5'}:{name}").read(), RAW)


@pytest.mark.parametrize("named", ["argument", "path", "path from the root"])
def test_a_dataset_is_named_in_the_path_or_as_an_argument(tmp_path, named):
    file = save(tmp_path / "a.h5", main=RAW, more__ids=IDS)
    if named == "argument":
        volume = open_volume(file, dataset="more/ids")
    else:
        volume = open_volume(f"{file}:{'/' if 'root' in named else ''}more/ids")
    assert volume.path == f"{file}:more/ids"
    np.testing.assert_array_equal(volume.read(), IDS)


def test_the_only_array_of_three_axes_is_taken(tmp_path):
    save(tmp_path / "a.h5", image=RAW, table=np.zeros((3, 2)), affinities=np.zeros((3, 2, 4, 4)))
    np.testing.assert_array_equal(open_volume(tmp_path / "a.h5").read(), RAW)


def test_the_only_array_of_four_axes_is_taken(tmp_path):
    save(tmp_path / "a.h5", table=np.zeros((3, 2)), affinities=np.zeros((3, 2, 4, 4)))
    assert open_volume(tmp_path / "a.h5").channels == 3


def test_several_candidates_are_listed(tmp_path):
    save(tmp_path / "a.h5", image=RAW, ids=IDS)
    with pytest.raises(UserError, match=r"Write .*a\.h5:NAME; it holds ids 3x10x12, image 5x20x30"):
        open_volume(tmp_path / "a.h5")


def test_a_missing_dataset_is_told_with_the_nearest_and_all_others(tmp_path):
    save(tmp_path / "a.h5", volumes__raw=RAW, main=RAW)
    with pytest.raises(
        UserError, match=r"no dataset volume/raw \(did you mean volumes/raw\?\); it holds main 5x20x30, volumes/raw"
    ):
        open_volume(f"{tmp_path / 'a.h5'}:volume/raw")


def test_names_that_contradict_are_refused(tmp_path):
    file = save(tmp_path / "a.h5", main=RAW)
    with pytest.raises(UserError, match="give one of them"):
        open_volume(f"{file}:main", dataset="raw")


def test_a_dataset_of_two_axes_is_refused(tmp_path):
    file = save(tmp_path / "a.h5", page=RAW[0])
    with pytest.raises(UserError, match=r"a\.h5:page has 2 axes \(20, 30\)"):
        open_volume(f"{file}:page")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(tmp_path, share):
    file = save(tmp_path / "a.h5", main=RAW)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cannot be opened as HDF5.*truncated, copy it again"):
        open_volume(file)


class TestWriting:
    PLAN = from_array(RAW, voxel_size_nm=(40, 4.5, 4), origin=(1, 2, 3))

    def slabs(self, shape=(2, 20, 16)):
        for box in cover(self.PLAN.box, shape):
            yield box, RAW[box.slices]

    def test_what_is_written_is_read_back(self, tmp_path):
        file = tmp_path / "new folder" / "a.h5"
        write_hdf5(file, self.PLAN, self.slabs(), attributes={"source": "é", "sections": [1, 2]})
        volume = open_volume(file)
        np.testing.assert_array_equal(volume.read(), RAW)
        assert volume.path == f"{file}:main"
        assert (volume.dtype, volume.voxel_size_nm, volume.origin) == (np.uint8, (40, 4.5, 4), (1, 2, 3))
        assert volume.attributes == {"source": "é", "sections": [1, 2]}
        assert list(file.parent.iterdir()) == [file]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
    def test_an_interrupted_file_leaves_the_old_one(self, tmp_path, error):
        file = save(tmp_path / "a.h5", main=IDS)

        def stopping():
            yield next(self.slabs())
            raise error

        with pytest.raises(error):
            write_hdf5(file, self.PLAN, stopping())
        np.testing.assert_array_equal(open_volume(file).read(), IDS)
        assert list(tmp_path.iterdir()) == [file]

    def test_a_place_that_cannot_be_written_to(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"a\.h5 cannot be written \(.*make room, or mend that"):
            write_hdf5(tmp_path / "file" / "a.h5", self.PLAN, self.slabs())
