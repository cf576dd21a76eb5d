from itertools import product

import numpy as np
import pytest
import torch
from toy_networks import Crop, Padded, Valid, predict_array

from ssns.errors import UserError
from ssns.networks import MalaUNetSettings
from ssns.prediction import PredictionSettings, reference_windows
from ssns.prediction.reference import reference_tiling
from ssns.space import Box

SETTINGS = PredictionSettings(tiling="reference", dtype="float32", precision="fp32")


@pytest.mark.parametrize(("depth", "windows"), [(25, 338), (50, 1183), (100, 2028), (200, 3718)])
def test_window_counts_of_the_paper(depth, windows):
    assert len(reference_windows((depth, 1024, 1024))) == windows


@pytest.mark.parametrize(("depth", "windows"), [(25, 361), (50, 722), (100, 1444)])
def test_window_counts_of_the_papers_valid_network(depth, windows):
    box = Box.of_shape((depth, 1024, 1024))
    assert reference_tiling(box, MalaUNetSettings().extents.shrink).count(box) == windows


def test_windows_stand_at_their_stride_and_the_last_one_at_the_end():
    windows = reference_windows((50, 1030, 1024))
    assert windows[0] == Box((-14, -48, -48), (4, 112, 112))
    assert sorted({window.start[0] for window in windows}) == [-14, -4, 6, 16, 26, 36, 46]
    assert sorted({window.start[1] for window in windows})[-2:] == [912, 918]
    assert windows[-1].stop == (64, 1078, 1072)


def test_weights_of_the_paper():
    box = Box.of_shape((50, 1024, 1024))
    tile = next(reference_tiling(box, (0, 0, 0)).tiles(box))
    weight = tile.weight(tile.keep)
    assert weight.shape == (18, 160, 160)
    assert weight.max() == pytest.approx(0.9567, abs=5e-5)
    assert weight[0, 0, 0] == pytest.approx(1e-6, rel=1e-3)
    assert weight[9, 80, 0] == pytest.approx(4.6e-6, abs=5e-8)


def test_blended_windows_equal_the_papers_loop():
    raw = np.random.default_rng(0).random((8, 70, 100), np.float32)
    network = Padded().eval()
    padded = np.pad(raw, ((4, 4), (48, 48), (48, 48)), mode="reflect")
    coordinates = np.meshgrid(*(np.linspace(-1, 1, n) for n in (18, 160, 160)), indexing="ij")
    weight = np.exp(-sum(c**2 for c in coordinates) / (2 * 0.2**2)) + 1e-6
    # a padded extent of 16 is less than a window: the reflection goes on behind it
    padded = np.concatenate([padded, padded[-3:-1][::-1]])
    total, weights = np.zeros((3, *padded.shape)), np.zeros(padded.shape)
    for y, x in product((0, 6), (0, 36)):
        window = (slice(0, 18), slice(y, y + 160), slice(x, x + 160))
        with torch.no_grad():
            affinities = torch.sigmoid(network(torch.from_numpy(padded[window].copy())[None, None]))[0].numpy()
        total[:, *window] += affinities * weight
        weights[window] += weight
    expected = (total / weights)[:, 4:12, 48:-48, 48:-48]
    np.testing.assert_allclose(predict_array(network, raw, SETTINGS), expected, atol=2e-6)


def test_outputs_of_the_papers_valid_network_overwrite_each_other():
    raw = 0.2 + 0.6 * np.random.default_rng(0).random((25, 60, 56), np.float32)
    network = Crop()
    padded = np.pad(raw, ((14, 14), (106, 106), (106, 106)), mode="reflect")
    expected = np.zeros((3, *raw.shape), np.float32)
    for y in (0, 4):
        window = torch.from_numpy(padded[:, y : y + 268, :268].copy())
        expected[:, :, y : y + 56] = torch.sigmoid(network(window[None, None]))[0].numpy()
    np.testing.assert_allclose(predict_array(network, raw, SETTINGS), expected, atol=1e-6)


def test_a_part_is_reflected_at_its_own_faces():
    raw = np.random.default_rng(0).random((12, 40, 40), np.float32)
    network = Padded()
    box = Box((2, 4, 0), (9, 40, 33))
    got = predict_array(network, raw, SETTINGS, box=box)
    np.testing.assert_array_equal(got, predict_array(network, raw[box.slices], SETTINGS))


def test_other_valid_networks_are_refused():
    with pytest.raises(UserError, match=r"^tiling: reference .* loses \(2, 3, 3\): use tiling = \"auto\""):
        predict_array(Valid(), np.zeros((5, 20, 20), np.float32), SETTINGS)
