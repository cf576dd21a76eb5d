"""Networks as settings: what an experiment may choose, torch-free until ``build``; each tells its extents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from ssns.errors import UserError
from ssns.networks.extents import Extents, padded_extents, valid_extents
from ssns.settings import Component

if TYPE_CHECKING:
    from ssns.networks.mala import MalaUNet
    from ssns.networks.residual_unet import ResidualUNet


class ResidualUNetSettings(Component):
    """The residual symmetric U-Net; the defaults are the paper's, but for the momentum of batch normalisation."""

    type: Literal["residual_unet"] = "residual_unet"
    filters: tuple[PositiveInt, ...] = Field(
        (28, 36, 48, 64, 80), min_length=2, description="Channels of each level; on a CPU, multiples of 16 are faster."
    )
    unshuffle: Literal[1, 2, 4] = Field(
        1, description="Run at 1/n of the in-plane resolution on n*n channels (pixel-unshuffle): 2 costs a quarter."
    )
    merge: Literal["cat", "add", "none"] = Field("cat", description="How the decoder takes the encoder's features.")
    upsampling: Literal["transpose", "bilinear", "nearest"] = Field("transpose", description="How levels are enlarged.")
    padding: Literal["zeros", "replicate"] = Field("zeros", description="What convolutions see outside the patch.")
    normalization: Literal["batch", "group"] = Field(
        "batch", description="Batch normalisation, or groups of 8 channels or a few more."
    )
    batch_momentum: float = Field(
        0.05, gt=0, le=1, description="Momentum of the running statistics; the paper's, 0.001, is for long runs."
    )
    activation: str = Field("elu", description="elu, relu, or leaky with its slope: leaky0.1.")
    initializer: Literal["kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform"] = Field(
        "kaiming_normal", description="How convolution weights start."
    )

    @field_validator("activation")
    @classmethod
    def _known(cls, activation: str) -> str:
        if not re.fullmatch(r"elu|relu|leaky\d*\.?\d+", activation):
            raise UserError(f"activation: wanted elu, relu, or leaky with its slope, as leaky0.1, got {activation!r}")
        return activation

    @property
    def extents(self) -> Extents:
        """Which patches it takes, and which part of them it predicts."""
        return padded_extents(len(self.filters) - 1, self.unshuffle)

    def without_skips(self) -> ResidualUNetSettings:
        """The same network, all of whose features pass the centre."""
        return self.model_copy(update={"merge": "none"})

    def build(self, out_channels: int) -> ResidualUNet:
        """A network with one output channel per affinity offset, weights drawn from torch's global generator."""
        from ssns.networks.residual_unet import ResidualUNet

        return ResidualUNet(out_channels=out_channels, **self.model_dump(exclude={"type"}))


class MalaUNetSettings(Component):
    """The U-Net of valid convolutions of MALA; it predicts the inner part of what it sees."""

    type: Literal["mala"] = "mala"
    features: PositiveInt = Field(12, description="Channels of the full resolution; 4 is enough for a laptop.")
    growth: PositiveInt = Field(5, description="How many times as many channels each lower level has.")
    depth: PositiveInt = Field(
        3, description="Poolings by 3: 3 sees 14, 106, 106 voxels (z, y, x) around each it predicts; 2: 10, 34, 34."
    )
    merge: Literal["cat", "none"] = Field("cat", description="How the decoder takes the encoder's features.")
    initializer: Literal["kaiming", "xavier", "orthogonal"] = Field(
        "kaiming", description="How convolution weights start."
    )

    @property
    def extents(self) -> Extents:
        """Which patches it takes, and which part of them it predicts."""
        return valid_extents(self.depth)

    def without_skips(self) -> MalaUNetSettings:
        """The same network, all of whose features pass the centre."""
        return self.model_copy(update={"merge": "none"})

    def build(self, out_channels: int) -> MalaUNet:
        """A network with one output channel per affinity offset, weights drawn from torch's global generator."""
        from ssns.networks.mala import MalaUNet

        return MalaUNet(out_channels=out_channels, **self.model_dump(exclude={"type"}))


def _residual_by_default(table: Any) -> Any:
    return {"type": "residual_unet", **table} if isinstance(table, dict) else table


Network = Annotated[
    ResidualUNetSettings | MalaUNetSettings, Field(discriminator="type"), BeforeValidator(_residual_by_default)
]
"""The networks that an experiment may name; a table without a type is of the first one."""
