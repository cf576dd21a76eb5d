import json
import pickle

import numpy as np
import pytest
import zarr

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import open_volume

RAW = np.random.default_rng(0).integers(0, 255, (5, 20, 30), dtype=np.uint8)


def array(group, name, data, version=3, attributes=None, **settings):
    """An array written by zarr-python, the reference."""
    if version == 3 and "dimension_names" not in settings:
        settings["dimension_names"] = None
    made = group.create_array(
        name, shape=data.shape, dtype=data.dtype, chunks=tuple(min(8, n) for n in data.shape), **settings
    )
    made[...] = data
    made.attrs.update(attributes or {})


def ome(group, version, datasets, axes, **image):
    multiscales = {"multiscales": [{"version": version, "axes": axes, "datasets": datasets, **image}]}
    group.attrs.update(multiscales if version == "0.4" else {"ome": {"version": version, **multiscales}})


def transformed(path, scale, translation=None):
    transforms = [{"type": "scale", "scale": scale}]
    if translation is not None:
        transforms.append({"type": "translation", "translation": translation})
    return {"path": path, "coordinateTransformations": transforms}


def named(names, unit="nanometer"):
    kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
    return [{"name": name, **kinds.get(name, {"type": "space", "unit": unit})} for name in names]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "uint32", "uint64"])
def test_plain_arrays(tmp_path, version, dtype):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    array(group, "main", RAW.astype(dtype), version)
    for volume in (open_volume(tmp_path / "a.zarr"), open_volume(tmp_path / "a.zarr" / "main")):
        assert (volume.shape, volume.dtype) == (RAW.shape, dtype)
        np.testing.assert_array_equal(volume.read(), RAW)
    box = Box((1, 3, 4), (3, 11, 30))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(box), RAW[box.slices])


def test_a_folder_beside_the_working_one(tmp_path, monkeypatch):
    array(zarr.open_group(tmp_path / "a.zarr", mode="w"), "raw", RAW)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    np.testing.assert_array_equal(open_volume("../a.zarr").read(), RAW)


@pytest.mark.parametrize("version", [2, 3])
def test_funlib_attributes_and_nested_names(tmp_path, version):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    attributes = {"voxel_size": [40, 4, 4], "offset": [400, 8, 12], "units": ["nm", "nm", "nm"]}
    array(group.create_group("volumes"), "raw", RAW, version, attributes)
    array(group["volumes"].create_group("labels"), "neuron_ids", RAW[:2].astype(np.uint64), version)
    raw = open_volume(tmp_path / "a.zarr")
    assert raw.path.endswith("a.zarr:volumes/raw")
    assert (raw.voxel_size_nm, raw.origin) == ((40, 4, 4), (10, 2, 3))
    assert open_volume(tmp_path / "a.zarr", role="labels").shape == (2, 20, 30)
    assert open_volume(f"{tmp_path / 'a.zarr'}:volumes/labels/neuron_ids").shape == (2, 20, 30)


def test_a_missing_dataset_is_told_with_the_nearest(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "affinities", np.zeros((3, 4, 5, 6), np.float32))
    with pytest.raises(UserError, match=r"no dataset affs \(did.*affinities\?\); it holds affinities 3x4x5x6"):
        open_volume(tmp_path / "a.zarr", dataset="affs")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_at_full_resolution(tmp_path, version):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    array(group, "s0", RAW, group.metadata.zarr_format)
    array(group, "s1", RAW[:, ::2, ::2], group.metadata.zarr_format)
    datasets = [
        transformed("s0", [0.04, 0.004, 0.004], [0.4, 0, -0.012]),
        transformed("s1", [0.04, 0.008, 0.008], [0.4, 0.002, -0.01]),
    ]
    ome(group, version, datasets, named("zyx", "micrometer"))
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size_nm, volume.origin) == ((40, 4, 4), (10, 0, -3))
    np.testing.assert_array_equal(volume.read(), RAW)


@pytest.mark.parametrize("given", ["a.zarr/em/s0", "a.zarr:em/s1", "a.zarr/em:s1"])
def test_a_level_opened_by_its_path_lies_where_its_image_says(tmp_path, given):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w").create_group("em")
    array(group, "s0", RAW)
    array(group, "s1", RAW[:, ::2, ::2])
    datasets = [transformed("s0", [40, 4, 4], [400, 8, 12]), transformed("s1", [40, 8, 8], [400, 8, 16])]
    ome(group, "0.5", datasets, named("zyx"))
    volume = open_volume(f"{tmp_path}/{given}")
    first = given.endswith("s0")
    assert volume.voxel_size_nm == ((40, 4, 4) if first else (40, 8, 8))
    assert volume.origin == ((10, 2, 3) if first else (10, 1, 2))
    np.testing.assert_array_equal(volume.read(), RAW if first else RAW[:, ::2, ::2])


def test_a_level_that_tells_its_own_size_keeps_it_where_its_image_has_no_unit(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "s0", RAW, attributes={"voxel_size": [40, 4, 4], "offset": [400, 8, 12]})
    ome(group, "0.5", [transformed("s0", [1, 1, 1])], [{"name": axis, "type": "space"} for axis in "zyx"])
    volume = open_volume(tmp_path / "a.zarr" / "s0")
    assert (volume.voxel_size_nm, volume.origin) == ((40, 4, 4), (10, 2, 3))


def test_a_scale_of_another_number_of_axes_is_told(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "s0", RAW)
    ome(group, "0.5", [transformed("s0", [1, 1])], named("zyx"))
    with pytest.raises(UserError, match="its metadata are not those of OME-Zarr"):
        open_volume(tmp_path / "a.zarr")


def test_scales_of_the_image_are_applied_after_those_of_the_level(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "0", RAW)
    image = [{"type": "scale", "scale": [10, 2, 2]}, {"type": "translation", "translation": [80, 0, 0]}]
    ome(group, "0.5", [transformed("0", [4, 2, 2], [8, 4, 0])], named("zyx"), coordinateTransformations=image)
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size_nm, volume.origin) == ((40, 4, 4), (4, 2, 0))


def test_time_and_an_only_channel_of_microscopes_are_left_out(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "0", RAW[None, None])
    ome(group, "0.5", [transformed("0", [1, 1, 30, 6, 6])], named("tczyx"))
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.channels, volume.voxel_size_nm) == (None, (30, 6, 6))
    box = Box((1, 3, 4), (3, 11, 30))
    np.testing.assert_array_equal(volume.read(box), RAW[box.slices])


def test_several_time_points_are_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "0", np.stack([RAW, RAW])[:, None])
    ome(group, "0.5", [transformed("0", [1] * 5)], named("tczyx"))
    with pytest.raises(UserError, match="holds 2 time points"):
        open_volume(tmp_path / "a.zarr")


def test_without_a_unit_there_is_no_voxel_size_but_an_origin(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "0", RAW)
    ome(group, "0.5", [transformed("0", [5, 1, 1], [10, 2, 3])], [{"name": n, "type": "space"} for n in "zyx"])
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size_nm, volume.origin) == (None, (2, 2, 3))


def test_axes_in_another_order_are_turned(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    attributes = {"voxel_size": [4, 5, 40], "offset": [8, 15, 40]}
    array(group, "raw", RAW.transpose(2, 1, 0), attributes=attributes, dimension_names=("x", "y", "z"))
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size_nm, volume.origin) == ((40, 5, 4), (1, 3, 2))
    np.testing.assert_array_equal(volume.read(), RAW)


def test_an_image_among_others_counts_as_one(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    image = group.create_group("em")
    array(image, "s0", RAW)
    array(image, "s1", RAW[:, ::2, ::2])
    ome(image, "0.5", [transformed("s0", [30, 6, 6]), transformed("s1", [30, 12, 12])], named("zyx"))
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.path, volume.voxel_size_nm) == (f"{tmp_path / 'a.zarr'}:em", (30, 6, 6))


@pytest.mark.parametrize("shape", [(20, 30), (1, 1, 1, 5, 20, 30)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "page", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=f"a.zarr:page has {len(shape)} axes"):
        open_volume(tmp_path / "a.zarr", dataset="page")


def test_damaged_metadata_are_told(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "0", RAW)
    ome(group, "0.5", [{"path": "0", "coordinateTransformations": [{"type": "scale"}]}], named("zyx"))
    with pytest.raises(UserError, match="its metadata are not those of OME-Zarr"):
        open_volume(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"attributes"')
    with pytest.raises(UserError, match=r"zarr\.json is damaged"):
        open_volume(tmp_path / "a.zarr")


def test_a_level_that_is_missing_is_told(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    ome(group, "0.5", [transformed("0", [1, 1, 1])], named("zyx"))
    with pytest.raises(UserError, match="its full resolution 0 is missing"):
        open_volume(tmp_path / "a.zarr")


def test_a_folder_named_zarr_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(UserError, match=r"is no Zarr: it has neither"):
        open_volume(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_told_when_it_is_read(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "main", RAW)
    (tmp_path / "a.zarr" / "main" / "c" / "0" / "0" / "0").write_bytes(b"cut")
    volume = open_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.read(Box((0, 8, 8), (5, 20, 30))), RAW[:, 8:, 8:])
    with pytest.raises(UserError, match=r"a\.zarr:main: z 0\.\.5, .* cannot be read"):
        volume.read()


def test_the_dictionary_of_a_written_group_is_plain_json(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array(group, "main", RAW, attributes={"ssns": {"offsets": [[-1, 0, 0]]}})
    assert json.dumps(open_volume(tmp_path / "a.zarr").attributes) == '{"offsets": [[-1, 0, 0]]}'
