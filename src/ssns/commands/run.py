"""`ssns run`: the stages in order, skipping what is done and still valid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ssns.commands.affinities import to_be_predicted
from ssns.commands.evaluate import Rows, evaluate_experiment
from ssns.commands.inputs import open_sources, parts
from ssns.commands.memory import check_memory
from ssns.commands.predict import check_device, predict_experiment
from ssns.commands.pretrain import pretrain_experiment
from ssns.commands.processes import processes
from ssns.commands.run_folder import RunFolder
from ssns.commands.segment import segment_experiment
from ssns.commands.teach import teach_experiment
from ssns.commands.train import check_training, train_experiment
from ssns.experiment import Experiment
from ssns.training import PseudoLabelObjective


def run_experiment(
    experiment: Experiment,
    *,
    checkpoint: Path | None = None,
    more: Mapping[str, Mapping[str, float]] | None = None,
    verify: bool = False,
) -> Rows:
    """Pre-train (where the experiment says so) and train, unless a checkpoint or affinities are given; and the rest.

    Args:
        experiment: The experiment.
        checkpoint: Weights to predict with, in the place of training.
        more: Rows of other origin for the table of scores.
        verify: Compare the data of inputs, not only their size and time.

    Returns:
        Scores by what was scored.
    """
    sources = open_sources(experiment)
    found = parts(experiment, sources)
    check_memory(experiment, found)  # rather now than after hours of training
    if checkpoint is None and to_be_predicted(found):
        check_training(experiment, sources)
        if not RunFolder.of(experiment).best.is_file():
            check_device(experiment)
        if experiment.pretraining is not None and experiment.transfer.checkpoint is None:
            pretrain_experiment(experiment, verify=verify)
        if isinstance(experiment.objective, PseudoLabelObjective) and processes() == 1:
            teach_experiment(experiment, verify=verify)  # of several processes only the first would come back from it
        train_experiment(experiment, verify=verify)
    predict_experiment(experiment, checkpoint=checkpoint, verify=verify)
    segment_experiment(experiment, verify=verify)
    return evaluate_experiment(experiment, more=more, verify=verify)
