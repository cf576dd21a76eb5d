"""`ssns demo`: the whole walk on synthetic EM, beside a baseline that does not learn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ssns.affinities import NEAREST, edge_ends
from ssns.commands.evaluate import evaluate_experiment
from ssns.commands.experiment_file import write_experiment
from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.judging import judge
from ssns.commands.predict import predict_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.scoring import swept_scores
from ssns.commands.segment import segment_experiment
from ssns.commands.terminal import console, say
from ssns.commands.train import train_experiment
from ssns.commands.truth import known_truth
from ssns.experiment import Experiment, load_experiment
from ssns.segmentation import Agglomeration, MeanScore, Method, Multicut, segment, value_of, with_value
from ssns.synthetic import SyntheticSettings, synthesize
from ssns.volume import from_array, write_volume

SHAPE = (48, 320, 320)
LABELLED, VALIDATION, TEST = "0:5", "5:13", "13:48"

RECIPE: dict[str, Any] = {
    "network": {"type": "residual_unet", "filters": [32, 48, 64], "unshuffle": 2, "batch_momentum": 0.05},
    "training": {
        "steps": 800,
        "patch": [8, 128, 128],
        "batch": 1,
        "optimizer": {"type": "adamw", "lr": 3e-3},
        "validate_every": 400,
    },
}
"""A network and a schedule that learn in a few minutes on two cores."""

BASELINE_SIGMAS = (1.0, 2.0, 3.0)
BASELINE_METHODS: tuple[Method, ...] = (Agglomeration(score=MeanScore()), Multicut())
BASELINE_VALUES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def run_demo(folder: Path, *, seed: int = 0) -> None:
    """Make the volume, write the experiment, go through every stage, and score both."""
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    _make_volume(folder, seed)
    path = folder / "experiment.toml"
    write_experiment(
        path,
        {
            "name": "demo",
            "seed": seed,
            "volumes": {
                "synthetic": {
                    "raw": "raw.zarr",
                    "labels": "labels.zarr",
                    "labelled": LABELLED,
                    "validation": VALIDATION,
                    "test": TEST,
                }
            },
            **RECIPE,
        },
        f"The demo: synthetic EM, sections {LABELLED} labelled. Run it again with: ssns run experiment.toml",
    )
    experiment = load_experiment(path)
    with RunFolder.of(experiment).locked():
        train_experiment(experiment)
        predict_experiment(experiment)
        segment_experiment(experiment)
        with console.status("baseline: watershed on raw"):
            baseline, description = _baseline(experiment)
        rows = evaluate_experiment(experiment, more={description: baseline})
    learned = next(row for name, row in rows.items() if "-test" in name)
    share = learned["voi_sum"] / baseline["voi_sum"]
    say(
        f"learned from {LABELLED} of {SHAPE[0]} sections: VOI sum {learned['voi_sum']:.3f},"
        f" ARAND {learned['arand']:.3f}; baseline {baseline['voi_sum']:.3f}, {baseline['arand']:.3f}:"
        f" {share:.2f} of its VOI, in {time.monotonic() - begin:.0f} s"
    )


def _make_volume(folder: Path, seed: int) -> None:
    """Write raw and labels, unless they are there."""
    settings = SyntheticSettings(shape=SHAPE, seed=seed)
    made = folder / "synthetic.json"
    if made.exists() and made.read_text() == settings.model_dump_json():
        say(f"demo: skipped the volume, {folder / 'raw.zarr'} is there")
        return
    with console.status("demo: synthetic EM (its kernels are compiled at the first call)"):
        raw, labels = synthesize(settings)
    write_volume(folder / "raw.zarr", raw, voxel_size_nm=settings.voxel_size_nm)
    write_volume(folder / "labels.zarr", labels, voxel_size_nm=settings.voxel_size_nm)
    made.write_text(settings.model_dump_json())
    say(f"demo: synthetic EM of {' x '.join(map(str, SHAPE))} voxels with {len(np.unique(labels)) - 1} neurites")


def _baseline(experiment: Experiment) -> tuple[dict[str, float], str]:
    """The same steps on raw itself: smoothing, method and threshold are chosen on the validation part."""
    validation, test = _by_role(experiment, "validation"), _by_role(experiment, "test")
    truth = known_truth(validation)
    methods = [with_value(method, value) for method in BASELINE_METHODS for value in BASELINE_VALUES]
    sums = {
        (sigma, method): scores.voi_sum
        for sigma in BASELINE_SIGMAS
        for method, scores in swept_scores(_raw_affinities(validation, sigma), methods, experiment, *truth).items()
    }
    sigma, method = min(sums, key=lambda choice: sums[choice])
    segmentation = segment(_raw_affinities(test, sigma), method)
    scores = judge(test, from_array(segmentation), experiment.scoring).scores
    name = f"baseline, watershed on raw ({method.type}, sigma {sigma:g}, {method.swept} {value_of(method):g})"
    return scores, name


def _by_role(experiment: Experiment, role: str) -> Part:
    return next(part for part in parts(experiment, open_sources(experiment)) if part.role == role)


def _raw_affinities(part: Part, sigma: float) -> NDArray[np.float32]:
    """Affinities read off the image: membranes are dark, so an edge is as strong as the darker of its two ends."""
    raw = part.source.raw.read(part.box)
    smooth = gaussian_filter(raw.astype(np.float32), (0, sigma, sigma))
    low, high = np.percentile(smooth, (1, 99))
    bright = np.clip((smooth - low) / (high - low), 0, 1)
    affinities = np.zeros((len(NEAREST), *raw.shape), np.float32)
    for channel, offset in enumerate(NEAREST):
        here, there = edge_ends(raw.shape, offset)
        affinities[channel][here] = np.minimum(bright[here], bright[there])
    return affinities
