"""What two fragments in contact are likely to be one by, and what it costs to cut between them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ssns.errors import UserError
from ssns.segmentation.graph import RegionGraph
from ssns.segmentation.learning import FEATURES, edge_features, known_contacts, logistic_weights
from ssns.settings import Component

Weighting = Literal["all", "xyz", "z", "none"]
"""By what contact area, over the largest, costs are multiplied: that of all contacts; that of contacts between sections
and of those within sections, each over the largest of its own kind; of those between sections only; or not."""


class MeanAffinity(Component):
    """The mean affinity."""

    type: Literal["mean"] = "mean"
    histograms: ClassVar[bool] = False

    def of(self, graph: RegionGraph) -> NDArray[np.float64]:
        """Affinity of each contact, 0 to 1, (e,)."""
        return graph.mean


class QuantileAffinity(Component):
    """A quantile of the affinities, from a histogram of 256 bins."""

    type: Literal["quantile"] = "quantile"
    quantile: int = Field(default=50, ge=0, le=100, description="Percentage of the quantile; 50 is the median")
    histograms: ClassVar[bool] = True

    def of(self, graph: RegionGraph) -> NDArray[np.float64]:
        """Affinity of each contact, 0 to 1, (e,)."""
        return graph.quantile(self.quantile)


MEAN_AFFINITY = (1.0,) + (0.0,) * len(FEATURES)
"""The weights that make the mean affinity the probability: it is the first of the statistics, as log odds."""

Weights = Annotated[tuple[float, ...], Field(min_length=len(FEATURES) + 1, max_length=len(FEATURES) + 1)]


class LearnedAffinity(Component):
    """Probability of being one, by logistic regression on statistics of the contact: `learn_affinity` fits it.

    Without weights it may stand among the candidates of a sweep only, which fits it to the validation sections.
    """

    type: Literal["learned"] = "learned"
    between: Weights | None = Field(
        default=None, description="Weight of each statistic for contacts between sections, and the constant"
    )
    within: Weights | None = Field(default=None, description="The same for contacts within sections")
    histograms: ClassVar[bool] = True

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.between is None) != (self.within is None):
            raise UserError("between: wanted weights of both kinds of contacts, or none, got one: give within too")
        return self

    @classmethod
    def fitted(cls, samples: Iterable[tuple[RegionGraph, NDArray[Any], NDArray[Any]]]) -> LearnedAffinity:
        """The regression of the contacts that labels know: see `learning.known_contacts`.

        Args:
            samples: Graph with histograms, fragments and labels of each volume.

        Of a kind of which labels know too little, as scattered sections of contacts between sections, the mean
        affinity stays what is gone by, with a warning.

        Raises:
            UserError: They know too little of both.
        """
        features, between, same = [], [], []
        for graph, fragments, labels in samples:
            known, inside = known_contacts(graph, fragments, labels)
            features.append(edge_features(graph)[known])
            between.append(graph.between[known])
            same.append(inside[known])
        if not features:
            raise UserError(
                "labels: wanted neurons to learn contacts from, got none: label some, or take another method"
            )
        rows, one, every = np.concatenate(between), np.concatenate(same), np.concatenate(features)
        weights, untold = {}, []
        for kind, which in {"between": rows, "within": np.logical_not(rows)}.items():
            inside = one[which]
            if inside.any() and not inside.all():
                weights[kind] = logistic_weights(every[which], inside)
            else:
                weights[kind] = MEAN_AFFINITY
                untold.append(
                    f"labels: wanted contacts {kind} sections inside of neurons and between two, got"
                    f" {np.count_nonzero(inside)} of {inside.size} inside"
                )
        if len(untold) == len(weights):
            raise UserError(f"{untold[0]}: label more, or take smaller fragments")
        for message in untold:
            warnings.warn(f"{message}; the mean affinity is taken of these", stacklevel=2)
        return cls(**weights)

    def of(self, graph: RegionGraph) -> NDArray[np.float64]:
        """Affinity of each contact, 0 to 1, (e,)."""
        if self.between is None:
            raise UserError("affinity: wanted weights, which learn_affinity gives, got none: learn them first")
        weights = np.where(graph.between[:, None], np.array(self.between), np.array(self.within))
        logits = (edge_features(graph) * weights[:, :-1]).sum(axis=1) + weights[:, -1]
        affinities: NDArray[np.float64] = 1 / (1 + np.exp(-logits.clip(-30, 30)))
        return affinities


EdgeAffinity = Annotated[MeanAffinity | QuantileAffinity | LearnedAffinity, Field(discriminator="type")]


def log_odds(affinity: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Costs of cutting, positive where it attracts.

    ``log((1 - p) / p) + log((1 - beta) / beta)`` with the boundary probability ``p = 0.998 (1 - affinity) + 0.001``,
    which keeps the logarithm finite.

    Args:
        affinity: 0 to 1.
        beta: Bias in (0, 1); 0.5 is none.
    """
    boundary = 0.998 * (1 - affinity) + 0.001
    costs: NDArray[np.float64] = np.log((1 - boundary) / boundary) + np.log((1 - beta) / beta)
    return costs


def edge_weights(graph: RegionGraph, weighting: Weighting) -> NDArray[np.float64]:
    """What the cost of each contact is multiplied by, 0 to 1, (e,): the weighting schemes of python-elf."""
    area, between = graph.area, graph.between
    weights = np.ones(area.shape)
    if weighting == "all":
        weights = area / area.max(initial=1)
    if weighting in ("z", "xyz"):
        weights[between] = area[between] / area[between].max(initial=1)
    if weighting == "xyz":
        weights[~between] = area[~between] / area[~between].max(initial=1)
    return weights
