"""AC3, AC4, what surrounds AC4, and the subsets of Kasthuri15: one piece of mouse cortex.

Where things are in the published volume (6 x 6 x 30 nm, 1850 x 12895 x 10747 voxels z, y, x): the subsets bear their
first voxel in their names. AC3 is z 1000..1256, y 8712..9736, x 5472..6496 and AC4 z 1100..1200, y 5440..6464, x
4400..5424 (ranges that Open Connectome's scripts used, level 1 of ``kasthuri11cc``). Where AC4_1 to AC4_13 are has not
been published.

The pages of labels in the VAST package are numbered against those of raw: page s0256 of AC3 belongs to raw 0000, page
s0100 of AC4 to raw 0001.
"""

from __future__ import annotations

from ssns.datasets.dataset import Dataset, Download, Layout, Output
from ssns.space import Triple, VoxelSize

_VOXEL: VoxelSize = (30, 6, 6)
_CITATION = (
    "Kasthuri et al., Saturated Reconstruction of a Volume of Neocortex, Cell 162(3), 2015,"
    " doi 10.1016/j.cell.2015.06.054"
)

_AC4_INPUTS = Output(
    "snemi3d/AC4_inputs.h5",
    "raw",
    (100, 1024, 1024),
    _VOXEL,
    (Layout("train-input.tif"), Layout("ac4_EM"), Layout("AC4_inputs.h5:main")),
    blake2b="26d874c2129d0548bf9bdd459bc3f5f9009c21ababb97dda64b752028ee3ddb6",
)
_AC4_LABELS = Output(
    "snemi3d/AC4_labels.h5",
    "labels",
    (100, 1024, 1024),
    _VOXEL,
    (
        Layout("train-labels.tif", ids=400),
        Layout("ac4_seg_daniel", reversed=True, rgb_ids=True),
        Layout("AC4_labels.h5:main"),
    ),
    raw=_AC4_INPUTS.path,
    blake2b="5dbecd3e788bb2afb67d0b5d8e473bdc9a0989c8e6c80508a85ab0057b588878",
)
_AC3_INPUTS = Output(
    "snemi3d/AC3_inputs.h5",
    "raw",
    (256, 1024, 1024),
    _VOXEL,
    (Layout("ac3_EM"), Layout("AC3_inputs.h5:main")),
)
_AC3_LABELS = Output(
    "snemi3d/AC3_labels.h5",
    "labels",
    (256, 1024, 1024),
    _VOXEL,
    (Layout("ac3_dbseg_images", reversed=True, rgb_ids=True), Layout("AC3_labels.h5:main")),
    raw=_AC3_INPUTS.path,
)
_AC3 = ("snemi3d/AC3_inputs.h5", "snemi3d/AC3_labels.h5", "snemi3d/AC4_inputs.h5")

SNEMI3D = Dataset(
    "snemi3d",
    "AC3 and AC4: mouse cortex, 30 x 6 x 6 nm, dense labels",
    (
        Download(
            "AC3AC4Package.zip: pages of raw and labels of AC3 (256 sections) and AC4 (100)",
            "https://lichtman.rc.fas.harvard.edu/vast/AC3AC4Package.zip",
            "",
            "unpacked: the folders ac3_EM, ac3_dbseg_images, ac4_EM, ac4_seg_daniel",
        ),
        Download(
            "or snemi.zip: AC4 alone, as the SNEMI3D challenge had it (its test-input.tif, 100 sections of AC3 without"
            " labels, is not what the experiments need)",
            "https://zenodo.org/records/7142003 (MD5 3d25a7025f66698f33c7850ace885939)",
            "186 MiB",
            "unpacked: train-input.tif, train-labels.tif",
        ),
        Download(
            "or AC3_inputs.h5, AC3_labels.h5, AC4_inputs.h5, AC4_labels.h5, as the authors of SSNS-Net give them out",
            "the data section of https://github.com/weih527/SSNS-Net",
            "",
            "as they are",
        ),
    ),
    (_AC3_INPUTS, _AC3_LABELS, _AC4_INPUTS, _AC4_LABELS),
    "SNEMI3D at Zenodo: CC BY 4.0; the VAST package states none",
    _CITATION,
    (("ac3-5l-200u-ema", _AC3), ("ac3-5l-200u-ws", _AC3)),
)

_WHOLE = Download(
    "raw of the whole volume (1850 x 12895 x 10747 voxels z, y, x), or a part that knows its origin",
    "https://lichtman.rc.fas.harvard.edu/vast/Thousands_6nm_spec_lossless.vsv, exported from VAST, or"
    " precomputed://gs://neuroglancer-public-data/kasthuri2011/image",
    "256 GB",
    "kasthuri15, a folder of pages, or kasthuri15.zarr, kasthuri15.h5, kasthuri15.tif",
)
_WHOLE_PATHS = ("kasthuri15", "kasthuri15.zarr", "kasthuri15.h5", "kasthuri15.tif")


def _subset(start: Triple) -> tuple[Output, Output]:
    """Labels and raw of a subset; raw is cut out where its name says, as large as the labels are."""
    name = "superset_z{}_y{}_x{}".format(*start)
    raw_path = f"kasthuri15/{name}_raw.hdf"
    labels = Output(
        f"kasthuri15/{name}_labels_reid.hdf",
        "labels",
        (None, None, None),
        _VOXEL,
        (Layout(f"{name}_labels_reid.hdf:main"),),
        raw=raw_path,
    )
    raw = Output(
        raw_path,
        "raw",
        (None, None, None),
        _VOXEL,
        (Layout(f"{name}.hdf:main"), *(Layout(path, start) for path in _WHOLE_PATHS)),
        shape_like=labels.path,
    )
    return labels, raw


_SUBSETS = tuple(
    each for start in ((1000, 7500, 3200), (1000, 6500, 3200), (500, 6500, 3200)) for each in _subset(start)
)
_AC4 = ("snemi3d/AC3_inputs.h5", "snemi3d/AC4_inputs.h5", "snemi3d/AC4_labels.h5")
_TESTED = (*_AC4, *(output.path for output in _SUBSETS))

KASTHURI15 = Dataset(
    "kasthuri15",
    "subsets 1 to 3 of Kasthuri15: mouse cortex, 30 x 6 x 6 nm, tests of transfer from AC4",
    (
        Download(
            "superset_z1000_y7500_x3200_labels_reid.hdf and the two like it: labels of subsets 1, 2 and 3",
            "the data section of https://github.com/weih527/SSNS-Net",
            "",
            "as they are; raw is cut out of the whole volume at the place in their names, as large as they are",
        ),
        _WHOLE,
    ),
    _SUBSETS,
    "none stated",
    _CITATION,
    tuple((name, _TESTED) for name in ("kasthuri15-10l-200u", "kasthuri15-100l-200u")),
)

_AROUND = tuple(
    Output(
        f"snemi3d/AC4_{number}.h5",
        "raw",
        (None, 1024, 1024),
        _VOXEL,
        (Layout(f"AC4_{number}.h5:main"), *(Layout(path, "ask") for path in _WHOLE_PATHS)),
    )
    for number in range(1, 14)
)
_USED = tuple(f"snemi3d/AC4_{number}.h5" for number in (5, 6, 7, 9, 10, 11, 12, 13))

AC4_AROUND = Dataset(
    "ac4-around",
    "AC4_1 to AC4_13: raw of Kasthuri15 around AC4, unlabelled; the experiments use 5, 6, 7 and 9 to 13",
    (
        Download(
            "AC4_1.h5 to AC4_13.h5, as the authors of SSNS-Net give them out",
            "the data section of https://github.com/weih527/SSNS-Net",
            "",
            "as they are",
        ),
        _WHOLE,
    ),
    _AROUND,
    "none stated",
    _CITATION,
    (("kasthuri15-100l-1000u", (*_TESTED, *_USED)),),
)
