"""Checkpoints of the paper's code: what an imported one predicts, and that nothing is lost on the way back."""

import math
import re
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from published import mala_output, mala_shapes, random_state, residual_output, residual_shapes, write
from pydantic import ValidationError
from torch.nn import functional as F

from ssns.affinities import NEAREST
from ssns.checkpoint import RESTORED, Checkpoint, load_checkpoint, save_checkpoint
from ssns.errors import UserError
from ssns.export.reference import read_reference, write_reference
from ssns.networks import MalaUNetSettings, ResidualUNetSettings
from ssns.volume.normalization import IntensityRange, PercentileNormalization, TypeNormalization

FILTERS = (3, 4, 5, 6, 7)
ENCODER = ("embed_in", "conv0", "conv1", "conv2", "conv3", "center")


def papers(**changes):
    """Settings of a network as the paper's code builds it."""
    return ResidualUNetSettings(**{"batch_momentum": 0.001} | changes)


def small(**options):
    return random_state(residual_shapes(FILTERS, **options))


def mala(**options):
    return random_state(mala_shapes(**{"features": 2, "growth": 2, "depth": 1} | options))


def random_raw(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def predicted(checkpoint, raw):
    with torch.no_grad():
        return torch.sigmoid(checkpoint.build()(raw))


def assert_same(ours, theirs):
    assert theirs.std() > 0.01  # neither constant nor saturated
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class TestTheTablesOfTheTests:
    """The golden values of the description hold of what the tests make up."""

    @pytest.mark.parametrize(
        ("options", "count"),
        [
            ({}, 1_555_471),
            ({"outputs": 1}, 1_555_413),
            ({"merge": "add"}, 1_478_799),
            ({"upsampling": "nearest"}, 1_554_331),
            ({"merge": "none", "outputs": 1}, 1_478_741),
            ({"filters": (32, 64, 128, 256, 512)}, 26_915_427),
        ],
    )
    def test_residual_u_net(self, options, count):
        shapes = residual_shapes(**options)
        learned = {name: shape for name, shape in shapes.items() if "running" not in name and "batches" not in name}
        assert sum(map(math.prod, learned.values())) == count
        encoder = [name for name in shapes if name.split(".")[0] in ENCODER]
        assert len(encoder) == 92
        assert sum(math.prod(learned[name]) for name in encoder if name in learned) == 911_192 or "filters" in options
        assert len(shapes) == (196 if "upsampling" in options else 204)

    def test_mala(self):
        assert sum(map(math.prod, mala_shapes().values())) == 84_020_475


class TestPredictions:
    """To 1e-5 those of the listed layers, evaluated without the code of our networks."""

    @pytest.mark.parametrize("module", [False, True])
    @pytest.mark.parametrize(("merge", "outputs"), [("cat", 3), ("none", 1)])
    def test_of_the_residual_u_net(self, tmp_path, merge, outputs, module):
        state = small(merge=merge, outputs=outputs)
        imported = read_reference(write(tmp_path / "a.ckpt", state, module=module))
        raw = random_raw(2, 1, 3, 32, 48)
        assert_same(predicted(imported.checkpoint, raw), residual_output(state, raw, merge=merge))
        expected = papers(filters=FILTERS, merge=merge)
        assert imported.checkpoint.network == expected
        assert imported.checkpoint.offsets == (NEAREST if outputs == 3 else RESTORED)

    @pytest.mark.parametrize(
        ("given", "options"),
        [
            ({"padding": "replicate"}, {"pad_mode": "replicate"}),
            ({"activation": "relu"}, {"relu": F.relu}),
            ({"activation": "leaky0.1"}, {"relu": partial(F.leaky_relu, negative_slope=0.1)}),
            ({}, {"merge": "add"}),
            ({"merge": "none"}, {"merge": "none"}),
            ({"upsampling": "bilinear"}, {"upsampling": "bilinear"}),
            ({"upsampling": "nearest"}, {"upsampling": "nearest"}),
        ],
    )
    def test_with_what_weights_do_not_tell(self, tmp_path, given, options):
        state = small(**{key: value for key, value in options.items() if key in ("merge", "upsampling")})
        imported = read_reference(write(tmp_path / "a.ckpt", state), given)
        raw = random_raw(1, 1, 2, 32, 16)
        assert_same(predicted(imported.checkpoint, raw), residual_output(state, raw, **options))
        assert not imported.assumed.keys() & given.keys()

    def test_of_the_papers_own_size(self, tmp_path):
        state = random_state(residual_shapes())
        imported = read_reference(write(tmp_path / "a.ckpt", state, module=True, zipped=True))
        assert imported.checkpoint.network == papers()
        raw = random_raw(1, 1, 2, 32, 32)
        assert_same(predicted(imported.checkpoint, raw), residual_output(state, raw))

    @pytest.mark.parametrize(
        ("depth", "shape", "module"), [(1, (14, 25, 22), False), (1, (14, 25, 22), True), (3, (29, 214, 214), True)]
    )
    def test_of_mala(self, tmp_path, depth, shape, module):
        state = mala(depth=depth)
        imported = read_reference(write(tmp_path / "a.ckpt", state, module=module))
        assert imported.checkpoint.network == MalaUNetSettings(features=2, growth=2, depth=depth)
        raw = random_raw(1, 1, *shape)
        assert_same(predicted(imported.checkpoint, raw), mala_output(state, raw, depth))

    def test_of_raw_that_is_divided_by_255(self, tmp_path):
        assert read_reference(write(tmp_path / "a.ckpt", small())).checkpoint.normalization == TypeNormalization()


class TestReport:
    def test_every_key_is_told_once(self, tmp_path):
        path = write(tmp_path / "a.ckpt", small(), module=True, step=7)
        content = torch.load(path, weights_only=True) | {"optimizer": {}}
        torch.save(content, path)
        imported = read_reference(path)
        assert imported.checkpoint.step == 7
        keys = {f"model_weights.{name}" for name in content["model_weights"]} | content.keys() - {"model_weights"}
        assert imported.taken.keys() | imported.ignored.keys() == keys
        assert not imported.taken.keys() & imported.ignored.keys()
        assert imported.taken["model_weights.module.up2.0.bias"] == "up2.0.bias"
        assert imported.taken["current_iter"] == "step"
        assert set(imported.ignored) == {"valid_result", "optimizer"}
        assert set(imported.assumed) == {"padding", "activation", "batch_momentum", "offsets"}

    def test_what_is_not_concatenated_is_added_or_left_out(self, tmp_path):
        assert read_reference(write(tmp_path / "a.ckpt", small(merge="add"))).assumed["merge"] == "add"
        assert read_reference(write(tmp_path / "a.ckpt", small(merge="none", outputs=1))).assumed["merge"] == "none"


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"conv1.block1.1.weight": torch.ones(9)}, "conv1.block1.1.weight: wanted (4,), got (9,)"),
            ({"conv5.block3.bias": None}, "conv5.block3.bias: wanted (5,), got nothing"),
            ({"conv8.weight": torch.ones(2)}, "conv8.weight: wanted nothing, got (2,)"),
            ({"center.block1.0.weight": None}, "center.block1.0.weight: wanted a kernel of five axes, got nothing"),
            ({"embed_in.0.weight": torch.ones(3, 2, 1, 5, 5)}, "wanted (3, 1, 1, 5, 5), got (3, 2, 1, 5, 5)"),
            ({"up3.0.bias": torch.ones(4, 4)}, "up3.0.bias: wanted (4,), got (4, 4)"),
        ],
    )
    def test_the_first_difference_is_told(self, tmp_path, change, told):
        state = {name: tensor for name, tensor in (small() | change).items() if tensor is not None}
        with pytest.raises(UserError, match=re.escape(told)):
            read_reference(write(tmp_path / "a.ckpt", state))

    def test_settings_against_the_weights(self, tmp_path):
        with pytest.raises(UserError, match=re.escape("cat0.0.weight: wanted (6,), got (12,)")):
            read_reference(write(tmp_path / "a.ckpt", small()), {"merge": "add"})

    def test_an_unknown_setting(self, tmp_path):
        with pytest.raises(ValidationError, match="pading"):
            read_reference(write(tmp_path / "a.ckpt", small()), {"pading": "zeros"})

    def test_bilinear_or_nearest(self, tmp_path):
        with pytest.raises(UserError, match=r"network\.upsampling: the weights .* bilinear or nearest, but not which"):
            read_reference(write(tmp_path / "a.ckpt", small(upsampling="nearest")))

    def test_outputs_without_offsets(self, tmp_path):
        path = write(tmp_path / "a.ckpt", small(outputs=2))
        with pytest.raises(UserError, match=r"offsets: wanted 3 outputs.* or 1, .* got 2"):
            read_reference(path)
        assert read_reference(path, offsets=NEAREST[:2]).checkpoint.offsets == NEAREST[:2]
        with pytest.raises(UserError, match=r"out_put\.0\.weight: wanted \(3, .* got \(2, "):
            read_reference(path, offsets=NEAREST)

    @pytest.mark.parametrize(
        ("order", "told"),
        [
            (
                "head first",
                "first and last of MALA's kernels: wanted ((3, 1, 3, 3, 3), (2, 3, 1, 1, 1)), got ((3, 2, 1, 1, 1), (",
            ),
            ("one short", "the end, where the order of MALA's layers has head.bias: wanted bias (3,), got nothing"),
            ("one more", "more.bias, where the order of MALA's layers has the end: wanted nothing, got bias (3,)"),
            ("bias first", "has down0.0.weight: wanted weight (2, 1, 3, 3, 3), got bias (2,)"),
            (
                "two weights",
                "layer0.gain, where the order of MALA's layers has down0.0.bias: wanted bias (2,), got gain (2",
            ),
            ("ups first", "layer8.weight, where the order of MALA's layers has down1.0.weight"),
        ],
    )
    def test_mala_in_another_order(self, tmp_path, order, told):
        items = list(mala().items())
        changed = {
            "head first": [*items[-2:], *items[:-2]],
            "one short": items[:-1],
            "one more": [*items, ("more.bias", torch.ones(3))],
            "bias first": [items[1], items[0], *items[2:]],
            "two weights": [items[0], ("layer0.gain", items[1][1]), *items[2:]],
            "ups first": [*items[:4], *items[8:11], *items[4:8], *items[11:]],
        }[order]
        with pytest.raises(UserError, match=re.escape(told)):
            read_reference(write(tmp_path / "a.ckpt", dict(changed)))

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ({"state_dict": {}}, "wanted a table with model_weights, tensors by name, .* got state_dict in"),
            ([1, 2], "got list in"),
            ({"model_weights": {}, "current_iter": 1}, "got model_weights, current_iter in"),
            ({"model_weights": {"a": 1}}, "wanted a table with model_weights"),
            ({"model_weights": {"fc.weight": torch.ones(2, 2)}}, r"got fc\.weight, \.\.\. in .* no such network"),
        ],
    )
    def test_other_files_of_torch(self, tmp_path, content, told):
        torch.save(content, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match=told):
            read_reference(tmp_path / "a.ckpt")

    def test_one_of_ours(self, tmp_path):
        save_checkpoint(tmp_path / "a.pt", read_reference(write(tmp_path / "a.ckpt", small())).checkpoint)
        with pytest.raises(UserError, match=r"a\.pt is one of ssns already"):
            read_reference(tmp_path / "a.pt")

    @pytest.mark.parametrize("zipped", [False, True])
    def test_code(self, tmp_path, zipped):
        torch.save({"model_weights": Path("x")}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(UserError, match=r"holds more than tensors and numbers \(pathlib\S*\), .* may run code"):
            read_reference(tmp_path / "a.ckpt")


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(first[name].dtype == second[name].dtype for name in first)


class TestRoundTrip:
    """To the bit."""

    @pytest.mark.parametrize(("merge", "outputs"), [("cat", 3), ("cat", 1), ("add", 3), ("none", 1)])
    def test_theirs(self, tmp_path, merge, outputs):
        path = write(tmp_path / "a.ckpt", small(merge=merge, outputs=outputs), step=11)
        save_checkpoint(tmp_path / "a.pt", read_reference(path).checkpoint)
        write_reference(tmp_path / "back.ckpt", load_checkpoint(tmp_path / "a.pt"))
        first, second = (torch.load(tmp_path / name, weights_only=True) for name in ("a.ckpt", "back.ckpt"))
        assert_equal(first.pop("model_weights"), second.pop("model_weights"))
        assert first == second == {"current_iter": 11, "valid_result": None}

    @pytest.mark.parametrize(
        ("network", "offsets", "given"),
        [
            (papers(), NEAREST, {}),
            (papers(merge="none"), RESTORED, {}),
            (papers(merge="add"), NEAREST, {}),
            (papers(filters=FILTERS, padding="replicate"), NEAREST, {"padding": "replicate"}),
            (papers(filters=FILTERS, upsampling="nearest"), NEAREST, {"upsampling": "nearest"}),
        ],
    )
    def test_ours(self, tmp_path, network, offsets, given):
        torch.manual_seed(1)
        weights = network.build(len(offsets)).state_dict()
        write_reference(tmp_path / "a.ckpt", Checkpoint(network, weights, offsets, TypeNormalization(), {}, step=5))
        back = read_reference(tmp_path / "a.ckpt", given).checkpoint
        assert_equal(back.weights, weights)
        assert replace(back, weights={}) == Checkpoint(network, {}, offsets, TypeNormalization(), {}, step=5)


def ours(offsets=NEAREST, **settings):
    network = papers(**{"filters": FILTERS} | settings)
    return Checkpoint(network, network.build(len(offsets)).state_dict(), offsets, TypeNormalization(), {})


class TestExport:
    def test_the_file_is_one_that_an_old_torch_reads(self, tmp_path):
        write_reference(tmp_path / "a.ckpt", ours())
        assert not zipfile.is_zipfile(tmp_path / "a.ckpt")
        assert list(torch.load(tmp_path / "a.ckpt", weights_only=True)["model_weights"]) == list(residual_shapes())

    @pytest.mark.parametrize(
        ("checkpoint", "told"),
        [
            (ours(), {"output_nc": "3", "filters": "[3, 4, 5, 6, 7]", "upsample_mode": "transposeS"}),
            (ours(padding="replicate", merge="add"), {"pad_mode": "replicate", "merge_mode": "add"}),
            (ours(activation="leaky0.1"), {"relu_mode": "leaky0.1", "pad_mode": "zero", "merge_mode": "cat"}),
            (ours(RESTORED, merge="none"), {"if_skip": "'False'", "output_nc": "1", "merge_mode": "cat"}),
            (ours(RESTORED), {"if_skip": "'True'", "relu_mode": "elu"}),
        ],
    )
    def test_how_it_is_read_there(self, tmp_path, checkpoint, told):
        exported = write_reference(tmp_path / "a.ckpt", checkpoint)
        assert told.items() <= exported.settings.items()
        assert exported.notes == ()

    def test_what_is_otherwise_there(self, tmp_path):
        checkpoint = replace(
            ours(batch_momentum=0.05), normalization=PercentileNormalization(), ranges={"a": IntensityRange(40, 210)}
        )
        ranges, momentum = write_reference(tmp_path / "a.ckpt", checkpoint).notes
        assert "a 40..210 became 0..1" in ranges
        assert "0.001 there, not 0.05" in momentum

    @pytest.mark.parametrize(
        ("checkpoint", "told"),
        [
            (ours(filters=(3, 4)), "network.filters: wanted 5, got 2"),
            (ours(unshuffle=2), "network.unshuffle: wanted 1, got 2"),
            (ours(normalization="group"), "network.normalization: wanted batch, got group"),
            (ours(((-2, 0, 0),)), "offsets: wanted [(-1, 0, 0), (0, -1, 0), (0, 0, -1)], got [(-2, 0, 0)]"),
            (ours(merge="none"), "network.merge: wanted cat or add, got none"),
            (replace(ours(), network=MalaUNetSettings()), "wanted a residual U-Net, got MALA"),
        ],
    )
    def test_what_cannot_be_had_there(self, tmp_path, checkpoint, told):
        with pytest.raises(UserError, match=re.escape(f"export: {told}") + "|" + re.escape(told)):
            write_reference(tmp_path / "a.ckpt", checkpoint)
        assert not (tmp_path / "a.ckpt").exists()
