"""What docs/networks.md says can be typed, and its sizes are those of the networks."""

import re
import tomllib
from pathlib import Path

import pytest

from ssns.experiment import Experiment
from ssns.networks import MalaUNetSettings

TEXT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_one_of_an_experiment(table):
    experiment = Experiment.model_validate(tomllib.loads(table) | {"volumes": {"a": {"raw": "r"}}})
    experiment.network.extents.check("patch", experiment.training.patch)


def test_there_are_tables():
    assert len(TABLES) == 3


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_sizes_of_each_depth(depth):
    extents = MalaUNetSettings(depth=depth).extents
    for size in (extents.smallest, extents.stride, extents.shrink):
        assert ", ".join(map(str, size)) in TEXT
