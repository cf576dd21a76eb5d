import onnxruntime
import pytest
from toy_experiment import toy

import ssns.commands.export
from ssns.cli import main
from ssns.commands.run_folder import RunFolder


def typed(*arguments, code=0):
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == code


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


def test_a_missing_library_is_named(best, tmp_path, monkeypatch, capsys):
    def missing(checkpoint, path):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(ssns.commands.export, "export_onnx", missing)
    typed("export", best, tmp_path / "a.onnx", code=1)
    assert "pip install 'ssns[export]'" in capsys.readouterr().err
