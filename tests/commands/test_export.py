import onnxruntime
import pytest
import torch
from toy_experiment import toy, typed

import ssns.commands.export
from ssns.checkpoint import RESTORED, Checkpoint, load_checkpoint, save_checkpoint
from ssns.commands.run_folder import RunFolder
from ssns.networks import ResidualUNetSettings
from ssns.volume.normalization import TypeNormalization


@pytest.fixture
def best(finished):
    return RunFolder.of(toy(finished)).best


def test_the_network_of_a_run_for_other_tools(best, tmp_path, capsys):
    typed("export", best, tmp_path / "out" / "a.onnx")
    assert "a.onnx" in capsys.readouterr().out
    inputs = onnxruntime.InferenceSession(str(tmp_path / "out" / "a.onnx")).get_inputs()
    assert [(each.name, each.shape) for each in inputs] == [("raw", ["batch", 1, "z", "y", "x"])]


def test_a_file_is_not_overwritten_unless_asked(best, tmp_path, capsys):
    (tmp_path / "a.onnx").write_text("mine")
    typed("export", best, tmp_path / "a.onnx", code=1)
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "a.onnx").read_text() == "mine"
    typed("export", best, tmp_path / "a.onnx", "--force")
    assert (tmp_path / "a.onnx").stat().st_size > 1000


def test_the_name_has_to_fit_the_format(best, tmp_path, capsys):
    typed("export", best, tmp_path / "a.onnx", "--to", "bioimageio", code=1)
    assert "wanted a name that ends with .zip for bioimageio" in capsys.readouterr().err


def test_what_fails_leaves_nothing(best, tmp_path, monkeypatch, capsys):
    def full(checkpoint, path):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ssns.commands.export, "export_onnx", full)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.onnx").write_text("older")
    typed("export", best, tmp_path / "out" / "a.onnx", "--force", code=1)
    assert "No space left on device" in capsys.readouterr().err
    assert [(each.name, each.read_text()) for each in (tmp_path / "out").iterdir()] == [("a.onnx", "older")]


def test_the_paper_s_code_has_no_network_of_two_levels(best, tmp_path, capsys):
    typed("export", best, tmp_path / "a.ckpt", "--to", "reference", code=1)
    assert "number of network.filters: wanted 5, got 2" in capsys.readouterr().err
    assert not (tmp_path / "a.ckpt").exists()


def test_a_checkpoint_of_the_paper_s_code_comes_back_to_the_bit(tmp_path, capsys):
    network = ResidualUNetSettings(filters=(4, 4, 4, 4, 4), batch_momentum=0.001)
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    weights = network.build(3).state_dict()
    save_checkpoint(tmp_path / "a.pt", Checkpoint(network, weights, offsets, TypeNormalization(), {}))
    typed("export", tmp_path / "a.pt", tmp_path / "a.ckpt", "--to", "reference")
    assert "  filters: [4, 4, 4, 4, 4]" in capsys.readouterr().out
    typed("import", tmp_path / "a.ckpt", "-o", tmp_path / "b.pt")
    back = load_checkpoint(tmp_path / "b.pt")
    assert back.network == network
    assert all(torch.equal(back.weights[name], tensor) for name, tensor in weights.items())


def test_a_network_that_restores_raw_is_refused(tmp_path, capsys):
    network = ResidualUNetSettings(filters=(4, 8))
    restoring = Checkpoint(network, network.build(1).state_dict(), RESTORED, TypeNormalization(), {})
    save_checkpoint(tmp_path / "a.pt", restoring)
    typed("export", tmp_path / "a.pt", tmp_path / "a.onnx", code=1)
    assert "wanted one that predicts affinities" in capsys.readouterr().err


def test_a_missing_library_is_named(best, tmp_path, monkeypatch, capsys):
    def missing(checkpoint, path):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(ssns.commands.export, "export_onnx", missing)
    typed("export", best, tmp_path / "a.onnx", code=1)
    assert "pip install 'ssns[export]'" in capsys.readouterr().err
