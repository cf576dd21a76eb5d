import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from toy_training import CHECKPOINT, LABELS, NETWORK, PATCH, RAW, fitness, settings, supervised, volume

from ssns.checkpoint import load_checkpoint, save_checkpoint
from ssns.errors import UserError
from ssns.networks import ResidualUNetSettings
from ssns.perturb import Sequence
from ssns.sampling import Batch, LabelledPatches
from ssns.training.fabric import make_fabric
from ssns.training.loop import TrainingInterrupted, train
from ssns.training.settings import Adam, Constant

NO_AUGMENTATION = Sequence(steps=())


def run(folder, *, network_seed=0, validate=fitness, objective=None, on_start=None, **changes):
    objective = objective or supervised(network_seed)
    return train(objective, CHECKPOINT, settings(**changes), folder, validate=validate, on_start=on_start)


def equal(a, b):
    """Whether two trees of tensors and numbers are equal, to the bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def outcome(folder):
    """All that a run leaves behind but for its times: two checkpoints and the history."""
    result = {}
    for name in ("last", "best"):
        saved = load_checkpoint(folder / f"{name}.pt")
        progress = {key: value for key, value in saved.state["progress"].items() if "seconds" not in key}
        progress["history"] = [{k: v for k, v in row.items() if k != "seconds"} for row in progress["history"]]
        result[name] = (saved.step, saved.scores, saved.weights, saved.state["optimizer"], progress)
    return result


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The folder of a run from beginning to end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder)
    return folder


class TestResumedEqualsUninterrupted:
    def test_a_repeated_run_is_the_same(self, uninterrupted, tmp_path):
        run(tmp_path)
        assert equal(outcome(tmp_path), outcome(uninterrupted))

    def test_another_start_is_not(self, uninterrupted, tmp_path):
        run(tmp_path, network_seed=1)
        assert not equal(outcome(tmp_path)["last"][2], outcome(uninterrupted)["last"][2])

    def test_a_signal_in_the_last_step_stops_what_would_follow(self, uninterrupted, tmp_path):
        objective = supervised()

        def signalled(step):
            if step == 7:
                os.kill(os.getpid(), signal.SIGTERM)

        objective.after_update = signalled
        with pytest.raises(TrainingInterrupted, match=r"stopped at step 8 of 8, saved in .*last\.pt"):
            run(tmp_path, objective=objective)
        run(tmp_path)
        assert equal(outcome(tmp_path), outcome(uninterrupted))

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
    def test_after_a_signal(self, uninterrupted, tmp_path, name):
        before = [signal.getsignal(getattr(signal, other)) for other in ("SIGTERM", "SIGUSR1", "SIGINT")]
        objective = supervised()

        def signalled(step):
            if step == 4:
                os.kill(os.getpid(), getattr(signal, name))

        objective.after_update = signalled
        with pytest.raises(TrainingInterrupted, match=r"stopped at step 5 of 8, saved in .*last\.pt"):
            run(tmp_path, objective=objective)
        assert [signal.getsignal(getattr(signal, other)) for other in ("SIGTERM", "SIGUSR1", "SIGINT")] == before
        assert load_checkpoint(tmp_path / "last.pt").step == 5
        told = []
        run(tmp_path, network_seed=1, on_start=told.append)
        assert told[0].startswith("going on from step 5 of 8 on cpu")
        assert told[0].endswith(" parameters")
        assert equal(outcome(tmp_path), outcome(uninterrupted))

    def test_another_number_of_processes_is_told(self, tmp_path):
        run(tmp_path, steps=4, schedule=Constant())
        last = load_checkpoint(tmp_path / "last.pt")
        state = dict(last.state) | {"progress": dict(last.state["progress"]) | {"processes": 2}}
        save_checkpoint(tmp_path / "last.pt", dataclasses.replace(last, state=state))
        told = []
        run(tmp_path, on_start=told.append)
        assert told[0].endswith(", 1 process (2 until now: a step has 0.5 times as many patches)")

    def test_after_a_failure(self, uninterrupted, tmp_path):
        def failing(network, step):
            raise OSError("the volume is gone")

        with pytest.raises(OSError, match="is gone"):
            run(tmp_path, validate=failing)
        assert load_checkpoint(tmp_path / "last.pt").step == 3
        run(tmp_path, network_seed=1)
        assert equal(outcome(tmp_path), outcome(uninterrupted))
        events = EventAccumulator(str(tmp_path / "curves")).Reload()
        assert [point.step for point in events.Scalars("loss/labelled")] == [2, 4, 6, 8]

    def test_after_being_killed(self, tmp_path):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        killed = subprocess.run(
            [sys.executable, Path(__file__).with_name("toy_training.py"), tmp_path / "killed"],
            env=environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert load_checkpoint(tmp_path / "killed" / "last.pt").step == 4
        run(tmp_path / "killed", network_seed=1, validate_every=2)
        run(tmp_path / "whole", validate_every=2)
        assert equal(outcome(tmp_path / "killed"), outcome(tmp_path / "whole"))

    def test_a_finished_run_is_not_trained_again(self, uninterrupted):
        before = outcome(uninterrupted)
        objective = supervised()
        objective.loss = None
        best = run(uninterrupted, objective=objective)
        assert equal(outcome(uninterrupted), before)
        assert best.step == before["best"][0]


class TestCheckpoints:
    def test_last_and_best_hold_everything(self, uninterrupted):
        last = load_checkpoint(uninterrupted / "last.pt")
        assert last.step == 8
        assert last.scores == fitness(last.build(), 8)
        for saved in (last, load_checkpoint(uninterrupted / "best.pt")):
            assert (saved.network, saved.offsets, saved.ranges) == (NETWORK, CHECKPOINT.offsets, CHECKPOINT.ranges)
            assert set(saved.weights) == set(NETWORK.build(3).state_dict())
            assert set(saved.state) == {"optimizer", "precision", "progress"}

    def test_the_best_has_the_lowest_voi(self, tmp_path):
        scores = {2: 3.0, 4: 1.0, 6: 2.0, 8: 1.0}
        weights = {}

        def validate(network, step):
            assert not network.training
            weights[step] = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            return {"voi_sum": np.float64(scores[step]), "arand": np.float32(-step)}

        best = run(tmp_path, validate=validate, validate_every=2)
        assert (best.step, best.scores) == (4, {"voi_sum": 1.0, "arand": -4.0})
        assert equal(best.weights, weights[4])
        assert load_checkpoint(tmp_path / "last.pt").scores["voi_sum"] == 1.0

    def test_what_cannot_be_scored_is_the_best_only_where_nothing_can(self, tmp_path):
        scores = {2: math.inf, 4: 3.0, 6: math.inf, 8: 4.0}
        best = run(tmp_path / "some", validate=lambda network, step: {"voi_sum": scores[step]}, validate_every=2)
        assert (best.step, best.scores) == (4, {"voi_sum": 3.0})
        history = json.loads((tmp_path / "some" / "history.json").read_text(), parse_constant=pytest.fail)
        assert {row["step"]: row["validation/voi_sum"] for row in history if "validation/voi_sum" in row} == {
            4: 3,
            8: 4,
        }
        best = run(tmp_path / "none", validate=lambda network, step: {"voi_sum": math.inf}, validate_every=2)
        assert (best.step, best.scores) == (8, {"voi_sum": math.inf})

    def test_a_resumed_run_remembers_the_best(self, tmp_path):
        def validate(network, step):
            if step == 6:
                raise KeyboardInterrupt
            return {"voi_sum": 3.0 - step / 2}

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, validate=validate, validate_every=2, save_every=100)
        best = run(tmp_path, validate=lambda network, step: {"voi_sum": 2.0}, save_every=100)
        assert (best.step, best.scores) == (4, {"voi_sum": 1.0})

    def test_without_validation_the_last_is_the_best(self, tmp_path):
        best = run(tmp_path, validate=None)
        assert best.step == 8
        assert equal(best.weights, load_checkpoint(tmp_path / "last.pt").weights)

    def test_the_network_learns(self, tmp_path):
        batch = LabelledPatches([volume()], PATCH, 2, seed=0)(0)
        objective = supervised(sampler=lambda number: batch, augmentation=NO_AUGMENTATION)
        run(tmp_path, objective=objective, validate=None, steps=60, optimizer=Adam(lr=0.02), log_every=1)
        losses = [row["loss/labelled"] for row in json.loads((tmp_path / "history.json").read_text())]
        assert len(losses) == 60
        assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])


class TestWhatIsLogged:
    def test_history(self, uninterrupted):
        history = json.loads((uninterrupted / "history.json").read_text())
        assert [row["step"] for row in history if "loss/labelled" in row] == [2, 4, 6, 8]
        assert [row["step"] for row in history if "validation/voi_sum" in row] == [4, 8]
        rates = [row["lr"] for row in history if "lr" in row]
        schedule = settings().schedule
        assert rates == [1e-2 * schedule.factor(step - 1, 8) for step in (2, 4, 6, 8)]
        seconds = [row["seconds"] for row in history]
        assert seconds == sorted(seconds)

    def test_curves_and_pictures(self, tmp_path):
        shown = []

        def picture(raw, target, prediction, mask):
            shown.append(raw.shape)
            return np.full((8, 12, 3), 255, np.uint8)

        run(tmp_path, objective=supervised(picture=picture))
        assert shown == [PATCH, PATCH]
        events = EventAccumulator(str(tmp_path / "curves")).Reload()
        assert set(events.Tags()["scalars"]) == {"loss/labelled", "lr", "validation/voi_sum"}
        history = json.loads((tmp_path / "history.json").read_text())
        losses = {row["step"]: row["loss/labelled"] for row in history if "loss/labelled" in row}
        assert {point.step: point.value for point in events.Scalars("loss/labelled")} == pytest.approx(losses)
        assert [(image.step, image.height, image.width) for image in events.Images("preview")] == [
            (4, 8, 12),
            (8, 8, 12),
        ]

    def test_the_start_is_told(self, tmp_path):
        told = []
        run(tmp_path, on_start=told.append, steps=1)
        parameters = sum(parameter.numel() for parameter in NETWORK.build(3).parameters())
        assert told == [f"training from step 0 of 1 on cpu (32-true), {parameters:,} parameters"]

    def test_threads_are_limited_while_it_trains(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(torch, "set_num_threads", seen.append)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        run(tmp_path / "limited", steps=1, threads=3)
        run(tmp_path / "as many as there are", steps=1)
        assert seen == [3, 7, 7, 7]


class TestFailures:
    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_a_loss_that_is_not_finite_names_the_batch(self, tmp_path, accumulate):
        plain = LabelledPatches([volume()], PATCH, 2, seed=0)
        objective = supervised(sampler=plain, augmentation=NO_AUGMENTATION)

        def poisoned(number):
            batch = plain(number)
            if number == 5 * accumulate:
                batch.raw[1, 0, 0, 3, 3] = np.nan
            return batch

        objective.sampler = poisoned
        place = plain(5 * accumulate).places[1]
        with pytest.raises(UserError, match="not finite at step 5") as error:
            run(tmp_path, objective=objective, accumulate=accumulate)
        assert place in str(error.value)
        assert "labelled = nan" in str(error.value)
        last = load_checkpoint(tmp_path / "last.pt")
        assert last.step == 4
        assert all(tensor.isfinite().all() for tensor in last.weights.values())

    def test_a_volume_that_cannot_be_read_is_told_as_it_is(self, tmp_path):
        def sampler(number):
            if number == 3:
                raise UserError("raw.tif: truncated")
            return LabelledPatches([volume()], PATCH, 2, seed=0)(number)

        with pytest.raises(UserError, match=r"^raw\.tif: truncated$"):
            run(tmp_path, objective=supervised(sampler=sampler))

    def test_fp16_needs_a_gpu(self):
        with pytest.raises(UserError, match="fp16 needs a GPU"):
            make_fabric(settings(precision="fp16"))

    def test_bf16_is_refused_where_its_gradients_are_wrong(self, monkeypatch):
        monkeypatch.setattr("ssns.training.fabric.fast_precision", lambda device: "bf16")
        for depth, name in ((2, "32-true"), (3, "bf16-mixed")):
            fabric = make_fabric(settings(precision="auto", patch=(depth, 8, 8)))
            assert fabric._precision.precision == name
        with pytest.raises(UserError, match=r"wrong gradients for patches of 2 sections.*\[2, 8, 8\]: take fp32"):
            make_fabric(settings(precision="bf16", patch=(2, 8, 8)))


class TestSteps:
    def test_accumulated_batches_equal_one_larger_batch(self, tmp_path):
        small = LabelledPatches([volume(RAW, LABELS)], PATCH, 2, seed=0)

        def large(number):
            halves = [small(2 * number), small(2 * number + 1)]
            parts = {
                field.name: np.concatenate([getattr(half, field.name) for half in halves])
                for field in dataclasses.fields(Batch)
                if field.name != "places"
            }
            return Batch(**parts, places=halves[0].places + halves[1].places)

        # Groups, not batches, are normalised; eps keeps Adam from blowing up differences of rounding.
        network = ResidualUNetSettings(filters=(4, 8), normalization="group")
        steps = {"steps": 3, "optimizer": Adam(lr=0.01, eps=0.1), "schedule": Constant(), "validate": None}
        for name, sampler, batch in (("accumulated", small, {"accumulate": 2}), ("large", large, {})):
            objective = supervised(network=network, sampler=sampler, augmentation=NO_AUGMENTATION)
            run(tmp_path / name, objective=objective, **steps, **batch)
        accumulated, whole = (load_checkpoint(tmp_path / name / "last.pt").weights for name in ("accumulated", "large"))
        start = supervised(network=network).network.state_dict()
        for name, weight in whole.items():
            torch.testing.assert_close(accumulated[name], weight, rtol=1e-5, atol=1e-6)
        assert max((weight - start[name]).abs().max() for name, weight in whole.items()) > 1e-3

    def test_gradients_are_clipped(self, tmp_path):
        norms = {}
        for clip in (None, 1e-3):
            objective = supervised()
            found = norms.setdefault(clip, [])

            def measure(step, objective=objective, found=found):
                gradients = [parameter.grad for parameter in objective.network.parameters()]
                found.append(float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))))

            objective.after_update = measure
            run(tmp_path / str(clip), objective=objective, validate=None, steps=2, clip=clip)
        assert min(norms[None]) > 1e-2
        assert norms[1e-3] == pytest.approx([1e-3] * 2, rel=1e-3)

    @pytest.mark.parametrize("clip", [None, 1.0])
    def test_a_step_whose_fp16_gradients_overflow_is_left_out(self, tmp_path, clip):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))
        objective = supervised()
        start = {name: tensor.detach().clone() for name, tensor in objective.network.named_parameters()}
        train(objective, CHECKPOINT, settings(clip=clip, steps=1), tmp_path, fabric=fabric)
        assert scaler.get_scale() < 2.0**60
        last = load_checkpoint(tmp_path / "last.pt").weights
        assert all(torch.equal(last[name], tensor) for name, tensor in start.items())

    def test_gradients_that_are_not_finite_are_told_where_they_are_clipped(self, tmp_path):
        objective = supervised()
        next(objective.network.out_put.parameters()).register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(UserError, match=r"training: gradients are not finite at step 0: lower"):
            run(tmp_path, objective=objective, clip=1.0)

    def test_too_little_memory_is_told(self, tmp_path):
        def loss(batch, step):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it")

        objective = supervised()
        objective.loss = loss
        with pytest.raises(
            UserError, match=r"cpu has not enough memory \(CUDA out of memory.*GiB\.\): lower training.b"
        ):
            run(tmp_path, objective=objective)

    @pytest.mark.parametrize("device", ["cuda", "mps"])
    def test_a_device_that_is_not_there_is_told(self, device, monkeypatch):
        monkeypatch.setattr(torch, "empty", Mock(side_effect=RuntimeError("none here")))
        with pytest.raises(
            UserError, match=rf"training.device: wanted a device of this machine, got '{device}' \(none"
        ):
            make_fabric(settings(device=device))

    @pytest.mark.parametrize(("precision", "name"), [("bf16", "bf16-mixed"), ("fp32", "32-true")])
    def test_precisions(self, tmp_path, precision, name):
        told, seen = [], []
        objective = supervised()
        objective.network.out_put.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        run(tmp_path, objective=objective, validate=None, precision=precision, on_start=told.append)
        assert f"({name})" in told[0]
        assert set(seen) == {torch.bfloat16 if precision == "bf16" else torch.float32}
        last = load_checkpoint(tmp_path / "last.pt")
        assert {tensor.dtype for key, tensor in last.weights.items() if "tracked" not in key} == {torch.float32}
        history = json.loads((tmp_path / "history.json").read_text())
        assert all(np.isfinite(row["loss/labelled"]) for row in history)

    def test_bf16_resumes_to_the_bit_too(self, tmp_path):
        def failing(network, step):
            raise OSError("gone")

        run(tmp_path / "whole", precision="bf16")
        with pytest.raises(OSError, match="gone"):
            run(tmp_path / "resumed", precision="bf16", validate=failing)
        run(tmp_path / "resumed", precision="bf16", network_seed=1)
        assert equal(outcome(tmp_path / "resumed"), outcome(tmp_path / "whole"))

    def test_batches_are_drawn_once_and_in_order(self, tmp_path):
        plain, numbers = LabelledPatches([volume()], PATCH, 2, seed=0), []
        objective = supervised(sampler=plain)
        lost = objective.loss

        def loss(batch, step):
            numbers.append((batch[1], step))
            return lost(batch, step)

        objective.loss = loss
        run(tmp_path, objective=objective, validate=None, steps=3, accumulate=2)
        assert numbers == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]


class Clockwork:
    """An objective of one number whose steps take one second on its own clock."""

    def __init__(self):
        self.network = nn.Linear(1, 1)
        self.now = 0.0

    @property
    def judged(self):
        return self.network

    def draw(self, micro_step):
        return torch.ones(1, 1)

    def loss(self, batch, step):
        self.now += 1
        return {"square": self.network(batch).square().sum()}

    def after_update(self, step):
        """Nothing to move."""

    def describe(self, batch):
        return "one"

    def preview(self):
        return None


class TestValidationShare:
    def run(self, folder, monkeypatch, cost, **changes):
        objective, steps = Clockwork(), []
        monkeypatch.setattr("ssns.training.loop.time", SimpleNamespace(monotonic=lambda: objective.now))

        def validate(network, step):
            objective.now += cost
            steps.append((step, objective.now))
            return {"voi_sum": 1.0}

        run(folder, objective=objective, validate=validate, steps=200, validate_every=10, save_every=1000, **changes)
        return steps

    def test_slow_validations_are_fewer(self, tmp_path, monkeypatch):
        # The first is done to learn its price; each further one when all of them make up a tenth of the time.
        steps = self.run(tmp_path, monkeypatch, 5.0, validation_share=0.1)
        assert [step for step, _ in steps] == [10, 90, 140, 180, 200]
        for count, (_, now) in enumerate(steps[1:-1], start=2):
            assert 5 * count <= 0.1 * now

    def test_fast_ones_come_at_every_turn(self, tmp_path, monkeypatch):
        steps = self.run(tmp_path, monkeypatch, 0.5, validation_share=0.1)
        assert [step for step, _ in steps] == list(range(10, 201, 10))


class TestGoingOnWithAnotherWayOfJudging:
    @pytest.mark.parametrize(("later", "best"), [("cremi", 6), ("skimage", 2)])
    def test_the_best_so_far_is_no_longer_compared_with(self, tmp_path, later, best):
        def validate(network, step):
            if step == 6:
                raise KeyboardInterrupt
            return {"voi_sum": 0.2 if step == 2 else 1.0 + step}

        def go_on(judged_by, validate, steps):
            changes = {"validate_every": 2, "steps": steps, "schedule": Constant()}
            train(supervised(), CHECKPOINT, settings(**changes), tmp_path, validate=validate, judged_by=judged_by)

        with pytest.raises(KeyboardInterrupt):
            go_on("skimage", validate, 7)
        assert load_checkpoint(tmp_path / "best.pt").step == 2
        go_on(later, lambda network, step: {"voi_sum": 1.0 + step}, 8)
        assert load_checkpoint(tmp_path / "best.pt").step == best


class TestLearningRates:
    def test_shares_and_frozen_parameters(self, tmp_path):
        objective = supervised()
        slow = next(objective.network.embed_in.parameters())
        frozen = next(objective.network.out_put.parameters()).requires_grad_(False)
        before = {name: tensor.clone() for name, tensor in objective.network.state_dict().items()}
        rates = []

        def follow(step):
            del step
            rates.append({share: group["lr"] for group in run_.param_groups for share in [group["share"]]})

        objective.after_update = follow
        captured = Adam.build

        def build(self, parameters):
            nonlocal run_
            run_ = captured(self, parameters)
            return run_

        run_ = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Adam, "build", build)
            train(
                objective, CHECKPOINT, settings(steps=2, optimizer=Adam(lr=0.01), schedule=Constant()), tmp_path,
                rates={slow: 0.1},
            )  # fmt: skip
        assert rates[-1] == pytest.approx({1.0: 0.01, 0.1: 0.001})
        assert torch.equal(frozen, before["out_put.0.weight"])
        # Adam's first steps are as long as the rate, so that the share shows in how far weights went.
        moved = {
            name: float((tensor - before[name]).abs().max())
            for name, tensor in objective.network.state_dict().items()
            if name in ("embed_in.0.weight", "center.block1.0.weight")
        }
        assert moved["embed_in.0.weight"] == pytest.approx(0.1 * moved["center.block1.0.weight"], rel=0.2)
