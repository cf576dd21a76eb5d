import json
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05.image import Image as OmeImage

from ssns.errors import UserError
from ssns.space import Box, cover
from ssns.volume import create_volume, open_volume, write_volume
from ssns.volume.ome import StorageLayout

OFFSETS = {"offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]]}
RAW = np.random.default_rng(0).integers(0, 255, (6, 20, 30), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int32", "float16", "float32"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_round_trip_keeps_everything(tmp_path, dtype, channels):
    data = (np.random.default_rng(1).random((channels or 1, 6, 20, 30)) * 250).astype(dtype)
    data = data if channels else data[0]
    write_volume(tmp_path / "a.zarr", data, voxel_size_nm=(40, 4.5, 4), origin=(10, -2, 3), attributes=OFFSETS)
    for path in (tmp_path / "a.zarr", tmp_path / "a.zarr" / "0", f"{tmp_path / 'a.zarr'}:0"):
        volume = open_volume(path)
        assert (volume.dtype, volume.channels, volume.shape) == (dtype, channels, (6, 20, 30))
        assert (volume.voxel_size_nm, volume.origin) == ((40, 4.5, 4), (10, -2, 3))
        assert volume.attributes == OFFSETS
        np.testing.assert_array_equal(volume.read(), data)


sizes = st.tuples(*[st.floats(0.5, 500).map(lambda value: round(value, 3))] * 3)
origins = st.tuples(*[st.integers(-(10**5), 10**5)] * 3)


@given(st.none() | sizes, origins)
@settings(max_examples=25)
def test_any_voxel_size_and_origin_come_back(tmp_path_factory, size, origin):
    path = tmp_path_factory.mktemp("geometry") / "a.zarr"
    with create_volume(path, (1, 1, 1), "uint8", voxel_size_nm=size, origin=origin):
        pass
    volume = open_volume(path)
    assert (volume.voxel_size_nm, volume.origin) == (size, origin)


def test_other_tools_read_what_is_written(tmp_path):
    write_volume(tmp_path / "a.zarr", np.stack([RAW] * 3), voxel_size_nm=(30, 6, 6), origin=(1, 2, 3))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][...], np.stack([RAW] * 3))
    assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")
    assert group["0"].attrs["voxel_size"] == [30, 6, 6]
    assert group["0"].attrs["offset"] == [30, 12, 18]
    image = OmeImage.from_zarr(group)
    (multiscale,) = image.attributes.ome.multiscales
    assert [(axis.name, axis.type, axis.unit) for axis in multiscale.axes] == [
        ("c", "channel", None),
        ("z", "space", "nanometer"),
        ("y", "space", "nanometer"),
        ("x", "space", "nanometer"),
    ]
    scale, translation = multiscale.datasets[0].coordinateTransformations
    assert scale.scale == [1, 30, 6, 6]
    assert translation.translation == [0, 30, 12, 18]  # origin times voxel size, with no half voxel


def test_blocks_in_any_order_make_the_whole(tmp_path):
    data = np.stack([RAW, RAW + 1])
    with create_volume(tmp_path / "a.zarr", data.shape, "uint8", chunks=(4, 8, 8)) as writer:
        assert writer.chunks == (4, 8, 8)
        assert not writer.resumed
        assert (writer.read() == 0).all()
        for box in reversed(cover(writer.box, (3, 7, 11))):
            writer.write(box, data[(slice(None), *box.slices)])
            np.testing.assert_array_equal(writer.read(box), data[(slice(None), *box.slices)])
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr").read(), data)


@pytest.mark.parametrize("shards", [None, (4, 16, 16)])
def test_writers_that_share_chunks_lose_nothing(tmp_path, shards):
    writer = create_volume(tmp_path / "a.zarr", RAW.shape, "uint8", chunks=(4, 8, 8), shards=shards)
    assert writer.chunks == (shards or (4, 8, 8))
    copies = [pickle.loads(pickle.dumps(writer)) for _ in range(4)]  # what other processes would hold
    boxes = cover(writer.box, (3, 5, 7))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: copies[i % 4].write(boxes[i], RAW[boxes[i].slices]), range(len(boxes))))
    writer.close()
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr").read(), RAW)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")[...], RAW)


def test_only_large_arrays_are_sharded():
    assert StorageLayout.of((100, 1024, 1024)) == StorageLayout((16, 128, 128), None)
    assert StorageLayout.of((3, 4, 50, 200)) == StorageLayout((1, 4, 50, 128), None)
    assert StorageLayout.of((3, 1000, 10_000, 10_000)) == StorageLayout((1, 16, 128, 128), (1, 64, 512, 512))


@pytest.mark.parametrize("shards", [(4, 12, 8), (4, 8, 0), (2, 8, 8)])
def test_shards_are_multiples_of_chunks(tmp_path, shards):
    with pytest.raises(UserError, match="are not multiples of chunks"):
        create_volume(tmp_path / "a.zarr", RAW.shape, "uint8", chunks=(4, 8, 8), shards=shards)


def test_shapes_are_of_volumes_and_chunks_are_not_empty(tmp_path):
    with pytest.raises(UserError, match="has 2 axes"):
        create_volume(tmp_path / "a.zarr", (20, 30), "uint8")
    with pytest.raises(UserError, match="wanted at least 1 voxel each"):
        create_volume(tmp_path / "a.zarr", RAW.shape, "uint8", chunks=(0, 8, 8))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def old(tmp_path):
    """A finished volume that must survive whatever befalls the next one."""
    write_volume(tmp_path / "a.zarr", RAW, voxel_size_nm=(30, 6, 6))
    return tmp_path / "a.zarr"


def assert_survives(path):
    volume = open_volume(path)
    assert volume.voxel_size_nm == (30, 6, 6)
    np.testing.assert_array_equal(volume.read(), RAW)


def test_a_new_volume_replaces_the_old_one_on_completion_only(old):
    with create_volume(old, (2, 3, 4), "uint16") as writer:
        writer.write(writer.box, np.ones((2, 3, 4), np.uint16))
        assert_survives(old)
    assert open_volume(old).shape == (2, 3, 4)
    assert [path.name for path in old.parent.iterdir()] == ["a.zarr"]


def test_an_exception_leaves_the_old_volume_and_what_was_written(old):
    box = Box((0, 0, 0), (1, 20, 30))

    def fail_after_one_section():
        with create_volume(old, RAW.shape, "uint16", attributes=OFFSETS) as writer:
            writer.write(box, RAW[:1])
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_one_section()
    assert_survives(old)
    resumed = create_volume(old, RAW.shape, "uint16", attributes=OFFSETS, resume=True)
    assert resumed.resumed
    np.testing.assert_array_equal(resumed.read(box), RAW[:1])
    afresh = create_volume(old, RAW.shape, "uint16", attributes=OFFSETS)
    assert not afresh.resumed
    assert (afresh.read(box) == 0).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"shape": (6, 20, 31)}, "shape"),
        ({"dtype": "uint8"}, "dtype"),
        ({"attributes": {}}, "attributes"),
        ({"origin": (0, 0, 1)}, "origin"),
        ({"voxel_size_nm": (1, 1, 1)}, "voxel_size_nm"),
    ],
)
def test_another_volume_is_not_resumed(tmp_path, change, name):
    wanted = {"shape": RAW.shape, "dtype": "uint16", "attributes": OFFSETS}
    create_volume(tmp_path / "a.zarr", **wanted)
    with pytest.raises(UserError, match=rf"cannot be resumed: its {name} is .*, wanted"):
        create_volume(tmp_path / "a.zarr", **{**wanted, **change}, resume=True)


def test_resuming_what_was_never_begun_begins_it(tmp_path):
    assert not create_volume(tmp_path / "a.zarr", (1, 1, 1), "uint8", resume=True).resumed


@contextmanager
def files_of_at_most(size):
    """What a full disk looks like to a writer: the system refuses to let files grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_volume(old):
    noise = np.random.default_rng(2).integers(0, 255, (16, 64, 64), dtype=np.uint8)
    with files_of_at_most(20_000), pytest.raises(UserError, match=r"disk is full.*was there before is untouched"):
        write_volume(old, noise)
    assert_survives(old)
    assert not (old.parent / "a.zarr.partial").exists()
    writer = create_volume(old, noise.shape, "uint8")
    with files_of_at_most(20_000), pytest.raises(UserError, match="disk is full"):
        writer.write(writer.box, noise)
    assert_survives(old)
    writer.write(writer.box, noise)  # there is room again
    writer.close()
    np.testing.assert_array_equal(open_volume(old).read(), noise)


def test_a_disk_that_is_full_from_the_start_leaves_the_old_volume(old):
    with files_of_at_most(100), pytest.raises(UserError, match="disk is full"):
        create_volume(old, RAW.shape, "uint8")
    assert_survives(old)


def test_a_killed_writer_leaves_the_old_volume_and_what_it_wrote(old):
    code = """
import os, sys, numpy as np
from ssns.space import Box
from ssns.volume import create_volume
writer = create_volume(sys.argv[1], (4, 8, 8), "uint8")
writer.write(Box((0, 0, 0), (2, 8, 8)), np.full((2, 8, 8), 7, np.uint8))
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(old)], check=False, timeout=60)
    assert killed.returncode == -9
    assert_survives(old)
    with create_volume(old, (4, 8, 8), "uint8", resume=True) as writer:
        assert writer.resumed
        assert (writer.read()[:2] == 7).all()
    assert open_volume(old).shape == (4, 8, 8)


def test_a_kill_between_the_renames_is_mended(old):
    create_volume(old, (4, 8, 8), "uint8")
    old.rename(old.with_name("a.zarr.replaced"))
    with pytest.raises(UserError, match=r"was never finished: a\.zarr\.partial"):
        open_volume(old)
    writer = create_volume(old, (4, 8, 8), "uint8", resume=True)
    assert_survives(old)
    writer.close()
    assert open_volume(old).shape == (4, 8, 8)


def test_a_rename_that_fails_leaves_the_old_volume(old, monkeypatch):
    writer = create_volume(old, (4, 8, 8), "uint8")
    rename = type(old).rename

    def refuse(self, target):
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(type(old), "rename", refuse)
    with pytest.raises(UserError, match="Input/output error"):
        writer.close()
    monkeypatch.undo()
    assert_survives(old)


@pytest.mark.parametrize("name", ["raw.tif", "results"])
def test_nothing_but_a_zarr_is_replaced(tmp_path, name):
    (tmp_path / "folder.zarr").mkdir()
    for path in (tmp_path / name, tmp_path / "folder.zarr"):
        with pytest.raises(UserError, match=r"volumes are written as \.zarr, and replace nothing but a Zarr"):
            create_volume(path, (1, 1, 1), "uint8")


def test_a_link_stays_and_its_target_is_replaced(tmp_path, old):
    (tmp_path / "link.zarr").symlink_to(old)
    write_volume(tmp_path / "link.zarr", RAW[:2])
    assert (tmp_path / "link.zarr").is_symlink()
    assert open_volume(old).shape == (2, 20, 30)


def test_data_that_do_not_fit_are_refused(tmp_path):
    writer = create_volume(tmp_path / "a.zarr", (2, 3, 4, 5), "uint8")
    with pytest.raises(UserError, match=r"shape \(3, 4, 5\) .* with 2 channels"):
        writer.write(writer.box, np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(UserError, match="do not fit"):
        writer.write(Box((0, 0, 0), (3, 4, 6)), np.zeros((2, 3, 4, 6), np.uint8))
    with pytest.raises(UserError, match="holds uint8, but the data are float32"):
        writer.write(writer.box, np.zeros((2, 3, 4, 5), np.float32))


def test_narrower_types_are_widened(tmp_path):
    write_volume(tmp_path / "a.zarr", RAW)
    with create_volume(tmp_path / "b.zarr", RAW.shape, "uint64") as writer:
        writer.write(writer.box, RAW)
    np.testing.assert_array_equal(open_volume(tmp_path / "b.zarr").read(), RAW)


def test_metadata_are_json_with_one_level(tmp_path):
    write_volume(tmp_path / "a.zarr", RAW)
    group = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert group["attributes"]["ome"]["version"] == "0.5"
    assert [level["path"] for level in group["attributes"]["ome"]["multiscales"][0]["datasets"]] == ["0"]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("c/*/*/*")] == ["a.zarr/0/c/0/0/0"]
