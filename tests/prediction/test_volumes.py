import subprocess
import sys
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from toy_networks import Padded, SameId, Valid, predict_array

from ssns.affinities import GRID_SYMMETRIES, NEAREST, labels_to_affinities
from ssns.blockwise import Markers
from ssns.checkpoint import Checkpoint
from ssns.errors import UserError
from ssns.networks import ResidualUNetSettings
from ssns.networks.mala import MalaUNet
from ssns.prediction import PredictionSettings, predict, predict_box, predict_volume
from ssns.prediction.inference import Predictor, on_device
from ssns.prediction.plan import LARGEST_CALL
from ssns.space import Box
from ssns.volume import create_volume, from_array, open_volume
from ssns.volume.normalization import IntensityRange, PercentileNormalization

EXACT = PredictionSettings(precision="fp32", dtype="float32")


def exact(**changes):
    return EXACT.model_copy(update={"batch": 1, **changes})


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def whole(network, raw, before, after):
    """The network on all of raw, reflected by so much at both ends of each axis; ``after`` fits the stride."""
    padded = np.pad(raw, list(zip(before, after, strict=True)), mode="reflect")
    with torch.no_grad():
        result = torch.sigmoid(network.eval()(torch.from_numpy(padded)[None, None]))[0].numpy()
    crop = [slice(b - s, b - s + n) for b, s, n in zip(before, network.extents.shrink, raw.shape, strict=True)]
    return result[:, *crop]


class TestIntensities:
    @pytest.fixture
    def checkpoint(self):
        network = ResidualUNetSettings(filters=(2, 4))
        weights = network.build(3).state_dict()
        return Checkpoint(network, weights, NEAREST, PercentileNormalization(), {})

    @pytest.mark.parametrize("ends", [(40, 210), IntensityRange(40, 210)])
    def test_are_those_given(self, checkpoint, ends):
        raw = np.random.default_rng(0).integers(0, 256, (4, 16, 16)).astype(np.uint8)
        scaled = predict_array(checkpoint.build(), IntensityRange(40, 210).apply(raw), EXACT)
        np.testing.assert_array_equal(predict(raw, checkpoint, EXACT, intensity=ends), scaled)

    def test_or_else_measured_on_the_whole_volume(self, checkpoint):
        raw = np.random.default_rng(0).integers(0, 256, (4, 16, 16)).astype(np.uint8)
        box = Box((0, 0, 0), (2, 16, 16))
        measured = PercentileNormalization().measure(from_array(raw))
        np.testing.assert_array_equal(
            predict(raw, checkpoint, EXACT, box=box), predict(raw, checkpoint, EXACT, box=box, intensity=measured)
        )

    def test_are_refused_where_sections_are_levelled(self, checkpoint):
        levelled = replace(checkpoint, normalization=PercentileNormalization(sections="levelled"))
        with pytest.raises(UserError, match=r"intensity: wanted none, .* got \(40, 210\)"):
            predict(noise(2, 16, 16), levelled, EXACT, intensity=(40, 210))

    def test_in_the_wrong_order_are_refused_before_anything_is_read(self):
        with pytest.raises(UserError, match=r"intensity: wanted .* got \(210, 40\)"):
            predict(np.zeros((2, 16, 16), np.uint8), "no-such.pt", intensity=(210, 40))


@pytest.mark.parametrize("tile", [(9, 16, 20), (7, 40, 14), (8, 14, 38)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_of_a_padded_network_equal_the_whole(tile, batch):
    raw = noise(9, 37, 30)
    network = Padded(pool=2)
    got = predict_array(network, raw, exact(tile=tile, halo=(2, 4, 4), batch=batch))
    np.testing.assert_allclose(got, whole(network, raw, (0, 0, 0), (0, 1, 0)), atol=1e-5)
    seen = predict_array(network, raw, exact(tile=tile, halo=(2, 4, 4), reflect=(1, 2, 99)))
    np.testing.assert_allclose(seen, whole(network, raw, (1, 2, 4), (1, 3, 4)), atol=1e-5)


def mala():
    torch.manual_seed(0)
    return MalaUNet(features=2, growth=2, depth=1)


@pytest.mark.parametrize("tile", [(13, 25, 25), (15, 31, 28), (99, 100, 100)])
def test_tiles_of_mala_equal_the_whole(tile):
    raw = noise(5, 17, 22)
    got = predict_array(mala(), raw, exact(tile=tile))
    np.testing.assert_allclose(got, whole(mala(), raw, (6, 12, 12), (6, 11, 12)), atol=1e-5)
    assert got.std() > 0.01


def test_the_chosen_tile_is_one_that_mala_takes(monkeypatch):
    monkeypatch.setattr("ssns.prediction.inference.free_memory", lambda device: 3_000_000)
    network, seen = mala(), set()
    network.register_forward_pre_hook(lambda module, inputs: seen.add(inputs[0].shape[2:]))
    raw = noise(20, 60, 60)
    got = predict_array(network, raw, PredictionSettings(precision="fp32", dtype="float32"))
    np.testing.assert_allclose(got, predict_array(mala(), raw, exact(tile=(99, 100, 100))), atol=1e-5)
    assert len(seen) == 2  # the small one of the measurement, and the tile


@pytest.mark.parametrize(("network", "once"), [(Padded(), False), (mala(), True)])
def test_only_tiles_of_a_padded_network_stay_below_the_size_that_is_fast(network, once, monkeypatch):
    monkeypatch.setitem(LARGEST_CALL, "cpu", 4 * 32 * 32)
    sizes = []
    network.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].numel()))
    predict_array(network, noise(4, 60, 60), PredictionSettings(precision="fp32", halo=(1, 4, 4)))
    tiles = sizes[1:]  # after the measurement
    assert (max(tiles) > 4 * 32 * 32, len(tiles) == 1) == (once, once)


@pytest.mark.parametrize("tile", [(5, 8, 8), (6, 12, 20), (40, 40, 40)])
def test_tiles_of_a_valid_network_equal_the_whole(tile):
    raw = noise(5, 17, 22)
    network = Valid()
    got = predict_array(network, raw, exact(tile=tile))
    np.testing.assert_allclose(got, whole(network, raw, (2, 4, 4), (2, 3, 4)), atol=1e-5)


def test_a_halo_below_the_reach_shows_at_the_faces():
    raw = noise(9, 37, 30)
    network = Padded()
    small = predict_array(network, raw, exact(tile=(9, 16, 20), halo=(1, 1, 1)))
    assert np.abs(small - whole(network, raw, (0, 0, 0), (0, 0, 0))).max() > 1e-3


@settings(max_examples=25)
@given(
    extent=st.tuples(st.integers(1, 6), st.integers(1, 30), st.integers(1, 30)),
    kind=st.sampled_from([(Valid, (8, 16, 20)), (partial(Padded, 2), (8, 16, 20)), (mala, (14, 28, 31))]),
)
def test_any_extent_is_predicted(extent, kind):
    raw = noise(*extent)
    build, tile = kind
    network = build()
    tiled = predict_array(network, raw, exact(tile=tile, halo=(2, 4, 4)))
    once = predict_array(network, raw, exact(tile=(99, 100, 100), halo=(2, 4, 4)))
    assert tiled.shape == (3, *extent)
    np.testing.assert_allclose(tiled, once, atol=1e-5)


@pytest.mark.parametrize("network", [Padded(pool=2), Valid()])
def test_many_blocks_equal_one(network):
    raw = noise(9, 37, 30)
    # a halo below the reach: the same tiles must be laid whatever the blocks
    one = predict_array(network, raw, exact(tile=(6, 12, 12), halo=(1, 2, 2)))
    many = predict_array(network, raw, exact(tile=(6, 12, 12), halo=(1, 2, 2), block=(4, 9, 17)))
    np.testing.assert_allclose(many, one, atol=1e-6)


@pytest.mark.parametrize("network", [Padded(pool=2), Valid()])
def test_a_part_sees_the_raw_around_it(network):
    raw = noise(9, 37, 30)
    box = Box((3, 5, 8), (6, 30, 30))
    all_of_it = predict_array(network, raw, exact(tile=(50, 50, 50), halo=(2, 4, 4)))
    part = predict_array(network, raw, exact(tile=(7, 18, 16), halo=(2, 4, 4)), box=box)
    np.testing.assert_allclose(part, all_of_it[:, *box.slices], atol=1e-5)
    alone = predict_array(network, np.ascontiguousarray(raw[box.slices]), exact(halo=(2, 4, 4)))
    assert np.abs(alone - part).max() > 1e-3


OFFSETS = (*NEAREST, (0, -2, 0), (-1, 1, 0), (0, 0, 3), (0, 2, 3))


def ids(seed=0):
    return np.random.default_rng(seed).integers(1, 4, (5, 9, 11))


@pytest.mark.parametrize("symmetry", GRID_SYMMETRIES)
def test_every_symmetry_gives_back_the_same_affinities(symmetry):
    predictor = Predictor(SameId(OFFSETS), OFFSETS, torch.device("cpu"), "fp32", (GRID_SYMMETRIES[0], symmetry))
    raw = torch.from_numpy(ids().astype(np.float32))[None]
    affinities, mask = labels_to_affinities(ids(), OFFSETS)
    expected = np.where(mask, 1 / (1 + np.exp(10 - 20 * affinities)), 0.5)
    np.testing.assert_allclose(predictor(raw)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("test_time", ["flips", "all"])
@pytest.mark.parametrize("halo", [(0, 0, 0), (1, 1, 1)])
def test_averaging_is_exact_over_tiles(test_time, halo):
    affinities, mask = labels_to_affinities(ids(), NEAREST)
    tiling = exact(tile=(6, 8, 9), halo=halo, test_time=test_time)
    averaged = predict_array(SameId(NEAREST), ids().astype(np.float32), tiling)
    np.testing.assert_array_equal(np.round(averaged, 3)[mask], affinities[mask])


@pytest.mark.parametrize("views", [("none", 1), ("flips", 8), ("all", 16)])
def test_averaging_calls_the_network_once_for_each_view(views):
    test_time, count = views
    network = Padded()
    predict_array(network, noise(3, 8, 8), exact(tile=(20, 20, 20), halo=(2, 2, 2), test_time=test_time))
    assert network.voxels == count * 3 * 8 * 8


@pytest.mark.parametrize(
    ("network", "tile"), [(Padded(pool=2), (10, 20, 22)), (Valid(), (10, 20, 22)), (mala(), (17, 28, 31))]
)
def test_averaged_tiles_equal_the_averaged_whole(network, tile):
    raw = noise(6, 30, 22)
    tiled = predict_array(network, raw, exact(tile=tile, halo=(2, 4, 4), test_time="all"))
    once = predict_array(network, raw, exact(tile=(90, 90, 90), halo=(2, 4, 4), test_time="all"))
    np.testing.assert_allclose(tiled, once, atol=1e-5)
    assert np.abs(once - predict_array(network, raw, exact(halo=(2, 4, 4)))).max() > 1e-3


def test_integers_hold_rounded_affinities():
    raw = noise(3, 16, 16)
    network = Padded()
    exactly = predict_array(network, raw, EXACT)
    half = predict_array(network, raw, exact(dtype="float16"))
    byte = predict_array(network, raw, exact(dtype="uint8"))
    assert (half.dtype, byte.dtype) == (np.float16, np.uint8)
    np.testing.assert_array_equal(half, exactly.astype(np.float16))
    np.testing.assert_array_equal(byte, np.round(255 * exactly).astype(np.uint8))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(precision):
    raw = noise(3, 16, 16)
    half = predict_array(Padded(), raw, exact(precision=precision))
    assert 0 < np.abs(half - predict_array(Padded(), raw, EXACT)).max() < 0.03


def test_the_network_keeps_its_mode_and_statistics():
    network = Padded().train()
    network.norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predict_array(network, noise(3, 8, 8))
    assert (network.training, network.first.training, network.norm.training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_raw_that_may_not_be_written_is_read():
    raw = noise(3, 8, 8)
    expected = predict_array(Padded(), raw)
    raw.flags.writeable = False
    np.testing.assert_array_equal(predict_array(Padded(), raw), expected)


class InterruptionError(Exception):
    pass


class Recorder:
    """A writer in memory that fails after some blocks."""

    chunks = (2, 8, 8)

    def __init__(self, shape, fail_after=None):
        self.array = np.full((3, *shape), np.nan, np.float32)
        self.boxes = []
        self.fail_after = fail_after

    def write(self, box, data):
        if len(self.boxes) == self.fail_after:
            raise InterruptionError
        assert np.isnan(self.array[:, *box.slices]).all()
        self.array[:, *box.slices] = data
        self.boxes.append(box)


def run(writer, markers, progress=None, **changes):
    raw = from_array((255 * noise(9, 37, 30)).astype(np.uint8))
    predict_volume(
        Padded(pool=2),
        raw,
        writer,
        exact(**{"tile": (6, 12, 12), "halo": (1, 2, 2), "block": (3, 16, 16), **changes}),
        normalize=lambda values: values.astype(np.float32) / 255,
        box=Box((1, 2, 3), (9, 37, 30)),
        markers=markers,
        progress=progress,
    )


def test_an_interrupted_run_computes_only_what_is_missing(tmp_path):
    uninterrupted = Recorder((8, 35, 27))
    steps = []
    run(uninterrupted, None, lambda done, total: steps.append((done, total)))
    assert all(
        stop % chunk == 0 for box in uninterrupted.boxes for stop, chunk in zip(box.start, (4, 16, 16), strict=True)
    )
    assert [done for done, _ in steps] == list(range(steps[-1][1] + 1))

    writer = Recorder((8, 35, 27), fail_after=5)
    with pytest.raises(InterruptionError):
        run(writer, Markers(tmp_path, {"seed": 0}))
    writer.fail_after = None
    resumed = []
    run(writer, Markers(tmp_path, {"seed": 0}), lambda done, total: resumed.append((done, total)))
    assert writer.boxes == uninterrupted.boxes
    assert resumed == steps[-len(resumed) :]
    assert 0 < len(resumed) < len(steps)
    np.testing.assert_array_equal(writer.array, uninterrupted.array)

    run(writer, Markers(tmp_path, {"seed": 0}))  # nothing is left: writing again would fail
    changed = Recorder((8, 35, 27))
    run(changed, Markers(tmp_path, {"seed": 1}))
    assert changed.boxes == uninterrupted.boxes


def test_choices_made_by_free_memory_hold_for_the_resumed_run(tmp_path, monkeypatch):
    monkeypatch.setattr("ssns.prediction.inference.free_memory", lambda device: 2_000_000)
    writer = Recorder((8, 35, 27), fail_after=1)
    with pytest.raises(InterruptionError):
        run(writer, Markers(tmp_path, {}), tile=None, batch=None, block=None)
    monkeypatch.setattr("ssns.prediction.inference.free_memory", lambda device: 10**9)
    writer.fail_after = None
    run(writer, Markers(tmp_path, {}), tile=None, batch=None, block=None)
    assert len(writer.boxes) > 1
    assert not np.isnan(writer.array).any()


@pytest.mark.parametrize("free", [2_000_000, 10_000_000, 10**9])
def test_less_memory_makes_smaller_calls_and_the_same_affinities(free, monkeypatch):
    monkeypatch.setattr("ssns.prediction.inference.free_memory", lambda device: free)
    network = Padded()
    expected = whole(network, noise(20, 60, 60), (0, 0, 0), (0, 0, 0))
    largest = 0

    def watch(module, inputs):
        nonlocal largest
        largest = max(largest, inputs[0].numel())

    network.register_forward_pre_hook(watch)
    got = predict_array(
        network, noise(20, 60, 60), PredictionSettings(precision="fp32", dtype="float32", halo=(2, 2, 2))
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert largest <= max(4 * 32 * 32, free / 4 / (4 * 8))  # at least raw, 4 features and 3 logits of a voxel live


def test_a_volume_is_predicted_into_a_volume(tmp_path):
    raw = (255 * noise(6, 40, 40)).astype(np.uint8)
    box = Box((1, 0, 8), (6, 40, 40))
    setup = PredictionSettings(precision="fp32", tile=(6, 24, 24), halo=(1, 2, 2), batch=2)
    with create_volume(tmp_path / "a.zarr", (3, *box.shape), "uint8", chunks=(2, 16, 16)) as writer:
        predict_volume(
            Padded(pool=2), from_array(raw), writer, setup, normalize=lambda values: values / np.float32(255), box=box
        )
    expected = predict_box(
        Padded(pool=2), from_array(raw), box, setup, normalize=lambda values: values / np.float32(255)
    )
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr").read(), expected)


@pytest.mark.parametrize(
    ("raw", "changes", "box", "message"),
    [
        (noise(3, 8, 8), {}, Box((0, 0, 0), (0, 8, 8)), "^box: wanted voxels"),
        (noise(3, 8, 8), {}, Box((0, 0, 0), (3, 8, 9)), "^box: wanted voxels inside .*x 0..8.*, got .*x 0..9"),
        (noise(3, 8, 8), {"tile": (3, 7, 8), "halo": (0, 0, 0)}, None, "^tile: wanted extents"),
        (np.full((3, 8, 8), np.nan, np.float32), {}, None, "^network: wanted finite affinities"),
    ],
)
def test_mistakes_are_told(raw, changes, box, message):
    with pytest.raises(UserError, match=message):
        predict_array(Padded(pool=2), raw, exact(**changes), box=box)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_told(device):
    network = ResidualUNetSettings(filters=(2, 4))
    trained = Checkpoint(network, network.build(3).state_dict(), NEAREST, PercentileNormalization(), {})
    with pytest.raises(UserError, match=f"^device: wanted a device of this machine, got '{device}'"):
        predict(noise(3, 16, 16), trained, exact(device=device))


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(there, expected, monkeypatch):
    network, moved = Padded(), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch, "empty", Mock())
    monkeypatch.setattr(nn.Module, "to", lambda self, device: moved.append(device.type))
    on_device(network, None)
    assert moved == [expected]


def test_a_network_in_use_stays_on_its_device(monkeypatch):
    def to(self, *where):
        pytest.fail(f"moved to {where}")

    monkeypatch.setattr(nn.Module, "to", to)
    predict_array(Padded(), noise(3, 8, 8), exact(device="meta"))


def test_a_wrong_number_of_channels_is_told():
    with pytest.raises(UserError, match=r"^network: wanted 2 affinity channels .* got 3 of"):
        predict_array(Padded(), noise(3, 8, 8), EXACT, offsets=NEAREST[:2])


def test_the_reference_has_its_own_tile():
    with pytest.raises(ValidationError, match="tile: the reference has a size of its own"):
        PredictionSettings(tiling="reference", tile=(18, 160, 160))


def test_settings_need_no_torch():
    code = "import sys; sys.modules['torch'] = None; from ssns.prediction import PredictionSettings as P; P()"
    subprocess.run([sys.executable, "-c", code], check=True)
