"""`ssns demo`: the whole walk on synthetic EM, beside supervised training and a baseline that does not learn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ssns.affinities import NEAREST, edge_ends
from ssns.commands.experiment_file import write_experiment
from ssns.commands.inputs import Part, open_sources, parts
from ssns.commands.judging import judge
from ssns.commands.run import run_experiment
from ssns.commands.run_folder import RunFolder
from ssns.commands.scoring import ranked, swept_scores
from ssns.commands.terminal import console, say
from ssns.commands.truth import known_truth
from ssns.experiment import Experiment, load_experiment
from ssns.segmentation import Agglomeration, MeanScore, Method, Multicut, segment, value_of
from ssns.synthetic import SyntheticSettings, synthesize
from ssns.volume import from_array, write_volume
from ssns.zoo import scores_on_test

SHAPE = (64, 320, 320)
LABELLED, VALIDATION, UNLABELLED, TEST = "0:5", "5:21", "0:29", "29:64"

LOOP: dict[str, Any] = {"patch": [8, 96, 96], "batch": 1, "optimizer": {"type": "muon", "lr": 2e-3}}
RECIPE: dict[str, Any] = {
    "normalization": {"type": "percentile", "sections": "levelled"},
    "network": {"type": "residual_unet", "filters": [16, 32, 48], "unshuffle": 2},
    "pretraining": {"training": LOOP | {"steps": 50}},
    "objective": {"type": "consistency", "warmup": 200},
    "training": LOOP | {"steps": 550, "validate_every": 275},
}
"""A network and schedules that learn in a few minutes on two cores."""

SUPERVISED: dict[str, Any] = {"pretraining": "none", "objective": {"type": "supervised"}, "training": {"steps": 800}}
"""What differs where only labels teach: it gets about as much time."""

BASELINE_SIGMAS = (1.0, 2.0, 3.0)
BASELINE_METHODS: tuple[Method, ...] = (Agglomeration(score=MeanScore()), Multicut())


def run_demo(folder: Path, *, seed: int = 0) -> None:
    """Make the volume, write the experiments, go through every stage of both, and score all."""
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    _make_volume(folder, seed)
    experiment, supervised = map(load_experiment, _write_experiments(folder, seed))
    with console.status("baseline: watershed on raw"):
        baseline, baseline_name = _baseline(experiment)
    say("demo: supervised training, to compare with")
    alone = _run(supervised)
    say("demo: pre-training, then training with labels and the unlabelled rest")
    ours = _run(experiment, {f"supervised, {LABELLED} alone": alone, baseline_name: baseline})
    told = (("learned", ours), ("supervised alone", alone), ("baseline", baseline))
    scores = "; ".join(f"{name} {row['voi_sum']:.3f}, {row['arand']:.3f}" for name, row in told)
    say(
        f"from {LABELLED} of {SHAPE[0]} sections, VOI sum and ARAND on {TEST}: {scores}"
        f" ({time.monotonic() - begin:.0f} s)"
    )


def _run(experiment: Experiment, more: Mapping[str, Mapping[str, float]] | None = None) -> Mapping[str, float]:
    """All stages; the scores of the test part."""
    with RunFolder.of(experiment).locked():
        rows = run_experiment(experiment, more=more)
    return scores_on_test(rows)


def _write_experiments(folder: Path, seed: int) -> tuple[Path, Path]:
    """The file of the demo, and the one of supervised training that is based on it."""
    roles = {"labelled": LABELLED, "unlabelled": UNLABELLED, "validation": VALIDATION, "test": TEST}
    volume = {"raw": "raw.zarr", "labels": "labels.zarr"} | roles
    path, supervised = folder / "experiment.toml", folder / "supervised.toml"
    write_experiment(
        path,
        {"name": "demo", "seed": seed, "volumes": {"synthetic": volume}, **RECIPE},
        f"The demo: synthetic EM, sections {LABELLED} labelled. Run it again with: ssns run {path.name}",
    )
    write_experiment(
        supervised,
        {"base": path.name, "name": "demo-supervised", **SUPERVISED},
        f"The demo without the unlabelled rest. Run it again with: ssns run {supervised.name}",
    )
    return path, supervised


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
    methods = experiment.segmentation.swept(*BASELINE_METHODS)
    choices = []
    for sigma in BASELINE_SIGMAS:
        swept = swept_scores(_raw_affinities(validation, sigma), methods, experiment, *truth)
        table = {method: scores.to_dict() for method, scores in swept.items()}
        method = ranked(table)[0]
        choices.append((table[method]["voi_sum"], sigma, method))
    _, sigma, method = min(choices, key=lambda choice: choice[0])
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
