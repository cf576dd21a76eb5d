import inspect
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ssns.networks import MalaUNetSettings, Network, ResidualUNetSettings
from ssns.networks.mala import MalaUNet
from ssns.networks.residual_unet import ResidualUNet
from ssns.space import Box


def choices(name, settings=ResidualUNetSettings):
    return st.sampled_from(get_args(settings.model_fields[name].annotation))


every_residual_unet = st.builds(
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
every_mala = st.builds(
    MalaUNetSettings,
    features=st.integers(1, 3),
    growth=st.integers(1, 2),
    depth=st.just(1),
    merge=choices("merge", MalaUNetSettings),
    initializer=choices("initializer", MalaUNetSettings),
)


@settings(max_examples=60)
@given(every_residual_unet | every_mala, st.integers(1, 4))
def test_every_combination_builds_and_gives_one_logit_per_predicted_voxel_and_channel(combination, channels):
    torch.manual_seed(0)
    network = combination.build(channels)
    extents = network.extents
    assert combination.extents == extents
    shape = [least + step for least, step in zip(extents.smallest, extents.stride, strict=True)]
    raw = torch.rand(2, 1, *shape)
    logits = network(raw)
    assert logits.shape == (2, channels, *extents.predicted(Box.of_shape(shape)).shape)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert TypeAdapter(Network).validate_json(combination.model_dump_json()) == combination


@pytest.mark.parametrize(
    ("settings", "network", "count"),
    [(ResidualUNetSettings(), ResidualUNet, 1_555_471), (MalaUNetSettings(), MalaUNet, 84_020_475)],
)
def test_defaults_are_the_papers(settings, network, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in settings.build(3).parameters()) == count
    defaults = {name: parameter.default for name, parameter in inspect.signature(network).parameters.items()}
    table = settings.model_dump(exclude={"type"})
    assert table == {name: defaults[name] for name in table}


def test_a_table_without_a_type_is_of_the_residual_network():
    choose = TypeAdapter(Network).validate_python
    assert choose({"filters": [4, 8]}) == ResidualUNetSettings(filters=(4, 8))
    assert choose({"type": "mala", "depth": 2}) == MalaUNetSettings(depth=2)


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


@pytest.mark.parametrize("normalization", ["sync", "sync_batch"])
def test_statistics_are_not_synchronised(normalization):
    with pytest.raises(ValidationError, match="'batch' or 'group'"):
        ResidualUNetSettings(normalization=normalization)
