import inspect
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ssns.networks import Network, ResidualUNetSettings
from ssns.networks.residual_unet import ResidualUNet


def choices(name):
    return st.sampled_from(get_args(ResidualUNetSettings.model_fields[name].annotation))


every_combination = st.builds(
    ResidualUNetSettings,
    filters=st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple),
    unshuffle=choices("unshuffle"),
    merge=choices("merge"),
    upsampling=choices("upsampling"),
    padding=choices("padding"),
    normalization=choices("normalization"),
    batch_momentum=st.floats(0.001, 1),
    activation=st.sampled_from(["elu", "relu", "leaky0.1", "leaky.5", "leaky1"]),
    initializer=choices("initializer"),
)


@settings(max_examples=60)
@given(every_combination, st.integers(1, 4))
def test_every_combination_builds_and_gives_one_logit_per_voxel_and_channel(combination, channels):
    torch.manual_seed(0)
    network = combination.build(channels)
    _, y, x = network.stride
    raw = torch.rand(2, 1, 2, y, 2 * x)
    logits = network(raw)
    assert logits.shape == (2, channels, 2, y, 2 * x)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert TypeAdapter(Network).validate_json(combination.model_dump_json()) == combination


def test_defaults_are_the_papers():
    assert sum(parameter.numel() for parameter in ResidualUNetSettings().build(3).parameters()) == 1_555_471
    defaults = {name: parameter.default for name, parameter in inspect.signature(ResidualUNet).parameters.items()}
    table = ResidualUNetSettings().model_dump(exclude={"type"})
    assert table == {name: defaults[name] for name in table}


def test_weights_follow_torchs_generator():
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(ResidualUNetSettings(filters=(4, 8)).build(3).conv0.block1[0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "table",
    [{"filters": [28]}, {"unshuffle": 3}, {"activation": "gelu"}, {"activation": "leaky"}, {"batch_momentum": 0}],
)
def test_impossible_settings_are_refused(table):
    with pytest.raises(ValidationError, match=next(iter(table))):
        ResidualUNetSettings.model_validate(table)
