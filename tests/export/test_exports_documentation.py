"""What docs/exports.md says can be typed."""

import re
import shlex
from pathlib import Path

import pytest
from toy_checkpoints import NETWORKS, checkpoint

from ssns.checkpoint import save_checkpoint
from ssns.cli import main
from ssns.export import export_onnx

TEXT = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^ssns export .*$", TEXT.replace("\\\n", ""), re.MULTILINE)]


@pytest.mark.filterwarnings("ignore")  # of bioimageio.core and what it imports
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[3])
def test_commands(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("runs/raw/train/best.pt"), checkpoint(NETWORKS["residual"]))
    given = ["runs/raw/train/best.pt" if word.startswith("zoo:") else word for word in command[1:]]
    with pytest.raises(SystemExit, match="0"):
        main(given)
    assert Path(command[3]).is_file()


def test_the_python_of_onnx(tmp_path, monkeypatch, capsys):
    (script,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    export_onnx(checkpoint(NETWORKS["unshuffled"]), Path("network.onnx"))
    exec(script, {})
    assert capsys.readouterr().out.startswith("{(-1, 0, 0): array(")
