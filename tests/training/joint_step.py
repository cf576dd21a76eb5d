"""One training step, by one process with a joint batch or by each of several with its part; leaves the gradients."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from toy_training import CHECKPOINT, LABELS, NETWORK, consistency, raw_patches, settings, supervised, volume

from ssns.losses import BinaryCrossEntropy, Dice, SquaredError
from ssns.perturb import Blur, Sequence
from ssns.sampling import Batch, LabelledPatches, RawBatch
from ssns.training.fabric import make_fabric, sum_over_processes
from ssns.training.loop import train
from ssns.training.objectives import CrossSupervision, MeanTeacher, PseudoLabelObjective, WeightSharing
from ssns.training.pretrain import Pretraining
from ssns.training.pseudo_labels import PseudoLabelled
from ssns.training.supervised import Process, Targets
from ssns.training.teachers import make_teacher  # noqa: F401  imported by toy_training

PARTS = 2
NOTHING = Sequence(steps=())
BALANCED = BinaryCrossEntropy(balance="channel")
KINDS = {
    "supervised": BALANCED,
    "pseudo_labels": BALANCED,
    "weight_sharing": BALANCED,
    "mean_teacher": BALANCED,
    "cross": Dice(smooth=1.0),
    "pretraining": None,
}
"""What learns, and its loss of labelled patches, where it has such."""

TEACHERS = {
    "weight_sharing": WeightSharing(), "mean_teacher": MeanTeacher(start="random"), "cross": CrossSupervision()
}  # fmt: skip


class Double(torch.nn.Module):
    """A network in double precision."""

    def __init__(self, network):
        super().__init__()
        self.network = network.double()
        self.extents = network.extents

    def forward(self, raw):
        return self.network(raw.double())


class HiddenMembranes:
    """A task of pre-training that draws nothing, and whose patches count for as much as they have membranes."""

    def perturb(self, patch, generator):
        hidden = patch.raw < 0.5
        return patch.raw.masked_fill(hidden, 0.9), hidden


def labelled_part(number, part):
    """The labelled patches of one part, of which less is known in later parts."""
    batch = LabelledPatches([volume()], (3, 8, 8), 2, seed=5, rank=part)(number)
    batch.valid[:, :, : 3 * part] = False
    return batch


def unlabelled_part(number, part):
    return raw_patches(seed=5, rank=part)(number)


def joined(parts, kind):
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in kind.__annotations__
              if name not in ("places", "partners")}  # fmt: skip
    return kind(**arrays, places=("joined",))


def objective_of(kind, labelled, parts, build):
    """What is minimised, of the patches of some parts."""
    if kind == "supervised":
        return labelled
    unlabelled = lambda number: joined([unlabelled_part(number, part) for part in parts], RawBatch)  # noqa: E731
    if kind == "pretraining":
        settings = SimpleNamespace(task=HiddenMembranes(), clean=NOTHING, loss=SquaredError())
        return Pretraining(build(1), unlabelled, settings=settings, process=labelled.process)
    if kind == "pseudo_labels":
        bold = np.arange(LABELS.max() + 1, dtype=np.uint32) // 2
        sampler = lambda number: joined([labelled_part(number + 7, part) for part in parts], Batch)  # noqa: E731
        apart = np.uint32([[4, 5], [8, 9]])
        return PseudoLabelled(labelled, sampler, bold, apart, PseudoLabelObjective(weight=0.5))
    return consistency(
        labelled=labelled,
        sampler=unlabelled,
        build=build,
        teacher=TEACHERS[kind],
        clean=NOTHING,
        strong=Sequence(steps=(Blur(sigma=(1, 1), size=3),)),
    )


def gradients(kind, folder, normalization):
    """Gradients of one step, by name; of all parts, or of this process's own."""
    steps = settings(steps=1, threads=1)
    fabric = make_fabric(steps)
    fabric.launch()
    parts = range(PARTS) if fabric.world_size == 1 else [fabric.global_rank]
    torch.manual_seed(0)
    network = NETWORK.model_copy(update={"normalization": normalization})
    build = lambda channels=3: Double(network.build(channels))  # noqa: E731
    process = Process(torch.device("cpu"), 0, fabric.global_rank, sum_over_processes(fabric))
    labelled = supervised(network=build(), augmentation=NOTHING, loss=KINDS[kind], process=process)
    labelled.sampler = lambda number: joined([labelled_part(number, part) for part in parts], Batch)
    labelled.targets = Targets(labelled.targets.offsets, "symmetric")
    objective = objective_of(kind, labelled, parts, build)
    students, found, values = objective.network, {}, {}
    inner = objective.loss

    def loss_of(batch, step):
        terms = inner(batch, step)
        values.update({name: term.item() for name, term in terms.items()})
        return terms

    def keep(step):
        found.update({name: parameter.grad.clone() for name, parameter in students.named_parameters()})

    objective.loss, objective.after_update = loss_of, keep
    train(objective, CHECKPOINT, steps, folder, fabric=fabric)
    return {"gradients": found, "losses": values}, fabric


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for kind in KINDS:
        result, fabric = gradients(kind, folder / f"run-{kind}", "group")
        torch.save(result, folder / f"{kind}-{fabric.global_rank}.pt")
