"""How affinities are predicted, as settings."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ssns.settings import Component


class PredictionSettings(Component):
    """Tiles, precision and storage of predicted affinities."""

    tiling: Literal["auto", "reference"] = Field(
        "auto", description="auto: few large tiles; reference: the windows and weights of the paper's code (slow)."
    )
    tile: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="Voxels (z, y, x) of raw in one call of the network; none: by free memory."
    )
    halo: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = Field(
        (4, 16, 16),
        description="Voxels (z, y, x) at inner faces of a tile that are not used; as many more are blended.",
    )
    reflect: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = Field(
        (0, 0, 0),
        description="Voxels (z, y, x) of mirrored raw seen beyond the ends of the volume, at most the halo; with 0 the "
        "network pads as at the faces of its training patches.",
    )
    batch: PositiveInt | None = Field(None, description="Tiles in one call of the network; none: by free memory.")
    precision: Literal["bf16", "fp16", "fp32"] | None = Field(
        None, description="Arithmetic of the network; none: bf16 where the hardware is fast at it, else fp32."
    )
    dtype: Literal["uint8", "float16", "float32"] = Field(
        "uint8", description="Stored type; uint8 holds round(255 * affinity)."
    )
    test_time: Literal["none", "flips", "all"] = Field(
        "none", description="Average over the 8 flips, or all 16 symmetries of the grid: 8 or 16 times the work."
    )
    block: tuple[PositiveInt, PositiveInt, PositiveInt] | None = Field(
        None, description="Voxels (z, y, x) held in memory and written at once; none: by free memory."
    )
    device: str | None = Field(
        None, description="cpu, cuda, cuda:1 ...; none: a CUDA GPU where there is one, else the CPU."
    )

    @model_validator(mode="after")
    def _check_tile(self) -> Self:
        if self.tiling == "reference" and self.tile is not None:
            raise ValueError(
                f'tile: the reference has a size of its own, got {self.tile}: leave it out, or tiling = "auto"'
            )
        return self
