import os
import subprocess
import sys

import numpy as np
import pytest

import ssns

WITHOUT_TORCH = [name for name in ssns.__all__ if name not in ("MalaUNet", "ResidualUNet")]


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_names_are_found_where_they_are_used(name):
    assert callable(getattr(ssns, name))
    assert name in dir(ssns)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'ssns' has no attribute 'segmant'"):
        _ = ssns.segmant


def test_all_of_them_but_the_networks_come_without_torch():
    script = f"import sys, ssns\n[getattr(ssns, name) for name in {WITHOUT_TORCH}]\nprint('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_import_alone_is_light():
    script = "import sys, ssns; print([name for name in ('numpy', 'pydantic', 'scipy') if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("method", [None, "paper-waterz", "paper-multicut"])
def test_labels_to_affinities_to_segments_gives_the_partition_back(method):
    y, x = np.indices((32, 48))
    labels = np.broadcast_to(np.where((y % 16 == 0) | (x % 16 == 0), 0, 1 + y // 16 * 3 + x // 16), (4, 32, 48))
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
    affinities, mask = ssns.labels_to_affinities(labels, offsets)
    assert affinities.shape == mask.shape == (3, 4, 32, 48)
    segmentation = ssns.segment(affinities, method, offsets=offsets)
    assert np.issubdtype(segmentation.dtype, np.integer)
    scores = ssns.score(segmentation, labels)
    assert (scores.voi_split, scores.voi_merge, scores.voi_sum, scores.arand) == (0, 0, 0, 0)


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert ssns.__version__ == version("ssns")
