"""A training of seconds: a network of two levels on a volume whose membranes are dark."""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from ssns.affinities import NEAREST
from ssns.checkpoint import Checkpoint
from ssns.losses import BinaryCrossEntropy
from ssns.networks import ResidualUNetSettings
from ssns.perturb import Noise, Sequence
from ssns.perturb.geometry import FlipTranspose
from ssns.sampling import LabelledPatches, LabelledVolume, RawPatches, RawVolume
from ssns.space import Box
from ssns.training import ConsistencyObjective, TrainingSettings
from ssns.training.consistency import Consistency
from ssns.training.loop import train
from ssns.training.settings import AdamW, Cosine
from ssns.training.supervised import Process, Supervised, Targets
from ssns.training.teachers import make_teacher
from ssns.volume import from_array
from ssns.volume.normalization import IntensityRange, TypeNormalization

NETWORK = ResidualUNetSettings(filters=(4, 8), batch_momentum=0.1)
PATCH = (3, 8, 8)
LABELS = np.kron(np.arange(1, 17).reshape(1, 4, 4), np.ones((6, 5, 5))).astype(np.uint16)
RAW = np.where((np.arange(20) % 5 == 0)[:, None] | (np.arange(20) % 5 == 0), 30, 200) * np.ones((6, 1, 1))
CHECKPOINT = Checkpoint(NETWORK, {}, NEAREST, TypeNormalization(), {"raw": IntensityRange(0, 255)})


def settings(**changes):
    """Eight steps, all that is due every few of them, validation whenever its turn comes."""
    table = {
        "steps": 8, "patch": PATCH, "optimizer": AdamW(lr=1e-2), "schedule": Cosine(warmup=2), "precision": "fp32",
        "device": "cpu", "log_every": 2, "save_every": 3, "preview_every": 4, "validate_every": 4,
        "validation_share": 1.0,
    }  # fmt: skip
    return TrainingSettings(**(table | changes))


def volume(raw=RAW, labels=LABELS):
    box = Box.of_shape(labels.shape)
    return LabelledVolume(
        from_array(raw.astype(np.float32)), from_array(labels), box.start, (box,), IntensityRange(0, 255)
    )


def supervised(
    network_seed=0, *, network=NETWORK, sampler=None, augmentation=None, border="symmetric", seed=0, rank=0, **changes
):
    torch.manual_seed(network_seed)
    built = network.build(3) if isinstance(network, ResidualUNetSettings) else network
    table = {
        "loss": BinaryCrossEntropy(),
        "augmentation": augmentation or Sequence(steps=(FlipTranspose(), Noise(probability=0.5))),
        "targets": Targets(NEAREST, border, shrink=built.extents.shrink),
        "process": Process(torch.device("cpu"), seed, rank),
    }
    return Supervised(
        built, sampler or LabelledPatches([volume()], PATCH, 2, seed=seed, rank=rank), **(table | changes)
    )


def raw_patches(batch=2, seed=0, **changes):
    raw = from_array(RAW.astype(np.float32))
    return RawPatches(
        [RawVolume(raw, (Box.of_shape(RAW.shape),), IntensityRange(0, 255))], PATCH, batch, seed=seed, **changes
    )


def consistency(
    network_seed=0,
    *,
    network=NETWORK,
    labelled=None,
    sampler=None,
    build=None,
    accumulate=1,
    autocast=nullcontext,
    **changes,
):
    """Students of two levels and a mean teacher whose student sees noise and mirror images."""
    torch.manual_seed(network_seed)
    table = {"strong": Sequence(steps=(FlipTranspose(), Noise())), "cut_mix": None, "warmup": 0}
    settings = ConsistencyObjective(**(table | changes))
    students, teacher = make_teacher(settings.teacher, build or (lambda: network.build(3)), settings.batch)
    return Consistency(
        students,
        teacher,
        labelled=labelled or supervised(network=network),
        sampler=sampler or raw_patches(),
        settings=settings,
        accumulate=accumulate,
        autocast=autocast,
    )


def fitness(network, step):
    """A score that depends on every weight, and on nothing else."""
    return {"voi_sum": sum(float(tensor.double().abs().sum()) for tensor in network.state_dict().values())}


if __name__ == "__main__":

    def validate(network, step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return fitness(network, step)

    train(supervised(), CHECKPOINT, settings(validate_every=2), Path(sys.argv[1]), validate=validate)
