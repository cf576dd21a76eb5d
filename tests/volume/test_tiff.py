import pickle
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from ssns.errors import UserError
from ssns.space import Box
from ssns.volume import fingerprint, open_volume

STACK = np.random.default_rng(0).integers(0, 200, (5, 50, 70)).astype(np.uint8)

LAYOUTS = {
    "plain": {},
    "without metadata": {"metadata": None},
    "bigtiff": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "zlib": {"compression": "zlib", "predictor": True, "rowsperstrip": 16},
    "one row per strip": {"compression": "zlib", "rowsperstrip": 1},
    "lzw": {"compression": "lzw"},
    "tiles": {"compression": "zlib", "predictor": True, "tile": (32, 16)},
    "big-endian bigtiff tiles": {"compression": "zlib", "tile": (16, 32), "byteorder": ">", "bigtiff": True},
    "imagej": {"imagej": True},
    "uncompressed tiles": {"tile": (32, 32), "metadata": None},
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_stacks_of_every_layout(tmp_path, layout, dtype):
    if layout == "imagej" and dtype == "uint32":
        pytest.skip("ImageJ has no uint32")
    stack = (STACK * 1.5).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stack, **LAYOUTS[layout])
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.shape, volume.dtype, volume.origin) == (stack.shape, stack.dtype, (0, 0, 0))
    np.testing.assert_array_equal(volume.read(), stack)
    box = Box((1, 13, 15), (4, 50, 49))
    np.testing.assert_array_equal(volume.read(box), stack[box.slices])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).read(box), stack[box.slices])


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiff") / "tiled.tif"
    tifffile.imwrite(path, STACK, compression="zlib", tile=(32, 16))
    return open_volume(path)


def test_jpeg_tiles_with_shared_tables(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 210, 3, dtype=np.uint8), STACK.shape)
    tifffile.imwrite(tmp_path / "a.tif", smooth, compression="jpeg", tile=(32, 32))
    volume = open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.read(), tifffile.imread(tmp_path / "a.tif"))
    assert np.abs(volume.read().astype(int) - smooth).max() <= 4


@given(st.data())
@settings(max_examples=60)
def test_any_box_of_tiles_is_a_slice(tiled, data):
    ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in STACK.shape]
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    np.testing.assert_array_equal(tiled.read(box), STACK[box.slices])


def test_many_threads_read_the_same(tiled):
    boxes = [Box((z % 4, z, 0), (z % 4 + 2, z + 20, 70)) for z in range(30)]
    with ThreadPoolExecutor(8) as pool:
        for box, data in zip(boxes, pool.map(tiled.read, boxes), strict=True):
            np.testing.assert_array_equal(data, STACK[box.slices])


def test_opening_and_reading_a_box_leaves_other_pages_alone(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages[3]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[start : start + count] = b"\xff" * count
    (tmp_path / "a.tif").write_bytes(content)
    volume = open_volume(tmp_path / "a.tif")
    box = Box((0, 0, 0), (3, 50, 70))
    np.testing.assert_array_equal(volume.read(box), STACK[:3])
    with pytest.raises(UserError, match=r"z 3\.\.4.* cannot be read"):
        volume.read(Box((3, 0, 0), (4, 50, 70)))


def test_voxel_size_of_imagej(tmp_path):
    metadata = {"spacing": 0.03, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(1000 / 6, 1000 / 7), metadata=metadata)
    assert open_volume(tmp_path / "a.tif").voxel_size_nm == pytest.approx((30, 7, 6), rel=1e-6)


def test_voxel_size_of_ome(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 6, "PhysicalSizeY": 7, "PhysicalSizeZ": 0.03}
    metadata |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata=metadata)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.voxel_size_nm == (30, 7, 6)
    np.testing.assert_array_equal(volume.read(), STACK)


@pytest.mark.parametrize("metadata", [{"spacing": 2.0}, {"unit": "um"}, {"spacing": 2.0, "unit": "pixel"}])
def test_no_voxel_size_where_an_axis_or_the_unit_is_missing(tmp_path, metadata):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", **metadata})
    assert open_volume(tmp_path / "a.tif").voxel_size_nm is None


def test_the_voxel_size_given_wins_over_the_one_in_the_file(tmp_path):
    metadata = {"spacing": 0.03, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(100, 100), metadata=metadata)
    assert open_volume(tmp_path / "a.tif", voxel_size_nm=(40, 4, 4)).voxel_size_nm == (40, 4, 4)


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib"}, {"compression": "lzw", "bigtiff": True}])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.9, 0.999])
def test_a_truncated_stack_is_refused_before_it_is_read(tmp_path, layout, share):
    # tifffile alone would hand out the sections before the cut, or fewer.
    stack = np.random.default_rng(1).integers(0, 255, (20, 50, 70), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata=None, **layout)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"truncated.*copy it again"):
        open_volume(tmp_path / "a.tif")


def test_a_circle_of_pages_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match="the list of its pages"):
        open_volume(tmp_path / "a.tif")


def test_pages_of_different_size_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (STACK[0], STACK[1], STACK[2, :20]):
            writer.write(page, metadata=None, contiguous=False)
    with pytest.raises(UserError, match=r"page 2 differs from page 0 in height.*20 x 70, page 0 is 50 x 70"):
        open_volume(tmp_path / "a.tif")


def test_pages_of_different_type_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in (STACK[0], STACK[1].astype(np.uint16)):
            writer.write(page, metadata=None, contiguous=False)
    with pytest.raises(UserError, match="holds 2 images"):
        open_volume(tmp_path / "a.tif")


def test_a_single_page_is_refused_but_a_stack_of_one_is_not(tmp_path):
    tifffile.imwrite(tmp_path / "page.tif", STACK[0])
    with pytest.raises(UserError, match="wanted a stack of sections"):
        open_volume(tmp_path / "page.tif")
    tifffile.imwrite(tmp_path / "stack.tif", STACK[:1])
    np.testing.assert_array_equal(open_volume(tmp_path / "stack.tif").read(), STACK[:1])


def test_four_axes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([STACK, STACK]))
    with pytest.raises(UserError, match="has axes QQYX"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib", "tile": (32, 32)}])
def test_ids_in_colours_are_decoded_on_request(tmp_path, layout):
    ids = np.random.default_rng(2).integers(0, 2**24, STACK.shape, dtype=np.uint32)
    colours = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", **layout)
    volume = open_volume(tmp_path / "a.tif", rgb_ids=True)
    assert (volume.shape, volume.dtype) == (ids.shape, np.uint32)
    box = Box((1, 30, 30), (3, 40, 60))
    np.testing.assert_array_equal(volume.read(box), ids[box.slices])
    with pytest.raises(UserError, match="set rgb_ids"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("layout", [{}, {"compression": "zlib", "rowsperstrip": 16}, {"tile": (32, 32)}])
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_few_sections_are_sections_though_tifffile_takes_them_for_colours(tmp_path, depth, layout):
    stack = np.random.default_rng(depth).integers(0, 255, (depth, 50, 70), dtype=np.uint8)
    # what its writer guesses of such an array; said here, since it warns that it will not always
    guessed = {"photometric": "rgb", "planarconfig": "separate"} if depth in (3, 4) else {}
    tifffile.imwrite(tmp_path / "a.tif", stack, **guessed, **layout)
    volume = open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.read(), stack)
    box = Box((1, 10, 20), (2, 40, 60))
    np.testing.assert_array_equal(volume.read(box), stack[box.slices])


def test_grey_pages_are_no_ids_in_colours(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    with pytest.raises(UserError, match="leave rgb_ids out"):
        open_volume(tmp_path / "a.tif", rgb_ids=True)


@pytest.mark.real_data
def test_the_development_volume(development_data):
    volume = open_volume(development_data / "AC4_inputs.tif")
    assert (volume.shape, volume.dtype, volume.voxel_size_nm) == ((100, 1024, 1024), np.uint8, (30, 6, 6))
    box = Box((40, 500, 300), (42, 700, 1024))
    expected = tifffile.imread(development_data / "AC4_inputs.tif", key=[40, 41])
    np.testing.assert_array_equal(volume.read(box), expected[:, 500:700, 300:])
    assert fingerprint(volume)["bytes"] == 79_026_381


def test_tiles_of_several_sections_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 64, 64), np.uint8), tile=(16, 16, 16), compression="zlib")
    with pytest.raises(UserError, match="tiles of 16 sections, which few programs read"):
        open_volume(tmp_path / "a.tif")
