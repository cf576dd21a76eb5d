import pytest
import torch
from test_loop import equal, outcome
from toy_training import CHECKPOINT, NETWORK, consistency, fitness, settings, supervised

from ssns.errors import UserError
from ssns.networks import ResidualUNetSettings
from ssns.training.loop import train
from ssns.training.objectives import CrossSupervision, MeanTeacher, TransferSettings, WeightSharing
from ssns.training.transfer import transfer_weights

SETTINGS = ResidualUNetSettings(filters=(4, 8, 8))


def built(seed, outputs=3, **changes):
    torch.manual_seed(seed)
    return SETTINGS.model_copy(update=changes).build(outputs)


def taken(network, source):
    """Names of tensors that are equal in both."""
    weights = source.state_dict()
    return {n for n, t in network.state_dict().items() if n in weights and torch.equal(t, weights[n])}


class TestParts:
    def test_the_encoder_of_the_papers_network(self):
        # reference 3.1: 92 of 204 entries are the encoder's, the same without skips; 911,192 parameters.
        paper = ResidualUNetSettings()
        source, network = paper.model_copy(update={"merge": "none"}).build(1), paper.build(3)
        found = transfer_weights(network, source.state_dict(), TransferSettings())
        assert len(found.loaded) == 92
        assert sum(parameter.numel() for parameter in found.parameters) == 911_192
        assert not found.missing
        assert len(found.anew) == 204 - 92
        assert str(found) == "92 tensors taken over, 112 of parts that transfer.parts does not name begin anew"

    @pytest.mark.parametrize(
        ("parts", "left"),
        [
            ("encoder", ("up", "cat", "conv2", "conv3", "embed_out", "out_put")),
            ("encoder_decoder", ("out_put",)),
            ("all", ()),
        ],
    )
    def test_what_is_named_is_taken_and_nothing_else(self, parts, left):
        source, network = built(0), built(1)
        for tensor in source.state_dict().values():
            tensor += 1
        found = transfer_weights(network, source.state_dict(), TransferSettings(parts=parts))
        everything = set(network.state_dict())
        assert set(found.loaded) == {name for name in everything if not name.startswith(left or "-")}
        assert taken(network, source) == set(found.loaded)

    def test_parts_are_the_whole_network(self):
        network = built(0)
        names = [name for part in network.parts.values() for name in part]
        assert sorted(names) == sorted({name.partition(".")[0] for name in network.state_dict()})


class TestReport:
    def test_what_does_not_fit_is_told_with_its_reason(self):
        source, network = built(0, 1, merge="none"), built(1)
        found = transfer_weights(network, source.state_dict(), TransferSettings(parts="all"))
        assert found.missing["out_put.0.weight"] == "(1, 4, 1, 1, 1) in place of (3, 4, 1, 1, 1)"
        assert found.missing["conv2.block1.0.weight"] == "(8, 8, 1, 3, 3) in place of (8, 16, 1, 3, 3)"
        assert "up0.0.weight" in found.loaded
        assert f"{len(found.loaded)} tensors taken over, {len(found.missing)} not, such as" in str(found)
        weights = source.state_dict()
        del weights["embed_in.0.bias"]
        assert transfer_weights(network, weights, TransferSettings()).missing == {"embed_in.0.bias": "absent"}

    @pytest.mark.parametrize("parts", ["encoder", "encoder_decoder", "all"])
    def test_each_tensor_of_both_networks_is_accounted_for(self, parts):
        source, network = built(0, 1, merge="none"), built(1)
        weights = source.state_dict() | {"another.weight": torch.zeros(1)}
        found = transfer_weights(network, weights, TransferSettings(parts=parts))
        told = found.to_dict()
        assert sorted([*told["loaded"], *told["missing"], *told["anew"]]) == sorted(network.state_dict())
        assert sorted([*told["loaded"], *told["unused"]]) == sorted(weights)
        assert "another.weight" in told["unused"]


class TestFreezing:
    def test_a_learning_rate_of_zero_freezes_what_was_taken(self):
        source, network = built(0), built(1)
        found = transfer_weights(network, source.state_dict(), TransferSettings(learning_rate=0))
        frozen = {id(parameter) for parameter in network.parameters() if not parameter.requires_grad}
        assert frozen == {id(parameter) for parameter in found.parameters}
        assert 0 < len(frozen) < len(list(network.parameters()))

    def objective(self, kind):
        """What trains a network whose encoder is frozen, or with such a teacher."""
        torch.manual_seed(0)
        source = NETWORK.model_copy(update={"merge": "none"}).build(1)
        for name, buffer in source.named_buffers():
            buffer += 3 if name.endswith("num_batches_tracked") else 0.5

        def build():
            network = NETWORK.build(3)
            transfer_weights(network, source.state_dict(), TransferSettings(learning_rate=0))
            return network

        if kind is None:
            return supervised(network=build())
        return consistency(labelled=supervised(), build=build, teacher=kind)

    @pytest.mark.parametrize(
        "kind",
        [
            None,
            WeightSharing(statistics="batch"),
            MeanTeacher(),
            MeanTeacher(statistics="batch", buffers="own", start="random"),
            CrossSupervision(statistics="batch"),
        ],
        ids=["supervised", "weight sharing", "averaged", "own", "cross"],
    )
    def test_what_is_frozen_does_not_move_and_the_rest_does(self, tmp_path, kind):
        objective = self.objective(kind)
        networks = [objective.judged, *([] if kind is None else objective.network.networks)]
        before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
        train(objective, CHECKPOINT, settings(), tmp_path)
        encoder = NETWORK.build(3).parts["encoder"]
        for network, start in zip(networks, before, strict=True):
            same = {name for name, tensor in network.state_dict().items() if torch.equal(tensor, start[name])}
            assert same == {name for name in start if name.partition(".")[0] in encoder}

    def test_resumed_equals_uninterrupted(self, tmp_path):
        def failing(network, step):
            raise OSError("gone")

        for name in ("whole", "resumed"):
            if name == "resumed":
                with pytest.raises(OSError, match="gone"):
                    train(self.objective(MeanTeacher()), CHECKPOINT, settings(), tmp_path / name, validate=failing)
            train(self.objective(MeanTeacher()), CHECKPOINT, settings(), tmp_path / name, validate=fitness)
        assert equal(outcome(tmp_path / "resumed"), outcome(tmp_path / "whole"))

    def test_all_frozen_is_refused(self):
        source, network = built(0), built(1)
        with pytest.raises(UserError, match="wanted parameters that learn"):
            transfer_weights(network, source.state_dict(), TransferSettings(parts="all", learning_rate=0))
