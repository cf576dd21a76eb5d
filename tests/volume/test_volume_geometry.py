import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssns.volume.geometry import geometry_of_attributes, nm_per_unit, origin_from_nm


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1),
        ("Nanometer", 1),
        ("µm", 1e3),
        ("μm", 1e3),
        ("\\u00B5m", 1e3),
        ("microns", 1e3),
        ("Å", 0.1),
        ("inch", 2.54e7),
        ("m", 1e9),
        ("pixel", None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_units(unit, nm):
    assert nm_per_unit(unit) == nm


sizes = st.tuples(*[st.floats(0.1, 1000)] * 3)
origins = st.tuples(*[st.integers(-(10**5), 10**5)] * 3)


@given(sizes, origins)
def test_an_offset_in_nm_gives_the_origin_back(size, origin):
    offset = [n * o for n, o in zip(size, origin, strict=True)]
    assert origin_from_nm(offset, size, "v") == origin


def test_an_offset_between_voxels_is_rounded_with_a_warning():
    with pytest.warns(UserWarning, match=r"v: its offset is \[1\.5, 2\.0, -0\.4\] voxels, rounded to \[2, 2, 0\]"):
        assert origin_from_nm([60, 8, -1.6], (40, 4, 4), "v") == (2, 2, 0)


@pytest.mark.parametrize(
    ("attributes", "size", "origin"),
    [
        ({"resolution": [40, 4, 4], "offset": [1520, 3644, 3644]}, (40, 4, 4), (38, 911, 911)),
        ({"voxel_size": [40, 4, 4], "units": ["nm"] * 3}, (40, 4, 4), (0, 0, 0)),
        ({"voxel_size": [0.04, 0.004, 0.004], "offset": [0.4, 0, 0], "units": "um"}, (40, 4, 4), (10, 0, 0)),
        ({"element_size_um": [0.03, 0.006, 0.006]}, (30, 6, 6), (0, 0, 0)),
        ({"voxel_size": [1, 2], "resolution": "fine", "offset": [1, 1, 1]}, None, (0, 0, 0)),
        ({}, None, (0, 0, 0)),
    ],
)
def test_attributes_of_other_tools(attributes, size, origin):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert geometry_of_attributes(attributes, "v") == (size, origin)
