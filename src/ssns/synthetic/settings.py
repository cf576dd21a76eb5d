"""What a synthetic volume is made of, in settings; sizes in nanometres so that they hold at any voxel size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ssns.settings import Component

if TYPE_CHECKING:
    from ssns.synthetic.volume import SyntheticVolume

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Chance = Annotated[float, Field(ge=0.0, le=0.5)]
Length = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(gt=0)]


class Neurites(Component):
    """Thick dendrites with spines, then thin axons with boutons in all the space that is left."""

    dendrite_share: Probability = Field(
        0.34, description="Share of the volume that dendrite trunks grow into, at most."
    )
    dendrite_radius_nm: Length = Field(330.0, description="Median radius of dendrite trunks as they grow.")
    axon_radius_nm: Length = Field(80.0, description="Median radius of axons as they grow (they then fill the gaps).")
    radius_spread: Probability = Field(0.35, description="Standard deviation of the logarithm of the radii.")
    tortuosity: Probability = Field(0.35, description="How much a neurite may turn: 0 straight, 1 a random walk.")
    spine_spacing_nm: Length = Field(700.0, description="Mean distance between two spines of a dendrite.")
    bouton_spacing_nm: Length = Field(2200.0, description="Mean distance between two boutons of an axon.")
    bouton_radius_nm: Length = Field(190.0, description="Median radius of boutons.")
    branch_spacing_nm: Length = Field(5000.0, description="Mean distance between two branches of a neurite.")


class Organelles(Component):
    """What lies inside the neurites."""

    mitochondrion_spacing_nm: Length = Field(
        1000.0, description="Mean free distance between mitochondria of a neurite."
    )
    mitochondrion_length_nm: Length = Field(1100.0, description="Mean length of mitochondria.")
    mitochondrion_radius_nm: Length = Field(150.0, description="Largest radius of mitochondria.")
    reticulum_radius_nm: Length = Field(17.0, description="Mean radius of tubules of the endoplasmic reticulum.")
    microtubule_radius_nm: Length = Field(11.0, description="Radius of microtubules.")
    vesicle_radius_nm: Length = Field(20.0, description="Mean radius of synaptic vesicles.")
    vesicles_per_bouton: Count = Field(90, description="Mean number of vesicles of a bouton.")
    synapse_radius_nm: Length = Field(150.0, description="Mean radius of synapses (of their post-synaptic density).")


class Imaging(Component):
    """How the microscope sees a section: grey values 0 to 255."""

    membrane_nm: Length = Field(9.0, description="Thickness of a membrane.")
    cleft_nm: Length = Field(17.0, description="Distance between the membranes of two neighbours, middle to middle.")
    background_nm: Length = Field(27.0, description="Width of the label 0 between two neighbours.")
    blur_voxels: Length = Field(0.7, description="Standard deviation of the microscope's point spread, in the plane.")
    noise: Annotated[float, Field(ge=0.0)] = Field(7.0, description="Standard deviation of shot noise at grey 128.")
    texture: Annotated[float, Field(ge=0.0)] = Field(21.0, description="Standard deviation of the cytoplasm's grain.")


class Defects(Component):
    """What goes wrong when sections are cut, mounted and imaged; drawn for each section by itself."""

    jitter_voxels: Annotated[float, Field(ge=0.0)] = Field(
        0.6, description="Standard deviation of each section's displacement along y and x."
    )
    jump_probability: Chance = Field(0.01, description="Chance that alignment jumps before a section, for good.")
    jump_voxels: Annotated[float, Field(ge=0.0, le=64.0)] = Field(12.0, description="Largest jump along y and x.")
    missing_probability: Chance = Field(0.005, description="Chance that a section is lost and stored as black.")
    repeated_probability: Chance = Field(
        0.005, description="Chance that a section is lost and stored as its predecessor."
    )
    contrast_probability: Probability = Field(0.02, description="Chance of a section of low contrast.")
    fold_probability: Probability = Field(0.01, description="Chance of a fold in a section.")
    blur_probability: Probability = Field(0.02, description="Chance of a section out of focus.")
    blur_voxels: Length = Field(2.0, description="Standard deviation of the blur of a section out of focus.")
    contrast_spread: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.08, description="Standard deviation of every section's relative contrast and brightness."
    )


class SyntheticSettings(Component):
    """Synthetic EM of dense neuropil with exact labels."""

    shape: tuple[Count, Count, Count] = Field((50, 256, 256), description="Voxels along z, y, x.")
    voxel_size_nm: tuple[Length, Length, Length] = Field((30.0, 6.0, 6.0), description="Voxel size along z, y, x.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Another seed is another tissue.")
    neurites: Neurites = Field(Neurites(), description="Sizes and density of the neurites.")
    organelles: Organelles = Field(Organelles(), description="Sizes and density of the organelles.")
    imaging: Imaging = Field(Imaging(), description="Membranes, blur and noise.")
    defects: Defects = Field(Defects(), description="Defects of serial sections.")

    def build(self) -> SyntheticVolume:
        """Grow the tissue: skeletons and organelles of the whole volume, which blocks are then rendered from."""
        from ssns.synthetic.volume import SyntheticVolume

        return SyntheticVolume(self)
