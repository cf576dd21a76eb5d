"""CREMI: three labelled volumes of fruit fly brain, and three unlabelled ones that were the challenge's test.

The challenge has each of them cropped, 125 x 1250 x 1250 voxels (z, y, x), and padded, 200 x 3072 x 3072, of which the
cropped one begins at (37, 911, 911).

Defective sections of A+, B+ and C+ (``_DEFECTS``), numbered as in the cropped volumes, are those that neutorch's
evaluation on CREMI replaces (its ``fix_A``, ``fix_B``, ``fix_C``). A second list, made in another lab on realigned
volumes, has the same, 14 sections later; it calls 111 of A+ and 74 of B+ "somewhat bad", as it does 15 of A+ and 63 of
B+, which are left alone here. Section 51 of A+ is all zeros (github.com/cremi/cremi_python, issue 9). For A, B and C no
list was found: blank sections are interpolated. The paper's volumes were made with a network that follows motion, so
these are not quite theirs.
"""

from __future__ import annotations

from ssns.datasets.dataset import Dataset, Download, Layout, Output
from ssns.space import Triple, VoxelSize

_VOXEL: VoxelSize = (40, 4, 4)
_CROPPED_AT: Triple = (37, 911, 911)
_CENTRE: Triple = (0, 113, 113)
_CENTRE_OF_PADDED: Triple = (37, 1024, 1024)

_SHA256 = {
    "A": "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d",
    "B": "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8",
    "C": "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052",
}
"""Of the cropped files, as torch-em checks them."""

_DEFECTS: dict[str, tuple[int, ...]] = {
    "A": (),
    "B": (),
    "C": (),
    "A+": (0, 33, 51, 79, 80, 108, 109, 111),
    "B+": (15, 16, 44, 45, 74, 77),
    "C+": (14, 74, 86),
}

_CITATION = (
    "Funke, Saalfeld, Bock, Turaga, Perlman: MICCAI Challenge on Circuit Reconstruction from EM Images, cremi.org"
)
_LICENCE = "none stated; see cremi.org"


def _file(sample: str, *, padded: bool = False) -> str:
    date = "20160601" if sample.endswith("+") else "20160501"
    return f"sample_{sample}{'_padded' if padded else ''}_{date}.hdf"


def _centre(sample: str) -> tuple[Output, ...]:
    """1024 x 1024 at the centre, as the paper has it, from either file."""

    def layouts(dataset: str) -> tuple[Layout, ...]:
        return (
            Layout(f"{_file(sample)}:{dataset}", _CENTRE, sha256=_SHA256.get(sample)),
            Layout(f"{_file(sample, padded=True)}:{dataset}", _CENTRE_OF_PADDED),
        )

    raw, labels = f"cremi{sample}_inputs_interp.h5", f"cremi{sample}_labels.h5"
    shape = (125, 1024, 1024)
    outputs = [
        Output(
            f"cremi/{raw}",
            "raw",
            shape,
            _VOXEL,
            (*layouts("volumes/raw"), Layout(f"{raw}:main", repaired=True)),
            defects=_DEFECTS[sample],
        )
    ]
    if not sample.endswith("+"):
        given = (*layouts("volumes/labels/neuron_ids"), Layout(f"{labels}:main"))
        outputs.append(Output(f"cremi/{labels}", "labels", shape, _VOXEL, given, raw=outputs[0].path))
    return tuple(outputs)


def _padded(sample: str) -> tuple[Output, ...]:
    """All of a padded file; its labels keep their place in raw."""
    file = _file(sample, padded=True)
    defects = tuple(section + _CROPPED_AT[0] for section in _DEFECTS[sample])
    path = f"cremi/cremi{sample}_padded"
    raw = (Layout(f"{file}:volumes/raw"),)
    outputs = [Output(f"{path}_inputs_interp.h5", "raw", (200, 3072, 3072), _VOXEL, raw, defects=defects)]
    if not sample.endswith("+"):
        labels = (Layout(f"{file}:volumes/labels/neuron_ids"),)
        shape = (125, 1250, 1250)
        outputs.append(Output(f"{path}_labels.h5", "labels", shape, _VOXEL, labels, raw=outputs[0].path))
    return tuple(outputs)


def _downloads(size: str, *, padded: bool) -> Download:
    first, last = _file("A", padded=padded), _file("C+", padded=padded)
    return Download(
        f"{first} to {last}: of A, B, C (with labels), A+, B+ and C+ those that you need",
        f"https://cremi.org/data, or directly https://cremi.org/static/data/{first} and so on (+ is %2B there)",
        size,
        "as they are",
    )


_C = ("cremi/cremiC_inputs_interp.h5", "cremi/cremiC_labels.h5", "cremi/cremiC+_inputs_interp.h5")

CREMI = Dataset(
    "cremi",
    "CREMI A, B, C and A+, B+, C+: fruit fly brain, 40 x 4 x 4 nm, 1024 x 1024 at the centre",
    (_downloads("about 170 MB each; the padded ones, about 1.5 GB, do too", padded=False),),
    tuple(output for sample in _DEFECTS for output in _centre(sample)),
    _LICENCE,
    _CITATION,
    (("cremi-c-10l-200u-ema", _C), ("cremi-c-10l-200u-ws", _C)),
)

CREMI_PADDED = Dataset(
    "cremi-padded",
    "the same with all their surroundings, 200 x 3072 x 3072",
    (_downloads("about 1.5 GB each", padded=True),),
    tuple(output for sample in _DEFECTS for output in _padded(sample)),
    _LICENCE,
    _CITATION,
)
