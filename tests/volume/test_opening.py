import math

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from ssns.errors import UserError
from ssns.volume import fingerprint, from_array, open_volume, write_volume
from ssns.volume.opening import split_dataset

RAW = np.random.default_rng(0).integers(0, 255, (5, 20, 30), dtype=np.uint8)


def save_tiff(folder):
    tifffile.imwrite(folder / "raw.tif", RAW, compression="zlib")
    return folder / "raw.tif"


def save_pages(folder):
    (folder / "pages").mkdir()
    for z, page in enumerate(RAW):
        Image.fromarray(page).save(folder / "pages" / f"{z}.png")
    return folder / "pages"


def save_hdf5(folder):
    with h5py.File(folder / "raw.h5", "w") as file:
        file["main"] = RAW
    return folder / "raw.h5"


def save_zarr(folder):
    write_volume(folder / "raw.zarr", RAW)
    return folder / "raw.zarr"


FORMATS = {"tiff": save_tiff, "pages": save_pages, "hdf5": save_hdf5, "zarr": save_zarr}


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_every_format_takes_voxel_size_and_origin(tmp_path, save):
    volume = open_volume(save(tmp_path), voxel_size_nm=(30, 6, 6), origin=(1, 2, 3))
    assert (volume.voxel_size_nm, volume.origin) == ((30, 6, 6), (1, 2, 3))
    np.testing.assert_array_equal(volume.read(), RAW)


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_every_format_reads_what_another_wrote_through_a_writer(tmp_path, save):
    source = open_volume(save(tmp_path))
    write_volume(tmp_path / "copy.zarr", source.array, voxel_size_nm=(30, 6, 6), origin=(1, 2, 3))
    copy = open_volume(tmp_path / "copy.zarr")
    assert (copy.dtype, copy.voxel_size_nm, copy.origin) == (RAW.dtype, (30, 6, 6), (1, 2, 3))
    np.testing.assert_array_equal(copy.read(), RAW)


def test_fingerprints_of_all_formats_agree_on_the_voxels(tmp_path):
    stated = [fingerprint(save(tmp_path), hash_up_to=math.inf) for save in FORMATS.values()]
    assert len({found["blake2b"] for found in stated}) == 1
    assert [found["files"] for found in stated] == [1, 5, 1, 3]
    assert all(found["shape"] == [5, 20, 30] and found["dtype"] == "uint8" for found in stated)
    assert all(found["bytes"] > 1000 and found["modified_ns"] > 10**18 for found in stated)


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_a_fingerfoundstays_until_the_file_changes(tmp_path, save):
    path = save(tmp_path)
    before = fingerprint(path)
    assert fingerprint(open_volume(path)) == before
    assert "blake2b" not in before
    changed = next(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    changed.write_bytes(changed.read_bytes())
    assert fingerprint(path)["modified_ns"] > before["modified_ns"]


def test_one_voxel_changes_the_hash_of_a_verified_fingerprint(tmp_path):
    changed = RAW.copy()
    changed[4, 19, 29] ^= 1
    write_volume(tmp_path / "a.zarr", RAW)
    write_volume(tmp_path / "b.zarr", changed)
    hashes = [fingerprint(tmp_path / name, hash_up_to=math.inf)["blake2b"] for name in ("a.zarr", "b.zarr")]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(("more", "hashed"), [(-1, False), (0, True)])
def test_only_volumes_up_to_the_bound_are_hashed(tmp_path, more, hashed):
    write_volume(tmp_path / "a.zarr", RAW.astype(np.uint16))
    assert ("blake2b" in fingerprint(tmp_path / "a.zarr", hash_up_to=2 * RAW.size + more)) == hashed


def test_the_fingerfoundof_a_dataset_looks_at_the_dataset_alone(tmp_path):
    path = save_zarr(tmp_path)
    group = fingerprint(path)
    assert fingerprint(f"{path}:0")["files"] == group["files"] - 1


def test_a_volume_in_memory_has_no_fingerprint():
    with pytest.raises(UserError, match="is no file"):
        fingerprint(from_array(RAW))


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path):
    save_tiff(tmp_path)
    with pytest.raises(UserError, match=r"raww\.tif does not exist \(did you mean raw\.tif\?\)"):
        open_volume(tmp_path / "raww.tif")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        open_volume(tmp_path / "nowhere" / "raw.tif")
    with pytest.raises(UserError, match=r"x\.h5 does not exist"):
        open_volume(f"{tmp_path / 'x.h5'}:main")


def test_an_unknown_suffix_is_told_with_the_known_ones(tmp_path):
    (tmp_path / "raw.mrc").write_bytes(b"0")
    with pytest.raises(UserError, match=r"volumes are \.tif, .*, not \.mrc; convert it"):
        open_volume(tmp_path / "raw.mrc")
    (tmp_path / "raw").write_bytes(b"0")
    with pytest.raises(UserError, match="not files without a suffix"):
        open_volume(tmp_path / "raw")


def test_a_dataset_is_refused_where_there_are_none(tmp_path):
    with pytest.raises(UserError, match="has no datasets, but main is named"):
        open_volume(f"{save_tiff(tmp_path)}:main")


def test_rgb_ids_are_refused_where_there_are_no_pages(tmp_path):
    with pytest.raises(UserError, match="rgb_ids is for TIFF stacks"):
        open_volume(save_hdf5(tmp_path), rgb_ids=True)


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = save_tiff(tmp_path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ssns.volume.opening.open_tiff", lambda *_, **__: refuse())
    with pytest.raises(UserError, match=r"cannot be opened .*Permission denied.*who may read it"):
        open_volume(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.h5:volumes/raw", ("a/b.h5", "volumes/raw")),
        ("b.zarr:0", ("b.zarr", "0")),
        ("b.h5", ("b.h5", None)),
        ("scan 12:30", ("scan 12:30", None)),
        ("b.h5:", ("b.h5:", None)),
    ],
)
def test_paths_with_datasets(path, expected):
    file, dataset = split_dataset(path)
    assert (str(file), dataset) == expected
