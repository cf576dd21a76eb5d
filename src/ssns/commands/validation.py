"""Validation of a network that is being trained, by a real segmentation of the validation parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ssns.commands.inputs import Part, Source, parts
from ssns.commands.predict import HARDWARE
from ssns.commands.scoring import ranked, swept_scores, weighted_means
from ssns.commands.terminal import warn
from ssns.commands.truth import truths
from ssns.experiment import Experiment
from ssns.metrics import WORST
from ssns.segmentation import Method, value_of
from ssns.space import Triple
from ssns.volume.normalization import IntensityRange

if TYPE_CHECKING:
    from torch import nn

    from ssns.networks import AffinityNetwork


class Validation:
    """Scores a network by segmenting the validation parts.

    Args:
        experiment: Settings of prediction, segmentation and scoring.
        watched: The validation parts, their truth and where it is known.
        ranges: Intensity range of each volume.
        untrained: Offsets whose affinities count as 0, as the checkpoint predicts them.
    """

    def __init__(
        self,
        experiment: Experiment,
        watched: Sequence[tuple[Part, NDArray[Any], NDArray[np.bool_]]],
        ranges: Mapping[str, IntensityRange],
        untrained: Sequence[Triple] = (),
    ) -> None:
        self.experiment = experiment
        self.watched = watched
        self.ranges = ranges
        self.silent = [channel for channel, offset in enumerate(experiment.offsets) if offset in untrained]

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        sources: dict[str, Source],
        ranges: Mapping[str, IntensityRange],
        untrained: Sequence[Triple] = (),
    ) -> Validation | None:
        """Validation on the regions of that role, if anything is known there."""
        found = [part for part in parts(experiment, sources) if part.role == "validation"]
        watched = list(truths(found))
        if not watched:
            why = "nothing is labelled in the validation regions" if found else "no validation regions"
            warn(f"{why}: the last checkpoint will count as the best; `ssns init` holds some labels out")
            return None
        return cls(experiment, watched, ranges, untrained)

    @property
    def rules(self) -> str:
        """The settings that scores depend on, beside the network."""
        experiment = self.experiment
        return json.dumps(
            {
                "methods": [each.model_dump(mode="json") for each in self._methods],
                "prediction": experiment.prediction.model_dump(mode="json", exclude=HARDWARE),
                "scoring": experiment.scoring,
            }
        )

    @property
    def _methods(self) -> Sequence[Method]:
        """The experiment's method, with each threshold."""
        settings = self.experiment.segmentation
        return settings.swept(settings.method)

    def __call__(self, network: nn.Module, step: int) -> dict[str, float]:  # noqa: ARG002  the loop tells the step
        """Scores at the best threshold of the experiment's method, averaged over the parts by their voxels.

        A network that segments nothing yet has the worst scores, infinite VOI, whatever the convention.
        """
        from ssns.prediction import predict_box

        rows = []
        for part, truth, known in self.watched:
            affinities = predict_box(
                cast("AffinityNetwork", network),
                part.source.raw,
                part.box,
                self.experiment.prediction,
                normalize=self.ranges[part.source.name].apply,
                offsets=self.experiment.learned_offsets,
            )[: len(self.experiment.offsets)]
            affinities[self.silent] = 0
            scores = swept_scores(affinities, self._methods, self.experiment, truth, known, nothing=WORST)
            rows.append((int(known.sum()), scores))
        table = weighted_means(rows)
        best = ranked(table)[0]
        return {best.swept: value_of(best), **table[best]}
