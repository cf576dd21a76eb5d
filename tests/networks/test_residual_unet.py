import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssns.errors import UserError
from ssns.networks import Extents
from ssns.networks.residual_unet import ResidualUNet, _pixel_shuffle, _pixel_unshuffle

ENCODER = ("embed_in", "conv0", "conv1", "conv2", "conv3", "center")


def unweighted(**arguments):
    """A network without memory behind its tensors, for counting."""
    with torch.device("meta"):
        return ResidualUNet(**arguments)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(**arguments):
    torch.manual_seed(0)
    return ResidualUNet(filters=(4, 8, 8), **arguments)


def by_the_table(state, raw, depth, merge, upsampling):
    """Logits by the published table of operations, from a state dict, in evaluation mode."""

    def conv(x, name):
        kernel = state[f"{name}.weight"].shape[2:]
        return F.conv3d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=tuple(n // 2 for n in kernel))

    def norm(x, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-5)

    def residual(x, name):
        r = F.elu(norm(conv(x, f"{name}.block1.0"), f"{name}.block1.1"))
        x = conv(F.elu(norm(conv(r, f"{name}.block2.0"), f"{name}.block2.1")), f"{name}.block2.3")
        return F.elu(norm(x + r, f"{name}.block3"))

    def up(x, name):
        if upsampling == "transpose":
            weight, bias = state[f"{name}.0.weight"], state[f"{name}.0.bias"]
            x = F.conv_transpose3d(x, weight, bias, stride=(1, 2, 2), groups=len(weight))
        elif upsampling == "bilinear":
            sections = [
                F.interpolate(x[:, :, z], scale_factor=2, mode="bilinear", align_corners=True) for z in range(2)
            ]
            x = torch.stack(sections, 2)
        else:
            x = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
        return conv(x, f"{name}.1")

    x = F.elu(conv(raw, "embed_in.0"))
    skips = []
    for level in range(depth):
        skips.append(residual(x, f"conv{level}"))
        x = F.max_pool3d(skips[-1], (1, 2, 2))
    x = residual(x, "center")
    for step in range(depth):
        x, skip = up(x, f"up{step}"), skips[-1 - step]
        x = {"cat": torch.cat([x, skip], 1), "add": x + skip, "none": x}[merge]
        x = residual(F.elu(norm(x, f"cat{step}.0")), f"conv{depth + step}")
    return conv(F.elu(conv(x, "embed_out.0")), "out_put.0")


class TestThePaper:
    @pytest.mark.parametrize("merge", ["cat", "add", "none"])
    @pytest.mark.parametrize("upsampling", ["transpose", "bilinear", "nearest"])
    def test_it_does_what_the_table_says(self, merge, upsampling):
        network = small(merge=merge, upsampling=upsampling).double()
        state = network.state_dict()
        for name, tensor in state.items():  # so that no norm and no bias is trivial
            if tensor.ndim == 1:
                tensor.copy_(torch.rand(tensor.shape) + 0.5 * name.endswith("var"))
        raw = torch.rand(2, 1, 2, 8, 12, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(network.eval()(raw), by_the_table(state, raw, 2, merge, upsampling))

    @pytest.mark.parametrize(
        ("arguments", "count"),
        [
            ({}, 1_555_471),
            ({"out_channels": 1}, 1_555_413),
            ({"merge": "add"}, 1_478_799),
            ({"upsampling": "bilinear"}, 1_554_331),
            ({"upsampling": "nearest"}, 1_554_331),
            ({"merge": "none", "out_channels": 1}, 1_478_741),
            ({"filters": (32, 64, 128, 256, 512)}, 26_915_427),
        ],
    )
    def test_parameters(self, arguments, count):
        assert parameters(unweighted(**arguments)) == count

    def test_parameters_of_each_module(self):
        counts = {name: parameters(module) for name, module in unweighted().named_children() if parameters(module)}
        assert counts == {
            "embed_in": 728, "conv0": 49_560, "conv1": 79_272, "conv2": 140_256, "conv3": 249_216, "center": 392_160,
            "up0": 5_584, "cat0": 256, "conv4": 295_296, "up1": 3_440, "cat1": 192, "conv5": 166_176,
            "up2": 2_004, "cat2": 144, "conv6": 93_528, "up3": 1_216, "cat3": 112, "conv7": 56_616,
            "embed_out": 19_628, "out_put": 87,
        }  # fmt: skip
        assert sum(counts[name] for name in ENCODER) == 911_192

    def test_names_are_those_of_the_published_checkpoints(self):
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        names = {f"{module}.0.{part}" for module in ("embed_in", "embed_out", "out_put") for part in norm[:2]}
        for block in (*(f"conv{n}" for n in range(8)), "center"):
            names |= {f"{block}.{conv}.weight" for conv in ("block1.0", "block2.0", "block2.3")}
            names |= {f"{block}.{layer}.{part}" for layer in ("block1.1", "block2.1", "block3") for part in norm}
        for step in range(4):
            names |= {f"up{step}.{layer}.{part}" for layer in (0, 1) for part in norm[:2]}
            names |= {f"cat{step}.0.{part}" for part in norm}
        state = unweighted().state_dict()
        assert set(state) == names
        assert len(state) == 204
        assert sum(name.split(".")[0] in ENCODER for name in state) == 92
        assert [tuple(state[f"up{n}.0.weight"].shape) for n in range(4)] == [(c, 1, 1, 2, 2) for c in (80, 64, 48, 36)]

    def test_the_encoder_of_pre_training_fits(self):
        shapes = [
            {name: tensor.shape for name, tensor in network.state_dict().items() if name.split(".")[0] in ENCODER}
            for network in (unweighted(), unweighted(merge="none", out_channels=1))
        ]
        assert shapes[0] == shapes[1]

    @pytest.mark.parametrize(
        ("arguments", "buffers"),
        [({}, 3_327), ({"merge": "add"}, 2_975), ({"filters": (32, 64, 128, 256, 512)}, 10_783)],
    )
    def test_batch_normalisation(self, arguments, buffers):
        network = unweighted(**arguments)
        layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
        assert len(layers) == 31
        assert {(layer.eps, layer.momentum, layer.affine) for layer in layers} == {(1e-5, 0.05, True)}
        assert sum(buffer.numel() for buffer in network.buffers()) == buffers

    def test_it_gives_logits(self):
        network = small().eval()
        nn.init.constant_(network.out_put[0].bias, -7)
        with torch.no_grad():
            assert network(torch.zeros(1, 1, 2, 4, 4)).min() < 0

    def test_sections_are_pooled_in_the_plane_alone(self):
        assert unweighted().extents == Extents((1, 16, 16), (1, 16, 16))
        assert unweighted(unshuffle=2).extents == Extents((1, 32, 32), (1, 32, 32))
        assert small().eval()(torch.zeros(1, 1, 3, 4, 8)).shape == (1, 3, 3, 4, 8)


class TestInitialisation:
    def test_transposed_convolutions_keep_the_default_of_torch(self):
        state = {}
        for initializer in ("kaiming_normal", "xavier_uniform"):
            torch.manual_seed(0)
            state[initializer] = ResidualUNet(initializer=initializer).state_dict()
        first, second = state.values()
        # Uniform within 1 / sqrt(fan in), whatever the other weights start as; the fan in of a depth-wise 2 x 2 is 4.
        for name in (f"up{step}.0.{part}" for step in range(4) for part in ("weight", "bias")):
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
            assert 0.45 < first[name].abs().max() <= 0.5
        assert not torch.equal(first["up0.1.weight"], second["up0.1.weight"])

    @pytest.mark.parametrize(("scheme", "gain"), [("kaiming", math.sqrt(2)), ("xavier", 1.0)])
    @pytest.mark.parametrize(("shape", "tail"), [("normal", 3.5), ("uniform", math.sqrt(3))])
    def test_other_convolutions_start_as_asked_with_zero_biases(self, scheme, gain, shape, tail):
        torch.manual_seed(0)
        for layer in ResidualUNet(initializer=f"{scheme}_{shape}").modules():
            if not isinstance(layer, nn.Conv3d):
                continue
            assert layer.bias is None or (layer.bias == 0).all()
            outputs, inputs = (n * layer.weight[0, 0].numel() for n in layer.weight.shape[:2])
            fan = inputs if scheme == "kaiming" else (inputs + outputs) / 2
            if layer.weight.numel() > 10_000:
                assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(fan), rel=0.05)
                largest = layer.weight.abs().max().item() * math.sqrt(fan) / gain
                assert (largest > tail) if shape == "normal" else (0.99 * tail < largest <= tail * 1.0001)


class TestOptions:
    @pytest.mark.parametrize("shape", [(3, 4, 6), (1, 8, 5), (2, 2, 4)])
    def test_a_wrong_extent_is_refused(self, shape):
        with pytest.raises(UserError, match=re.escape(f"multiples of (1, 4, 4), got {shape}")):
            small()(torch.zeros(1, 1, *shape))

    def test_one_level_is_no_u(self):
        with pytest.raises(UserError, match="at least two levels"):
            ResidualUNet(filters=(8,))

    @pytest.mark.parametrize("activation", ["gelu", "leaky", "leakyx"])
    def test_an_unknown_activation_is_refused(self, activation):
        with pytest.raises(UserError, match="activation: wanted"):
            ResidualUNet(activation=activation)

    @pytest.mark.parametrize(("activation", "kind"), [("elu", nn.ELU), ("relu", nn.ReLU), ("leaky0.2", nn.LeakyReLU)])
    def test_activations(self, activation, kind):
        layers = [module for module in small(activation=activation).modules() if type(module) is kind]
        assert len(layers) == 2 + 5 * 3 + 2
        assert kind is not nn.LeakyReLU or {layer.negative_slope for layer in layers} == {0.2}

    @pytest.mark.parametrize("merge", ["cat", "add", "none"])
    def test_only_the_merging_decoder_sees_the_encoder(self, merge):
        network = small(merge=merge, normalization="group").eval()
        # What enters the deepest level is cut off: only skips can carry the difference of two images.
        network.center.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        with torch.no_grad():
            outputs = [network(torch.rand(1, 1, 2, 4, 4)) for _ in range(2)]
        assert torch.equal(*outputs) == (merge == "none")

    @pytest.mark.parametrize(("padding", "flat"), [("replicate", True), ("zeros", False)])
    @pytest.mark.parametrize("upsampling", ["bilinear", "nearest"])
    def test_replicated_faces_leave_a_flat_image_flat(self, padding, flat, upsampling):
        network = small(padding=padding, upsampling=upsampling).eval()
        with torch.no_grad():
            output = network(torch.full((1, 1, 3, 8, 8), 0.5))
        spread = (output.amax((2, 3, 4)) - output.amin((2, 3, 4))).max().item()
        assert (spread < 1e-5) == flat

    @pytest.mark.parametrize("channels", [1, 4, 7, 12, 28, 36, 80])
    def test_groups_hold_eight_channels_or_the_next_number_that_divides(self, channels):
        network = ResidualUNet(filters=(channels, channels), normalization="group")
        groups = [module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)]
        sizes = {channels // count for count in groups[:3]}
        assert sizes == {{1: 1, 4: 4, 7: 7, 12: 12, 28: 14, 36: 9, 80: 8}[channels]}

    def test_groups_make_samples_independent(self):
        network = small(normalization="group")
        pair = torch.rand(2, 1, 2, 4, 4)
        torch.testing.assert_close(network(pair)[:1], network(pair[:1]), rtol=1e-5, atol=1e-5)

    def test_momentum_moves_the_running_statistics(self):
        raw, variances = torch.rand(2, 1, 2, 4, 4), {}
        for momentum in (0.25, 1.0):
            network = small(batch_momentum=momentum)
            network(raw)
            variances[momentum] = network.conv0.block1[1].running_var
        torch.testing.assert_close(variances[0.25], 0.75 + 0.25 * variances[1.0])


class TestUnshuffle:
    @pytest.mark.parametrize("factor", [1, 2, 4])
    def test_shuffle_undoes_it(self, factor):
        volume = torch.arange(2 * 3 * 2 * 8 * 4.0).reshape(2, 3, 2, 8, 4)
        torch.testing.assert_close(_pixel_shuffle(_pixel_unshuffle(volume, factor), factor), volume, rtol=0, atol=0)

    def test_each_section_is_unshuffled_as_torch_does(self):
        volume = torch.arange(2 * 3 * 2 * 8 * 4.0).reshape(2, 3, 2, 8, 4)
        ours = _pixel_unshuffle(volume, 2)
        for z in range(2):
            section = nn.functional.pixel_unshuffle(volume[:, :, z], 2)
            torch.testing.assert_close(ours[:, :, z], section, rtol=0, atol=0)

    def test_the_network_works_at_a_lower_resolution(self):
        network = small(unshuffle=2).eval()
        seen = []
        network.center.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
        with torch.no_grad():
            assert network(torch.rand(1, 1, 2, 16, 8)).shape == (1, 3, 2, 16, 8)
        assert seen == [(1, 8, 2, 2, 1)]


@pytest.mark.parametrize("wrong", ["merge", "upsampling", "padding", "normalization", "initializer"])
def test_an_unknown_choice_is_refused(wrong):
    with pytest.raises(UserError, match=f"{wrong}: wanted one of .*, got 'foo'"):
        ResidualUNet(**{wrong: "foo"})
