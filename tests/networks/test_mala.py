import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssns.errors import UserError
from ssns.networks.mala import MalaUNet
from ssns.space import Box

SMALL = (13, 22, 22)
"""The smallest input at a depth of 1, of which 1 x 2 x 2 voxels are predicted."""


def unweighted(**arguments):
    """A network without memory behind its tensors, for counting and for shapes."""
    with torch.device("meta"):
        return MalaUNet(**arguments)


def small(seed=0, **arguments):
    torch.manual_seed(seed)
    return MalaUNet(features=2, growth=2, depth=1, **arguments)


def by_the_table(state, raw, depth, merge):
    """Logits by the published table of operations (reference 3.2), from a state dict."""

    def pair(x, name):
        for layer in (0, 2):
            x = F.conv3d(x, state[f"{name}.{layer}.weight"], state[f"{name}.{layer}.bias"])
            x = torch.where(x > 0, x, 0.005 * x)
        return x

    def enlarge(x, name):
        spread = state[f"{name}.0.weight"]
        places = [
            [x * spread[:, :, 0, i, j][None, :, :, None, None] for j in range(3)] for i in range(3)
        ]  # each a channel of its own
        rows = [torch.stack(row, -1).flatten(-2) for row in places]
        x = torch.stack(rows, -2).flatten(-3, -2)
        return F.conv3d(x, state[f"{name}.1.weight"], state[f"{name}.1.bias"])

    x, skips = raw, []
    for level in range(depth):
        skips.append(pair(x, f"down{level}"))
        x = skips[-1].unfold(3, 3, 3).unfold(4, 3, 3).amax((-1, -2))
    x = pair(x, f"down{depth}")
    for level in reversed(range(depth)):
        x = enlarge(x, f"enlarge{level}")
        if merge == "cat":
            cut = [(n - m) // 2 for n, m in zip(skips[level].shape[2:], x.shape[2:], strict=True)]
            z, y, x_cut = (slice(c, n - c) for c, n in zip(cut, skips[level].shape[2:], strict=True))
            x = torch.cat([x, skips[level][:, :, z, y, x_cut]], 1)
        x = pair(x, f"up{level}")
    return F.conv3d(x, state["head.weight"], state["head.bias"])


class TestThePaper:
    @pytest.mark.parametrize("merge", ["cat", "none"])
    def test_it_does_what_the_table_says(self, merge):
        network = small(merge=merge).double()
        raw = torch.rand(2, 1, 14, 25, 22, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(network(raw), by_the_table(network.state_dict(), raw, 1, merge))

    def test_two_levels_too(self):
        torch.manual_seed(0)
        network = MalaUNet(features=1, growth=2, depth=2).double()
        raw = torch.rand(1, 1, *network.extents.smallest, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(network(raw), by_the_table(network.state_dict(), raw, 2, "cat"))

    @pytest.mark.parametrize(("channels", "count"), [(3, 84_020_475), (1, 84_020_475 - 2 * 13)])
    def test_parameters(self, channels, count):
        assert sum(parameter.numel() for parameter in unweighted(out_channels=channels).parameters()) == count

    def test_channels_of_each_level(self):
        network = unweighted()
        layers = {name: layer for name, layer in network.named_modules() if hasattr(layer, "weight")}
        shapes = {name: tuple(layer.weight.shape[:2]) for name, layer in layers.items()}
        convolutions = {name: shape for name, shape in shapes.items() if not name.startswith("enlarge")}
        assert list(convolutions.values()) == [
            (12, 1), (12, 12), (60, 12), (60, 60), (300, 60), (300, 300), (1500, 300), (1500, 1500),
            (300, 600), (300, 300), (60, 120), (60, 60), (12, 24), (12, 12), (3, 12),
        ]  # fmt: skip
        assert [shapes[f"enlarge{level}.1"] for level in (2, 1, 0)] == [(300, 1500), (60, 300), (12, 60)]
        assert [network.get_submodule(f"enlarge{level}.0").bias for level in (2, 1, 0)] == [None] * 3

    @pytest.mark.parametrize(
        ("seen", "predicted"),
        [((53, 268, 268), (25, 56, 56)), ((29, 214, 214), (1, 2, 2)), ((30, 241, 295), (2, 29, 83))],
    )
    def test_sizes(self, seen, predicted):
        network = unweighted()
        assert network(torch.zeros(1, 1, *seen, device="meta")).shape == (1, 3, *predicted)
        assert network.extents.predicted(Box.of_shape(seen)).shape == predicted

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_nothing_smaller_than_the_smallest_leaves_a_voxel(self, depth):
        network = unweighted(features=1, growth=1, depth=depth)
        z, y, x = network.extents.smallest
        assert min(network(torch.zeros(1, 1, z, y, x, device="meta")).shape[2:]) == 1
        for smaller in ((z - 1, y, x), (z, y - 3**depth, x)):
            with pytest.raises(UserError, match=re.escape(f"got {smaller}: take {(z, y, x)}")):
                network(torch.zeros(1, 1, *smaller, device="meta"))

    @pytest.mark.parametrize("shape", [(13, 23, 22), (13, 22, 24)])
    def test_what_poolings_would_cut_off_is_refused(self, shape):
        with pytest.raises(UserError, match=re.escape("(13, 22, 22) plus multiples of (1, 3, 3)")):
            small()(torch.zeros(1, 1, *shape))


def test_a_part_predicts_what_the_whole_does():
    network = small()
    raw = torch.rand(1, 1, 15, 28, 31)
    with torch.no_grad():
        whole, part = network(raw), network(raw[..., 1:14, 3:25, 6:31])
    torch.testing.assert_close(part, whole[..., 1:2, 3:5, 6:11])


def test_a_mirrored_patch_sees_the_mirrored_pooling_grid():
    network = small().double()
    raw = torch.rand(1, 1, 13, 25, 28, dtype=torch.float64)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.weight += layer.weight.flip(4)  # a network of symmetric kernels commutes with mirrors
        torch.testing.assert_close(network(raw.flip(4)), network(raw).flip(4))


@pytest.mark.parametrize("merge", ["cat", "none"])
def test_only_the_merging_decoder_sees_the_encoder(merge):
    network = small(merge=merge)
    network.down1.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        outputs = [network(torch.rand(1, 1, *SMALL)) for _ in range(2)]
    assert torch.equal(*outputs) == (merge == "none")


def test_the_encoder_of_pre_training_fits():
    shapes = []
    for network in (unweighted(), unweighted(merge="none", out_channels=1)):
        tensors = network.state_dict().items()
        modules = network.parts["encoder"]
        shapes.append({name: tensor.shape for name, tensor in tensors if name.split(".")[0] in modules})
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 16


@pytest.mark.parametrize(("initializer", "gain"), [("kaiming", math.sqrt(2 / (1 + 0.005**2))), ("xavier", 1.0)])
def test_weights_start_normal_as_asked(initializer, gain):
    torch.manual_seed(0)
    network = MalaUNet(features=20, growth=2, depth=1, initializer=initializer)
    layer = network.down1[2].weight  # as many channels in as out: both fans are the same
    assert layer.std().item() == pytest.approx(gain / math.sqrt(40 * 27), rel=0.02)
    assert abs(layer.mean().item()) < 0.001
    assert network.down1[2].bias.abs().max() > 0  # as PyTorch has them
    spread = network.enlarge0[0].weight  # 1 channel of 9 places in; as many out, over all groups, as torch counts
    fans = {"kaiming": 2 / (1 + 0.005**2) / 9, "xavier": 2 / (9 + 40 * 9)}
    assert spread.std().item() == pytest.approx(math.sqrt(fans[initializer]), rel=0.15)


def test_weights_start_orthogonal():
    weight = small(initializer="orthogonal").down1[2].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, torch.eye(len(weight)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"depth": 0}, "depth: wanted at least 1, got 0"),
        ({"merge": "add"}, "merge: wanted one of cat, none, got 'add'"),
        ({"initializer": "normal"}, "initializer: wanted one of kaiming, xavier, orthogonal, got 'normal'"),
    ],
)
def test_what_cannot_be_is_told(arguments, told):
    with pytest.raises(UserError, match=told):
        MalaUNet(**arguments)
