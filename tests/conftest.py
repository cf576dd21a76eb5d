"""Fixtures of all tests."""

import os
from pathlib import Path

import numpy as np
import pytest

from ssns.metrics import Contingency

DATA = "SSNS_DEVELOPMENT_DATA"


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


@pytest.fixture(autouse=True, scope="session")
def _compiled_counting() -> None:
    """To compile takes longer than the first example of a property may."""
    Contingency.count(np.ones(1, int), np.ones(1, int), np.ones(1, bool))
