"""Two processes that train together, over gloo on the CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from joint_step import KINDS, gradients


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(folder, script, processes=2):
    """Run a script of this folder as torchrun does."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-addr", "127.0.0.1",
        "--master-port", str(free_port()), str(Path(__file__).with_name(script)), str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes left of a step of each kind."""
    folder = tmp_path_factory.mktemp("together")
    together(folder, "joint_step.py")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_one_process_with_the_joint_batch(folder, tmp_path, kind):
    alone, _ = gradients(kind, tmp_path, "group")
    for rank in range(2):
        joint = torch.load(folder / f"{kind}-{rank}.pt")
        assert joint["losses"] == pytest.approx(alone["losses"], rel=1e-6)
        assert joint["gradients"].keys() == alone["gradients"].keys()
        for name, gradient in alone["gradients"].items():
            torch.testing.assert_close(joint["gradients"][name], gradient, rtol=1e-5, atol=1e-8)
    assert max(float(gradient.abs().max()) for gradient in alone["gradients"].values()) > 1e-3
