"""What training minimises, as settings; torch-free. The classes that do the work are in the modules of their names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ssns.errors import UserError
from ssns.losses import AbsoluteError, BinaryCrossEntropy, SquaredError
from ssns.perturb import Engine, FlipTranspose, Patch, Sequence, paper_families
from ssns.perturb.draws import UnitRange
from ssns.settings import Component
from ssns.training.settings import TrainingSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor

Statistics = Literal["running", "batch"]
"""What batch normalisation uses where targets are made: its running statistics, or those of the clean batch."""

StudentBatch = Literal["separate", "joint"]
"""Whether the student's batch normalisation takes labelled patches and views apart, or both in one batch."""


class WeightSharing(Component):
    """The student, without gradients, is its own teacher (the paper's "WS")."""

    type: Literal["weight_sharing"] = "weight_sharing"
    statistics: Statistics = Field(
        "running", description="Batch normalisation of targets: running statistics, or of the batch, as in the paper."
    )


class MeanTeacher(Component):
    """The teacher is a moving average of the student (the paper's "EMA"; Tarvainen and Valpola, arXiv:1703.01780)."""

    type: Literal["mean_teacher"] = "mean_teacher"
    decay: float = Field(0.99, ge=0, lt=1, description="Share of the average that a step keeps, at most.")
    warmup: bool = Field(True, description="Keep 1 - 1/(t + 1) at step t as long as that is less.")
    buffers: Literal["averaged", "copied", "own"] = Field(
        "averaged", description="Running statistics: averaged, the student's, or of the teacher's own batches."
    )
    statistics: Statistics = Field(
        "running", description="Batch normalisation of targets: running statistics, or of the batch, as in the paper."
    )
    start: Literal["copy", "random"] = Field(
        "copy", description="The teacher begins as a copy of the student, or at random as in the paper's code."
    )

    @model_validator(mode="after")
    def _statistics_of_its_own(self) -> Self:
        if self.buffers == "own" and self.statistics == "running":
            raise UserError(
                'buffers: wanted averaged or copied with statistics = "running", got own, which only batches of the'
                ' teacher move: set statistics = "batch"'
            )
        return self


class CrossSupervision(Component):
    """Two students, each the other's teacher (Chen et al. 2021, arXiv:2106.01226); the first one predicts.

    Targets are affinities, of unperturbed patches; there, classes that the other network takes for most probable.
    """

    type: Literal["cross"] = "cross"
    statistics: Statistics = Field("running", description="Batch normalisation of targets.")


TeacherSettings = Annotated[WeightSharing | MeanTeacher | CrossSupervision, Field(discriminator="type")]


class Steady(Component):
    """The full weight from the start."""

    type: Literal["steady"] = "steady"

    def share(self, step: int) -> float:  # noqa: ARG002  every ramp is asked alike
        """Share of the weight at ``step``."""
        return 1.0


class SigmoidRamp(Component):
    """exp(-5 (1 - t / steps)^2), and 1 from ``steps`` on (Laine and Aila 2017, arXiv:1610.02242)."""

    type: Literal["sigmoid"] = "sigmoid"
    steps: int = Field(1000, gt=0, description="Steps until the full weight; 100000 in the paper's code.")

    def share(self, step: int) -> float:
        """Share of the weight at ``step`` (from 0)."""
        return math.exp(-5 * (1 - min(step, self.steps) / self.steps) ** 2)


Ramp = Annotated[Steady | SigmoidRamp, Field(discriminator="type")]


class CutMix(Component):
    """Boxes of labelled and unlabelled patches change places (Yun et al. 2019, arXiv:1905.04899)."""

    plane: float = Field(0.25, ge=0, le=1, description="How often a rectangle changes place in all sections.")
    depth: float = Field(0.25, ge=0, le=1, description="How often whole sections from one on change place.")
    size: UnitRange = Field((0.25, 0.75), description="Range of the share of the extent that changes place.")

    @model_validator(mode="after")
    def _at_most_always(self) -> Self:
        if self.plane + self.depth > 1:
            raise UserError(f"depth: wanted plane + depth of at most 1, got {self.plane:g} + {self.depth:g}: lower one")
        return self


class Restoration(Component):
    """Raw is restored from what perturbations left of it; every voxel counts (the paper's pre-training)."""

    type: Literal["restoration"] = "restoration"
    perturbations: Engine = Field(default_factory=paper_families, description="What the network has to undo.")

    def perturb(self, patch: Patch, generator: Generator) -> tuple[Tensor, Tensor]:
        """What the network sees of a patch, and which voxels of the clean one count, bool."""
        import torch

        seen = self.perturbations.apply(patch, generator)
        return seen.raw, torch.ones_like(seen.raw, dtype=torch.bool)


class MaskedBlocks(Component):
    """Blocks of a grid are blanked, and only they count (He et al. 2022, arXiv:2111.06377, with a U-Net)."""

    type: Literal["masked_blocks"] = "masked_blocks"
    block: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((4, 16, 16), description="Voxels of a block, z, y, x.")
    share: float = Field(0.5, gt=0, lt=1, description="Share of the blocks that is blanked.")
    value: float = Field(0.0, ge=0, le=1, description="What they hold.")

    def perturb(self, patch: Patch, generator: Generator) -> tuple[Tensor, Tensor]:
        """What the network sees of a patch, and which voxels of the clean one count, bool."""
        import torch

        grid = [-(-extent // step) for extent, step in zip(patch.shape, self.block, strict=True)]
        count = math.prod(grid)
        hidden = torch.zeros(count, dtype=torch.bool)
        if count < 2:
            raise UserError(
                f"block: wanted at least two in a patch of {patch.shape}, got one of {self.block}: make it smaller"
            )
        hidden[torch.randperm(count, generator=generator)[: min(count - 1, max(1, round(self.share * count)))]] = True
        hidden = hidden.reshape(grid)
        for axis, (step, extent) in enumerate(zip(self.block, patch.shape, strict=True)):
            hidden = hidden.repeat_interleave(step, dim=axis).narrow(axis, 0, extent)
        hidden = hidden.to(patch.raw.device)
        return patch.raw.masked_fill(hidden, self.value), hidden


PretrainingTask = Annotated[Restoration | MaskedBlocks, Field(discriminator="type")]


class PretrainingSettings(Component):
    """What the network learns from raw alone, before it sees labels."""

    task: PretrainingTask = Field(Restoration(), description="What is to be restored.")
    loss: Annotated[SquaredError | AbsoluteError, Field(discriminator="type")] = Field(
        SquaredError(), description="Of the restored raw."
    )
    skips: Literal["none", "as_network"] = Field(
        "none", description="Whether the decoder takes the encoder's features: without, all must pass the centre."
    )
    clean: Engine = Field(Sequence(steps=(FlipTranspose(),)), description="What patches go through before the task.")
    training: TrainingSettings = Field(TrainingSettings(), description="The training loop of the pre-training.")

    @property
    def needs_partner(self) -> bool:
        """Whether patches must come with a partner."""
        asked = isinstance(self.task, Restoration) and self.task.perturbations.needs_partner
        return asked or self.clean.needs_partner


class TransferSettings(Component):
    """What training takes over from pre-training, from trained weights or from a teacher."""

    checkpoint: str | None = Field(
        None, description="Weights to start from, a file or zoo:NAME; none: of this experiment's pre-training."
    )
    parts: Literal["encoder", "encoder_decoder", "all"] = Field("encoder", description="What is taken over.")
    learning_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the learning rate for what was taken over; 0 freezes it, running statistics included.",
    )


class SupervisedObjective(Component):
    """Labelled patches alone."""

    type: Literal["supervised"] = "supervised"


class ConsistencyObjective(Component):
    """Labelled patches, and predictions for unlabelled ones that agree with a teacher's under perturbation."""

    type: Literal["consistency"] = "consistency"
    teacher: TeacherSettings = Field(MeanTeacher(), description="What the student is compared with.")
    clean: Engine = Field(
        Sequence(steps=(FlipTranspose(),)), description="What unlabelled patches go through before teacher and student."
    )
    strong: Engine = Field(default_factory=paper_families, description="What only the student's view goes through.")
    orientations: int = Field(
        1, ge=1, le=16, description="Of the clean patch that the teacher's affinities are averaged over."
    )
    views: int = Field(1, gt=0, description="Perturbed views of each unlabelled patch.")
    batch: StudentBatch = Field(
        "separate",
        description="Batch normalisation of the student: views apart, running statistics of labelled patches alone; or"
        " joint, as in the paper.",
    )
    loss: Annotated[SquaredError | BinaryCrossEntropy, Field(discriminator="type")] = Field(
        SquaredError(), description="Of the student's logits and the teacher's affinities."
    )
    weight: float = Field(1.0, ge=0, description="Of the consistency, beside 1 for the labelled loss.")
    ramp: Ramp = Field(Steady(), description="How the weight rises after the warm-up.")
    warmup: int = Field(750, ge=0, description="Steps of labelled patches alone before the consistency begins.")
    confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="Count only targets at least as sure: above this, or below 1 less it; none: all.",
    )
    boundaries: Literal["kept", "masked"] = Field(
        "kept",
        description="Targets near a boundary, off by up to a voxel where a warp interpolates: without them a network"
        " learns less of membranes.",
    )
    geometry: Literal["honest", "reference"] = Field(
        "honest", description="reference: affinities moved as if they were images, as in the paper's code."
    )
    cut_mix: CutMix | None = Field(
        None, description="Exchange of boxes between labelled and unlabelled patches; none: no exchange."
    )

    @property
    def needs_partner(self) -> bool:
        """Whether patches must come with a partner."""
        return self.clean.needs_partner or self.strong.needs_partner

    def weight_at(self, step: int) -> float:
        """The weight of the consistency at ``step``; the ramp begins where the warm-up ends."""
        return self.weight * self.ramp.share(step - self.warmup) if step >= self.warmup else 0.0


class PseudoLabelObjective(Component):
    """Labelled patches, and unlabelled raw as a network trained before has segmented it, where that is certain."""

    type: Literal["pseudo_labels"] = "pseudo_labels"
    teacher_steps: PositiveInt | None = Field(
        None,
        description="Optimiser steps of the first network, on labelled patches alone and else as training says; none:"
        " training.steps.",
    )
    start: Literal["teacher", "anew"] = Field(
        "teacher",
        description="What learns from the segmentation takes weights over from that network, of the parts that"
        " transfer.parts names, or begins anew.",
    )
    margin: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Unlabelled regions are segmented this far below and above the threshold that is chosen; edges of"
        " which the two say different things are not learned.",
    )
    voxels: float = Field(
        1.2e8,
        gt=0,
        description="Of unlabelled raw that are segmented, about: of larger regions, boxes drawn from them, of each at"
        " least one.",
    )
    weight: float = Field(1.0, ge=0, description="Of pseudo-labelled patches, beside 1 for the labelled ones.")


Objective = Annotated[SupervisedObjective | ConsistencyObjective | PseudoLabelObjective, Field(discriminator="type")]
"""The objectives that `train` may have."""
