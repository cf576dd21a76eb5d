"""A synthetic volume: the tissue grown once, then any box of it imaged on demand.

1. Growth: skeletons and organelles of the whole, in nanometres, which take a tenth of the memory that raw would.
2. For a box: where in the tissue each section's voxels lie (jitter, jumps, folds, and a smooth warp that makes
   membranes uneven), what is there (rendering), and how it is imaged (blur, shot noise, contrast, lost sections).

Each voxel is a function of its own coordinates alone, and filters read a halo: boxes agree to the bit wherever they
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssns.errors import UserError
from ssns.space import Box
from ssns.synthetic import noise
from ssns.synthetic.bins import Bins, sort_into_bins
from ssns.synthetic.growth import Growth
from ssns.synthetic.organelles import Capsules, Placement, skeleton_capsules
from ssns.synthetic.render import CAP_NM, TILE, Optics, Scene, render
from ssns.synthetic.sections import Section, largest_shift, plan_sections
from ssns.synthetic.settings import SyntheticSettings

MARGIN_NM = 500.0
"""Tissue grown beyond the volume's faces, so that these look like the middle."""
WARPS_NM = ((260.0, 26.0), (110.0, 6.0))
"""Spacing and amplitude of the waves of the warp; mild enough to keep neurites connected."""
FINE_VOXELS, COARSE_VOXELS = 1.3, 6.0
"""Size of the cytoplasm's grain, and of the patches in which membranes are darker or wider apart."""
SKEW = np.float32(0.3)
"""How much darker than light the grain's extremes are."""
SHOT_VOXELS = 0.62
"""Correlation of shot noise between neighbouring voxels."""
FINE, COARSE, SHOT, WARP = range(4)
"""Streams of hashed noise; the warp's go on from its number."""
NEAR_NM = 150.0
"""Gaps between skeletons are nowhere wider than twice this."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The voxels drawn for a box: it and a halo for the filters, enlarged to whole tiles."""

    start: tuple[int, int]
    tiles: tuple[int, int]

    @classmethod
    def around(cls, box: Box, halo: int) -> _Frame:
        start = tuple((box.start[axis] - halo) // TILE for axis in (1, 2))
        stop = tuple(-((-box.stop[axis] - halo) // TILE) for axis in (1, 2))
        return cls((start[0] * TILE, start[1] * TILE), (stop[0] - start[0], stop[1] - start[1]))

    @property
    def shape(self) -> tuple[int, int]:
        return self.tiles[0] * TILE, self.tiles[1] * TILE


class SyntheticVolume:
    """Synthetic EM with exact labels, read box by box.

    Args:
        settings: What it is made of.

    Attributes:
        settings: As given.
        count: Number of neurites grown: labels are 1 to ``count``. Ids of neurites that only pass beside the volume
            do not occur.
    """

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings
        self._voxel = np.array(settings.voxel_size_nm)
        self._sections = plan_sections(settings.defects, settings.seed, settings.shape)
        tissue, organelles, greys = np.random.default_rng(settings.seed).spawn(3)
        margin = np.maximum(MARGIN_NM, NEAR_NM + self._voxel * largest_shift(settings.defects))
        bounds = np.array([-margin, self._voxel * settings.shape + margin])
        skeletons = Growth(settings.neurites, bounds, tissue).run()
        self.count = len(skeletons.dendrite) - 1
        self._neurites = skeleton_capsules(skeletons)
        self._organelles, self._synapses = Placement(settings.organelles, skeletons, organelles).run()
        typical = np.where(skeletons.dendrite, 182.0, 159.0)
        self._brightness = typical + 11.0 * greys.standard_normal(self.count + 1).clip(-2.0, 2.0)

    def read(self, box: Box) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        """Image a box.

        Args:
            box: Voxels of the volume.

        Returns:
            ``raw`` uint8 and ``labels`` uint32 (z, y, x); label 0 is membrane and extracellular space.

        Raises:
            UserError: The box is empty, or not within the volume.
        """
        whole = Box.of_shape(self.settings.shape)
        if not box.size or not whole.contains(box):
            raise UserError(f"box: wanted voxels within {whole}, got {box}: cut the box")
        frame = _Frame.around(box, self._halo)
        sections = self._sections[box.start[0] : box.stop[0]]
        planes = np.array([section.plane for section in sections])
        grey = np.empty((len(sections), *frame.shape), np.float32)
        labels = np.empty(grey.shape, np.uint32)
        corners = self._corners(sections, frame)
        render(self._scene(corners), self._optics, corners, self._textures(planes, frame), grey, labels)
        raw = np.empty(box.shape, np.uint8)
        for index, section in enumerate(sections):
            raw[index] = self._image(section, grey[index : index + 1], frame, box)
        (_, y, x) = box.relative_to((0, *frame.start)).slices
        return raw, labels[:, y, x]

    @property
    def _halo(self) -> int:
        blur = np.hypot(self.settings.imaging.blur_voxels, self.settings.defects.blur_voxels)
        return noise.reach(float(blur))

    @property
    def _optics(self) -> Optics:
        imaging = self.settings.imaging
        return Optics(
            self.settings.voxel_size_nm[0],
            imaging.membrane_nm,
            0.5 * imaging.cleft_nm,
            0.5 * imaging.background_nm,
            imaging.texture,
        )

    def _corners(self, sections: list[Section], frame: _Frame) -> NDArray[np.float64]:
        """Position in the tissue of the corners of a frame's tiles: (z, tiles_y + 1, tiles_x + 1, 3) in nm."""
        y = frame.start[0] + TILE * np.arange(frame.tiles[0] + 1.0)[:, None]
        x = frame.start[1] + TILE * np.arange(frame.tiles[1] + 1.0)[None, :]
        points = np.empty((len(sections), y.size, x.size, 3))
        for index, section in enumerate(sections):
            fold_y, fold_x = section.fold.displacement(y, x) if section.fold else (0.0, 0.0)
            points[index, ..., 0] = section.plane + 0.5
            points[index, ..., 1] = y + section.shift[0] + fold_y
            points[index, ..., 2] = x + section.shift[1] + fold_x
        points *= self._voxel
        shifts = np.zeros_like(points)
        for octave, (spacing, amplitude) in enumerate(WARPS_NM):
            for axis in range(3):
                seed = self._stream(WARP + 3 * octave + axis)
                shifts[..., axis] += amplitude * noise.lattice(seed, points, spacing)
        return points + shifts

    def _scene(self, corners: NDArray[np.float64]) -> Scene:
        region = corners.reshape(-1, 3).min(0), corners.reshape(-1, 3).max(0)
        tile = float(np.linalg.norm(TILE * self._voxel[1:]))
        centres = self._synapses.position
        reach = (self._synapses.radius + tile)[:, None]
        return Scene(
            self._neurites,
            _bin_capsules(self._neurites, NEAR_NM + 2.0 * CAP_NM + tile, region),
            self._organelles,
            _bin_capsules(self._organelles, float(self._voxel[0]) + tile, region),
            self._synapses,
            sort_into_bins(centres - reach, centres + reach, region),
            self._brightness,
        )

    def _textures(self, planes: NDArray[np.int64], frame: _Frame) -> NDArray[np.float32]:
        fine, coarse = (
            noise.smooth(self._stream(stream), planes, frame.start, frame.shape, sigma)
            for stream, sigma in ((FINE, FINE_VOXELS), (COARSE, COARSE_VOXELS))
        )
        # Cytoplasm is speckled: dark grains stand out farther than light ones.
        return np.stack([fine - SKEW * (fine * fine - 1.0), coarse])

    def _image(self, section: Section, grey: NDArray[np.float32], frame: _Frame, box: Box) -> NDArray[np.uint8]:
        """One section as the microscope stores it: blurred, with shot noise, at its contrast; (y, x)."""
        if section.blank:
            return np.zeros(box.shape[1:], np.uint8)
        imaging = self.settings.imaging
        y = np.arange(frame.start[0], frame.start[0] + frame.shape[0], dtype=float)[:, None]
        x = np.arange(frame.start[1], frame.start[1] + frame.shape[1], dtype=float)[None, :]
        if section.fold:
            grey = grey * section.fold.shade(y, x).astype(np.float32)
        sigma = float(np.hypot(imaging.blur_voxels, section.blur))
        margin = noise.reach(sigma)
        start = frame.start[0] + margin, frame.start[1] + margin
        inner = box.relative_to((box.start[0], *start)).slices
        seen = noise.blur(grey, sigma)[inner][0]
        plane = np.array([section.plane])
        shots = noise.smooth(self._stream(SHOT), plane, box.start[1:], box.shape[1:], SHOT_VOXELS)[0]
        noisy = seen + imaging.noise * np.sqrt(np.maximum(seen, 0.0) / 128.0) * shots
        stored: NDArray[np.float32] = 128.0 + section.contrast * (noisy - 128.0) + section.brightness
        return np.rint(stored).clip(0.0, 255.0).astype(np.uint8)

    def _stream(self, number: int) -> int:
        """Seed of one of the noises, as a signed 64-bit number."""
        return (self.settings.seed * 64 + number) % 2**62


def _bin_capsules(capsules: Capsules, reach: float, region: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Bins:
    margin = (capsules.radii.max(1) + reach)[:, None]
    return sort_into_bins(capsules.ends.min(1) - margin, capsules.ends.max(1) + margin, region)
