"""Perturbations of the whole patch's geometry: mirror images and transposes, scale, elastic deformation.

All of them stay in the plane, but for the mirror image along z: sections are as thick as they were cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ssns.affinities import GRID_SYMMETRIES, GridSymmetry
from ssns.perturb.carrying import IDENTITY, Linear
from ssns.perturb.draws import Count, integers
from ssns.perturb.patch import Motion
from ssns.perturb.resampling import Sampling, reflect_pad, reflected, resize_sections, warp_sections
from ssns.space import Triple, triple

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor


def zoom_sections(volume: Tensor, window: tuple[int, int]) -> Tensor:
    """The centred ``window`` of each section, resized to the section's extent.

    Args:
        volume: (..., y, x); floats are interpolated, integers and booleans take the nearest voxel.
        window: Extent (y, x) that is seen, of the same parity as the section's; what lies outside is reflected.
    """
    height, width = volume.shape[-2:]
    margin = ((window[0] - height) // 2, (window[1] - width) // 2)
    return resize_sections(reflect_pad(volume, margin), (height, width))


def spline_matrix(controls: int, extent: int, margin: int = 0) -> Tensor:
    """Weights (extent, controls), float32, of a cubic spline through evenly spaced values.

    Args:
        controls: Number of values; the first and the last lie at the outermost voxels of the grown extent.
        extent: Number of voxels to evaluate at.
        margin: Voxels by which the values reach beyond these on each side.

    Returns:
        A matrix whose product with the values is the interpolating spline, mirrored at its ends: equal to
        ``scipy.ndimage.zoom(values, order=3, mode="mirror")`` cropped by ``margin``.
    """
    import torch

    knots = torch.arange(controls)
    collocation = torch.zeros(controls, controls, dtype=torch.float64)
    for neighbour, share in ((-1, 1 / 6), (0, 4 / 6), (1, 1 / 6)):
        collocation[knots, reflected(knots + neighbour, controls)] += share
    grown = extent + 2 * margin
    place = (torch.arange(extent, dtype=torch.float64) + margin) * ((controls - 1) / max(1, grown - 1))
    knot = place.floor()
    t = place - knot
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    basis = torch.zeros(extent, controls, dtype=torch.float64)
    for neighbour, weight in zip((-1, 0, 1, 2), weights, strict=True):
        column = reflected(knot.long() + neighbour, controls)[:, None]
        basis.scatter_add_(1, column, weight[:, None] / 6)
    matrix: Tensor = torch.linalg.solve(collocation, basis, left=False)
    return matrix.float()


def smooth_field(control: Tensor, shape: Triple, margin: int = 0) -> Tensor:
    """A field (n, z, y, x) that runs smoothly through control values (n, kz, ky, kx).

    Args:
        control: Values on a grid whose outermost planes are the outermost voxels of ``shape``, grown in the plane.
        shape: Extent (z, y, x) of the field.
        margin: Voxels along y and x by which the grid reaches beyond ``shape`` on each side.
    """
    along_z, along_y, along_x = (
        spline_matrix(controls, extent, grown).to(control)
        for controls, extent, grown in zip(control.shape[1:], shape, (0, margin, margin), strict=True)
    )
    # From the last axis to the first, so that only the last product is as large as the field.
    field = along_y @ (control @ along_x.T)
    return (along_z @ field.flatten(2)).reshape(-1, *shape)


@dataclass(frozen=True)
class Zoom:
    """The move of a change of scale.

    Attributes:
        window: Extent (y, x) of what is seen afterwards: smaller than the patch magnifies.
        shape: Extent (y, x) of the patch.
    """

    window: tuple[int, int]
    shape: tuple[int, int]

    exact: ClassVar = False

    @property
    def linear(self) -> Linear:
        """Displacements shrink where the patch is magnified."""
        return (self.window[0] / self.shape[0], 0.0), (0.0, self.window[1] / self.shape[1])

    def apply(self, array: Tensor, /) -> Tensor:
        """The window, resized to the extent of ``array``."""
        return zoom_sections(array, self.window)

    def displacement(self, shape: Triple, device: torch.device) -> Tensor:
        """Towards the centre where the patch is magnified, away from it where it is reduced."""
        import torch

        along_y, along_x = (
            ((torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) * (seen / n - 1)).float().to(device)
            for n, seen in zip(shape[1:], self.window, strict=True)
        )
        return torch.stack([along_y[:, None].expand(shape[1:]), along_x.expand(shape[1:])])[:, None]


@dataclass(frozen=True, eq=False)
class Deformation:
    """The move of an elastic deformation.

    Attributes:
        control: dy and dx on the control grid, float32 (2, kz, ky, kx), voxels.
        margin: Voxels by which the grid reaches beyond the patch along y and x.
        sampling: How floats are read between voxels.
    """

    control: Tensor
    margin: int
    sampling: Sampling = "linear"

    exact: ClassVar = False
    linear: ClassVar = IDENTITY

    def apply(self, array: Tensor, /) -> Tensor:
        """Each voxel from where the deformation has it, reflected outside."""
        field = self.displacement(triple(array.shape[-3:]), array.device)
        return warp_sections(array, field, self.sampling)

    def displacement(self, shape: Triple, device: torch.device) -> Tensor:
        """The field that runs smoothly through the control points."""
        return smooth_field(self.control.to(device), shape, self.margin)


class FlipTranspose(Motion):
    """Mirror images along z, y, x and the exchange of y and x: all sixteen alike, the unchanged patch among them.

    A patch that is not square is not transposed: all patches of a batch have one shape.
    """

    type: Literal["flip_transpose"] = Field("flip_transpose", description="Mirror images and transposes.")

    def draw(self, shape: Triple, generator: Generator) -> GridSymmetry:
        """One of the symmetries that keep ``shape`` (z, y, x)."""
        square = shape[1] == shape[2]
        allowed = [symmetry for symmetry in GRID_SYMMETRIES if square or not symmetry.transpose]
        return allowed[int(integers(generator, 0, len(allowed) - 1))]


class Scale(Motion):
    """In-plane magnification or reduction about the centre; what a reduced patch shows around itself is reflected."""

    type: Literal["scale"] = Field("scale", description="Magnification or reduction in the plane.")
    factor: float = Field(1.5, ge=1, description="Largest magnification and reduction.")

    def draw(self, shape: Triple, generator: Generator) -> Zoom:
        """A window around the centre of ``shape`` (z, y, x), grown or cut by whole voxels on all sides alike."""
        _, height, width = shape
        # Rounded so that windows of 160 voxels begin at the paper's: the even number at or below 160 / factor.
        cut = -(-(height - int(height / self.factor)) // 2)
        grown = int(integers(generator, -cut, (int(height * self.factor) - height) // 2))
        window = (_window(height, grown), _window(width, round(grown * width / height)))
        return Zoom(window, (height, width))


def _window(extent: int, grown: int) -> int:
    """``extent`` with ``grown`` voxels more on both sides, or fewer, but one or two at least."""
    return max(extent + 2 * grown, 2 - extent % 2)


class Elastic(Motion):
    """A smooth random deformation in the plane, a little different from section to section."""

    type: Literal["elastic"] = Field("elastic", description="Smooth deformation in the plane.")
    spacing: tuple[Count, Count, Count] = Field((4, 40, 40), description="Voxels between control points, z, y, x.")
    sigma: float = Field(2.0, ge=0, description="Standard deviation of the displacements there, in voxels.")
    margin: int = Field(20, ge=0, description="Voxels by which the control points reach beyond the patch in y and x.")
    sampling: Sampling = Field("linear", description="How raw is read between voxels; the paper's code: nearest.")

    def draw(self, shape: Triple, generator: Generator) -> Deformation:
        """Displacements of the control points of a patch of ``shape`` (z, y, x)."""
        import torch

        grown = (shape[0], shape[1] + 2 * self.margin, shape[2] + 2 * self.margin)
        grid = [max(1, round(extent / step)) for extent, step in zip(grown, self.spacing, strict=True)]
        return Deformation(self.sigma * torch.randn((2, *grid), generator=generator), self.margin, self.sampling)
