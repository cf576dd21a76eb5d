"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

DATA = "SSNS_DEVELOPMENT_DATA"

settings.register_profile("untimed", deadline=None)  # Kernels are compiled at their first call; machines are busy.
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def development_data() -> Path:
    """The folder of real volumes; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get(DATA, Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "AC4_inputs.tif").is_file():
        pytest.skip(f"no development data in {folder} (set {DATA})")
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two processes with two threads each on two cores are ten times slower than with one."""
    try:
        import torch
    except ModuleNotFoundError:
        return
    torch.set_num_threads(1)
