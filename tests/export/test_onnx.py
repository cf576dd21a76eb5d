import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toy_checkpoints import NETWORKS, checkpoint

from ssns.export import export_onnx
from ssns.volume.normalization import PercentileNormalization


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", NETWORKS)
def test_affinities_are_those_of_torch_at_every_extent_that_the_network_takes(name, tmp_path):
    trained = checkpoint(NETWORKS[name])
    export_onnx(trained, tmp_path / "a.onnx")
    network, run = trained.build(), session(tmp_path / "a.onnx").run
    extents = trained.network.extents
    for batch, steps in ((1, (0, 0, 0)), (2, (3, 1, 2)), (1, (8, 3, 1))):
        shape = [least + n * step for least, n, step in zip(extents.smallest, steps, extents.stride, strict=True)]
        raw = torch.rand((batch, 1, *shape), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            wanted = torch.sigmoid(network(raw)).numpy()
        (got,) = run(["affinities"], {"raw": raw.numpy()})
        assert got.dtype == np.float32
        assert wanted.std() > 1e-3
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


def test_what_it_needs_to_be_used_is_in_the_file(tmp_path):
    offsets = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0))
    trained = checkpoint(NETWORKS["mala"], PercentileNormalization(sections="levelled"), offsets)
    export_onnx(trained, tmp_path / "a.onnx")
    told = {each.key: json.loads(each.value) for each in onnx.load(tmp_path / "a.onnx").metadata_props}
    extents = trained.network.extents
    assert told == {
        "offsets": [list(offset) for offset in offsets],
        "normalization": {"type": "percentile", "low": 0.1, "high": 99.9, "sections": "levelled"},
        "smallest": list(extents.smallest),
        "stride": list(extents.stride),
        "shrink": list(extents.shrink),
    }
