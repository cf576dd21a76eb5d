"""A package of bioimage.io (model description 0.5): for its zoo, and for tools that run models of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.export.onnx import OPSET, export_onnx
from ssns.space import AXES, VoxelSize, triple
from ssns.synthetic import SyntheticSettings, synthesize
from ssns.volume import from_array
from ssns.volume.normalization import IntensityRange, PercentileNormalization

if TYPE_CHECKING:
    from ssns.checkpoint import Checkpoint

PAPER = (
    "Huang et al., Semi-Supervised Neuron Segmentation via Reinforced Consistency Learning",
    "10.1109/TMI.2022.3176050",
)
"""What the method is cited by, with its DOI."""

HALO = (4, 16, 16)
"""Voxels at each side of what a padded network predicts that tools which tile are to leave out."""

TESTED = (12, 64, 64)
"""Extent of the test input, or the next one that the network takes."""


@dataclass(frozen=True)
class Description:
    """What a package says that no checkpoint knows.

    Attributes:
        name: Of the model.
        text: What it is for.
        voxel_size_nm: Voxel size (z, y, x) of what it was trained on.
        authors: Their names.
        licence: SPDX identifier, as MIT.
        dois: What to cite beside the method.
    """

    name: str
    text: str
    voxel_size_nm: VoxelSize
    authors: tuple[str, ...] = ()
    licence: str = "MIT"
    dois: tuple[str, ...] = ()


def export_bioimageio(checkpoint: Checkpoint, path: Path, description: Description) -> None:
    """Write a package (zip): the network as ONNX, its normalisation, a test input of synthetic EM and its output.

    Percentiles are of the tensor that a tool normalises, where ours are of the whole volume: the same for tools that
    normalise before they tile. Of levelled sections, those of the training are written down.

    Args:
        checkpoint: The trained network.
        path: The file to write.
        description: What else it says.

    Raises:
        UserError: bioimage.io refuses something in the description.
        ModuleNotFoundError: `bioimageio.core` or `onnx` is not installed.
    """
    import torch
    from bioimageio.spec import ValidationContext, save_bioimageio_package
    from pydantic import ValidationError

    raw = _sample(checkpoint)
    seen = _normalized(raw, checkpoint)
    with torch.inference_mode():
        affinities = torch.sigmoid(checkpoint.build()(torch.from_numpy(seen)[None, None])).numpy()
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "raw.npy", raw[None, None])
        np.save(folder / "affinities.npy", affinities)
        export_onnx(checkpoint, folder / "weights.onnx")
        (folder / "README.md").write_text(_readme(checkpoint, description), encoding="utf-8")
        with ValidationContext(root=folder, perform_io_checks=False):
            try:
                model = _model(checkpoint, description, folder)
            except ValidationError as error:
                wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
                raise UserError(f"export: bioimage.io does not take this description ({wrong}): mend it") from error
            save_bioimageio_package(model, output_path=path)


def _sample(checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """Synthetic EM (z, y, x) of an extent that the network takes; nowhere 0, which would count as padding."""
    shape = checkpoint.network.extents.at_least(TESTED)
    raw, _ = synthesize(SyntheticSettings(shape=shape, seed=0))
    return np.maximum(raw, 1)


def _levelled_range(checkpoint: Checkpoint) -> IntensityRange | None:
    """What becomes 0 and 1 of levelled sections, on the mean of the volumes of the training; None: not levelled.

    bioimage.io takes percentiles of stored intensities only. Those of levelled ones hardly differ between volumes.
    """
    normalization, ranges = checkpoint.normalization, checkpoint.ranges.values()
    if not isinstance(normalization, PercentileNormalization) or normalization.sections == "as_stored":
        return None
    if not ranges:
        raise UserError(
            "export: wanted a checkpoint with the intensity ranges of its training, as sections are levelled, got none:"
            " export it as onnx, or train it here"
        )
    return IntensityRange(*(float(np.mean(ends)) for ends in zip(*((r.low, r.high) for r in ranges), strict=True)))


def _normalized(raw: NDArray[np.uint8], checkpoint: Checkpoint) -> NDArray[np.float32]:
    """Raw as the network sees it."""
    volume = checkpoint.normalization.prepared(from_array(raw))
    span = _levelled_range(checkpoint) or checkpoint.normalization.measure(volume)
    return span.apply(volume.read())


def _model(checkpoint: Checkpoint, description: Description, folder: Path) -> Any:
    """The description of everything in the folder."""
    from bioimageio.spec.model import v0_5

    extents = checkpoint.network.extents
    margins = triple(0 if lost else margin for lost, margin in zip(extents.shrink, HALO, strict=True))
    least = extents.at_least(2 * margin + 1 for margin in margins)
    axes = list(zip(AXES, least, extents.stride, description.voxel_size_nm, strict=True))
    raw = v0_5.InputTensorDescr(
        id=v0_5.TensorId("raw"),
        description="The image; membranes are dark",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=[v0_5.Identifier("raw")]),
            *(
                v0_5.SpaceInputAxis(
                    id=v0_5.AxisId(axis),
                    size=v0_5.ParameterizedSize(min=smallest, step=step),
                    unit="nanometer",
                    scale=scale,
                )
                for axis, smallest, step, scale in axes
            ),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="uint8"),
        preprocessing=_preprocessing(checkpoint),
        test_tensor=v0_5.FileDescr(source=folder / "raw.npy"),
    )
    outputs: list[Any] = [v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=_channel_names(checkpoint))]
    for (axis, _, _, scale), lost, margin in zip(axes, extents.shrink, margins, strict=True):
        size = v0_5.SizeReference(tensor_id=raw.id, axis_id=v0_5.AxisId(axis), offset=-2 * lost)
        common: dict[str, Any] = {"id": v0_5.AxisId(axis), "size": size, "unit": "nanometer", "scale": scale}
        outputs.append(
            v0_5.SpaceOutputAxisWithHalo(halo=margin, **common) if margin else v0_5.SpaceOutputAxis(**common)
        )
    return v0_5.ModelDescr(
        name=description.name,
        description=description.text,
        authors=[v0_5.Author(name=name) for name in description.authors],
        cite=[
            v0_5.CiteEntry(text=PAPER[0], doi=v0_5.Doi(PAPER[1])),
            *(v0_5.CiteEntry(text=f"doi {doi}", doi=v0_5.Doi(doi)) for doi in description.dois),
        ],
        license=v0_5.LicenseId(description.licence),
        documentation=v0_5.FileDescr(source=folder / "README.md"),
        tags=["electron-microscopy", "connectomics", "neuron-segmentation", "affinities", "3d"],
        inputs=[raw],
        outputs=[
            v0_5.OutputTensorDescr(
                id=v0_5.TensorId("affinities"),
                description="Whether a voxel and the one an offset away lie in one neuron",
                axes=outputs,
                data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
                test_tensor=v0_5.FileDescr(source=folder / "affinities.npy"),
            )
        ],
        weights=v0_5.WeightsDescr(onnx=v0_5.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=OPSET)),
    )


def _preprocessing(checkpoint: Checkpoint) -> list[Any]:
    """The steps that scale raw to [0, 1], as bioimage.io has them."""
    from bioimageio.spec.model import v0_5

    normalization, span = checkpoint.normalization, _levelled_range(checkpoint)
    clip = v0_5.ClipDescr(kwargs=v0_5.ClipKwargs(min=0.0, max=1.0))
    floats = v0_5.EnsureDtypeDescr(kwargs=v0_5.EnsureDtypeKwargs(dtype="float32"))
    plane, volume = ([v0_5.AxisId(axis) for axis in axes] for axes in (AXES[1:], AXES))
    if not isinstance(normalization, PercentileNormalization):
        other = next((each for each in checkpoint.ranges.values() if (each.low, each.high) != (0, 255)), None)
        if other is not None:
            raise UserError(
                f"export: wanted a network that has learned from bytes, as normalization.type is dtype, got"
                f" {other.low:g} to {other.high:g}: export it as onnx, or train it with percentiles"
            )
        return [v0_5.ScaleLinearDescr(kwargs=v0_5.ScaleLinearKwargs(gain=1 / 255)), floats]
    if span is None:
        percentiles = v0_5.ScaleRangeKwargs(
            axes=volume, min_percentile=normalization.low, max_percentile=normalization.high
        )
        return [v0_5.ScaleRangeDescr(kwargs=percentiles), clip, floats]
    levelling = v0_5.ZeroMeanUnitVarianceKwargs(axes=plane)
    gain = 1 / (span.high - span.low)
    scaling = v0_5.ScaleLinearKwargs(gain=gain, offset=-span.low * gain)
    return [
        v0_5.ZeroMeanUnitVarianceDescr(kwargs=levelling),
        v0_5.ScaleLinearDescr(kwargs=scaling),
        clip,
        floats,
    ]


def _channel_names(checkpoint: Checkpoint) -> list[Any]:
    """``z_m1_y_0_x_0`` and the like: names may hold neither signs nor commas."""
    from bioimageio.spec.model import v0_5

    return [
        v0_5.Identifier(
            "_".join(f"{axis}_{'m' if n < 0 else ''}{abs(n)}" for axis, n in zip(AXES, offset, strict=True))
        )
        for offset in checkpoint.offsets
    ]


def _readme(checkpoint: Checkpoint, description: Description) -> str:
    """What a person reads first."""
    extents = checkpoint.network.extents
    channels = "\n".join(f"* {n}: offset {list(offset)}" for n, offset in enumerate(checkpoint.offsets))
    return f"""# {description.name}

{description.text}

From raw (z, y, x) of an electron microscope, {" x ".join(f"{size:g}" for size in description.voxel_size_nm)} nm, to
affinities: whether voxel p and voxel p + offset lie in one neuron, from 0 to 1. Offsets (z, y, x) of the channels:

{channels}

Raw: {extents} voxels (z, y, x). Not predicted at each side: {list(extents.shrink)} voxels.

## Validation

The test input is synthetic; test on sections of your own with labels before you rely on it.

Trained with ssns, which turns the affinities into segments: `ssns.segment(affinities)`.
"""
