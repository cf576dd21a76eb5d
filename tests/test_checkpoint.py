import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssns.affinities import NEAREST
from ssns.checkpoint import FORMAT, VERSION, Checkpoint, load_checkpoint, save_checkpoint
from ssns.errors import UserError
from ssns.networks import MalaUNetSettings, ResidualUNetSettings
from ssns.volume.normalization import IntensityRange, PercentileNormalization

NETWORK = ResidualUNetSettings(filters=(2, 4), batch_momentum=0.1)
NETWORKS = [
    pytest.param(NETWORK, id="residual"),
    pytest.param(ResidualUNetSettings(filters=(2, 4), unshuffle=2), id="unshuffled"),
    pytest.param(MalaUNetSettings(features=2, growth=2, depth=1), id="mala"),
]


@pytest.fixture(scope="module")
def checkpoint():
    """Of a network that has seen something, and its optimiser."""
    torch.manual_seed(0)
    network = NETWORK.build(3)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 1, 2, 4, 4)).square().sum().backward()
    optimizer.step()
    return Checkpoint(
        NETWORK,
        network.state_dict(),
        NEAREST,
        PercentileNormalization(low=0.5),
        {"ac4": IntensityRange(3.5, 250), "ac3": IntensityRange(0, 255)},
        step=17,
        scores={"voi_sum": 1.25},
        state={"optimizer": optimizer.state_dict(), "best": math.inf, "history": [{"step": 1}]},
    )


def test_what_is_saved_comes_back(checkpoint, tmp_path):
    path = tmp_path / "new" / "folder" / "last.pt"
    save_checkpoint(path, checkpoint)
    back = load_checkpoint(path)
    for name in ("network", "offsets", "normalization", "ranges", "step", "scores"):
        assert getattr(back, name) == getattr(checkpoint, name)
    assert list(back.weights) == list(checkpoint.weights)
    assert all(torch.equal(back.weights[name], weight) for name, weight in checkpoint.weights.items())
    assert back.state["best"] == math.inf
    assert back.state["history"] == [{"step": 1}]
    fresh = torch.optim.AdamW(NETWORK.build(3).parameters())
    fresh.load_state_dict(back.state["optimizer"])
    for number, moments in checkpoint.state["optimizer"]["state"].items():
        assert all(torch.equal(fresh.state_dict()["state"][number][name], value) for name, value in moments.items())
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("network", NETWORKS)
class TestAuxiliaryChannels:
    FAR = ((0, 0, -9), (-2, 0, 0))

    def learned(self, network):
        torch.manual_seed(0)
        weights = network.build(5).state_dict()
        return Checkpoint(network, weights, NEAREST, PercentileNormalization(), {}, auxiliary_offsets=self.FAR)

    def logits(self, network, weights, channels):
        whole = network.build(channels)
        whole.load_state_dict(dict(weights))
        raw = torch.rand((1, 1, *network.extents.at_least((4, 8, 8))), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            return whole.eval()(raw)

    def test_come_back_from_a_file(self, network, tmp_path):
        trained = self.learned(network)
        save_checkpoint(tmp_path / "a.pt", trained)
        back = load_checkpoint(tmp_path / "a.pt")
        assert (back.offsets, back.auxiliary_offsets) == (NEAREST, self.FAR)
        assert all(torch.equal(back.weights[name], weight) for name, weight in trained.weights.items())

    def test_are_not_predicted(self, network):
        trained = self.learned(network)
        whole = self.logits(network, trained.weights, 5)
        assert torch.allclose(self.logits(network, trained.build().state_dict(), 3), whole[:, :3], atol=1e-6)

    def test_are_predicted_where_asked_for_in_any_order(self, network):
        trained = self.learned(network)
        whole = self.logits(network, trained.weights, 5)
        chosen = trained.predicting([(-2, 0, 0), (0, -1, 0)])
        assert (chosen.offsets, chosen.auxiliary_offsets) == (((-2, 0, 0), (0, -1, 0)), ())
        assert torch.allclose(self.logits(network, chosen.weights, 2), whole[:, [4, 1]], atol=1e-6)

    def test_are_predicted_where_all_are_asked_for(self, network):
        trained = self.learned(network)
        every = trained.offsets + trained.auxiliary_offsets
        chosen = trained.predicting(every)
        assert (chosen.offsets, chosen.auxiliary_offsets) == (every, ())
        whole = self.logits(network, trained.weights, 5)
        assert torch.equal(self.logits(network, chosen.build().state_dict(), 5), whole)

    def test_that_nothing_has_trained_are_0_and_leave_the_others(self, network, tmp_path):
        trained = replace(self.learned(network), untrained=((0, -1, 0), (-2, 0, 0)))
        save_checkpoint(tmp_path / "a.pt", trained)
        back = load_checkpoint(tmp_path / "a.pt")
        assert all(torch.equal(back.weights[name], weight) for name, weight in trained.weights.items())  # to go on from
        whole = self.logits(network, trained.weights, 5)
        every = torch.sigmoid(self.logits(network, back.predicting(back.offsets + back.auxiliary_offsets).weights, 5))
        assert every[:, [1, 4]].max() < 1e-8
        assert torch.allclose(every[:, [0, 2, 3]], torch.sigmoid(whole[:, [0, 2, 3]]), atol=1e-6)
        neighbours = torch.sigmoid(self.logits(network, back.build().state_dict(), 3))
        assert torch.allclose(neighbours, every[:, :3], atol=1e-6)

    def test_that_were_not_learned_are_refused(self, network):
        with pytest.raises(UserError, match=r"which the checkpoint has learned, got \[\(0, 0, -27\)\]"):
            self.learned(network).predicting([*NEAREST, (0, 0, -27)])


def test_the_network_is_built_as_it_was_in_evaluation_mode(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    original = NETWORK.build(3)
    original.load_state_dict(dict(checkpoint.weights))
    original.eval()
    rebuilt = load_checkpoint(tmp_path / "a.pt").build()
    assert not rebuilt.training
    raw = torch.rand(1, 1, 2, 4, 4)
    with torch.no_grad():
        assert torch.equal(rebuilt(raw), original(raw))


class TestDamage:
    @pytest.fixture
    def path(self, checkpoint, tmp_path):
        save_checkpoint(tmp_path / "last.pt", checkpoint)
        return tmp_path / "last.pt"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"no file at .*none\.pt"):
            load_checkpoint(tmp_path / "none.pt")

    @pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
    def test_a_cut_file(self, path, share):
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UserError, match=r"got .*last\.pt, which is damaged, or .* delete it to begin anew$"):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        "content", [b"hello world", b"\x80\x02}q\x00.", b"II*\x00" + bytes(200), b"PK\x03\x04", bytes(100), b"{}"]
    )
    def test_a_file_of_another_kind(self, path, content):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged, or another file|not written by ssns"):
            load_checkpoint(path)

    @pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"format": "lightning"}])
    def test_a_torch_file_of_another_program(self, path, content):
        torch.save(content, path)
        with pytest.raises(UserError, match="was not written by ssns"):
            load_checkpoint(path)

    def test_a_newer_version(self, path):
        torch.save(torch.load(path, weights_only=True) | {"version": VERSION + 1}, path)
        with pytest.raises(UserError, match=rf"version {VERSION + 1}, this ssns reads up to {VERSION}: update"):
            load_checkpoint(path)

    def test_a_network_that_is_not_known(self, path):
        torch.save(torch.load(path, weights_only=True) | {"network": {"type": "transformer"}}, path)
        with pytest.raises(UserError, match=r"settings in .* are not known here"):
            load_checkpoint(path)

    def test_a_part_that_is_missing(self, path):
        torch.save({"format": FORMAT, "version": VERSION}, path)
        with pytest.raises(UserError, match=r"lacks a part of a checkpoint .*network"):
            load_checkpoint(path)

    def test_a_file_that_may_not_be_read(self, path, monkeypatch):
        def load(*arguments, **settings):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(torch, "load", load)
        with pytest.raises(UserError, match=r"last\.pt cannot be read \(Permission denied\)"):
            load_checkpoint(path)

    def test_a_folder_that_cannot_be_made(self, checkpoint, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written"):
            save_checkpoint(tmp_path / "file" / "last.pt", checkpoint)


class Trap:
    """A pickle that would run code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path):
    trap = tmp_path / "touched"
    torch.save({"format": FORMAT, "version": VERSION, "state": Trap(trap)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt holds more than tensors and numbers \(.*getattr\), .* may run code"):
        load_checkpoint(tmp_path / "a.pt")
    assert not trap.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert trap.exists()


class TestInterruptedWrite:
    def test_the_older_file_is_kept(self, checkpoint, tmp_path, monkeypatch):
        path = tmp_path / "last.pt"
        save_checkpoint(path, checkpoint)

        def killed(content, file, **settings):
            file.write(b"half of")
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(torch, "save", killed)
            with pytest.raises(SystemExit):
                save_checkpoint(path, replace(checkpoint, step=18))
        assert load_checkpoint(path).step == 17
        save_checkpoint(path, replace(checkpoint, step=19))
        assert load_checkpoint(path).step == 19

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_disk_is_told_and_the_older_file_is_kept(self, checkpoint, tmp_path):
        path = tmp_path / "last.pt"
        save_checkpoint(path, checkpoint)
        (tmp_path / "last.pt.partial").symlink_to("/dev/full")
        with pytest.raises(UserError, match=r"No space left on device.*free some space"):
            save_checkpoint(path, replace(checkpoint, step=18))
        assert load_checkpoint(path).step == 17
        assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
