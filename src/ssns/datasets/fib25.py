"""FIB-25: fruit fly medulla, isotropic.

Which of the published cubes the paper's code was used with is not written down; its tiling assumes 520 x 520 sections,
which both cubes named ``validation_sample`` and ``tstvol-520`` have.
"""

from __future__ import annotations

from ssns.datasets.dataset import Dataset, Download, Layout, Output, Shape
from ssns.space import VoxelSize

_VOXEL: VoxelSize = (8, 8, 8)
_SHAPE: Shape = (None, 520, 520)
_URL = "https://storage.googleapis.com/ffn-flyem-fib25/validation_sample"

FIB25 = Dataset(
    "fib-25",
    "FIB-25: fruit fly medulla, 8 x 8 x 8 nm, dense labels",
    (
        Download(
            "grayscale_maps.h5 and groundtruth.h5 of the validation sample, a cube of 520 voxels",
            f"{_URL}/grayscale_maps.h5 and {_URL}/groundtruth.h5",
            "",
            "in a folder validation_sample",
        ),
    ),
    (
        Output(
            "fib/fib_inputs.h5",
            "raw",
            _SHAPE,
            _VOXEL,
            (Layout("validation_sample/grayscale_maps.h5:raw"), Layout("fib_inputs.h5:main")),
        ),
        Output(
            "fib/fib_labels.h5",
            "labels",
            _SHAPE,
            _VOXEL,
            (Layout("validation_sample/groundtruth.h5:stack"), Layout("fib_labels.h5:main")),
            raw="fib/fib_inputs.h5",
        ),
    ),
    "none stated",
    "Takemura et al., Synaptic circuits and their variations within different columns in the visual system of"
    " Drosophila, PNAS 112(44), 2015, doi 10.1073/pnas.1509820112",
)
