import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_loop import equal, outcome
from torch import nn
from toy_training import CHECKPOINT, NETWORK, PATCH, consistency, fitness, raw_patches, settings, supervised

from ssns.affinities import NEAREST, GridSymmetry, edge_ends, transform_affinities
from ssns.checkpoint import load_checkpoint
from ssns.losses import SquaredError
from ssns.networks import Extents
from ssns.perturb import Elastic, FlipTranspose, Fold, Misalign, Noise, Patch, Scale, Sequence
from ssns.sampling import Batch, RawBatch
from ssns.space import Box
from ssns.training.loop import train
from ssns.training.objectives import (
    ConsistencyObjective,
    CrossSupervision,
    CutMix,
    MeanTeacher,
    SigmoidRamp,
    WeightSharing,
)
from ssns.training.supervised import Targets
from ssns.training.teachers import make_teacher

SQUARED = SquaredError()
SHAPE = (4, 32, 32)
GRAY = np.kron(np.random.default_rng(0).permutation(64).reshape(1, 8, 8) / 64, np.ones((4, 4, 4))).astype(np.float32)
IDS = np.rint(GRAY * 64 + 1).astype(np.int32)


class Oracle(nn.Module):
    """Affinities read off gray values that are the same in one neuron and differ between neurons."""

    def __init__(self, shrink=(0, 0, 0), sure=12.0):
        super().__init__()
        self.extents = Extents(shrink=shrink)
        self.sure = nn.Parameter(torch.tensor(sure))

    def forward(self, raw):
        logits = []
        for offset in NEAREST:
            here, there = edge_ends(raw.shape[2:], offset)
            same = torch.zeros_like(raw[:, 0], dtype=torch.bool)
            same[(..., *here)] = (raw[:, 0][(..., *here)] - raw[:, 0][(..., *there)]).abs() < 1e-3
            logits.append(self.sure * torch.where(same, 1.0, -1.0))
        inside = self.extents.predicted(Box.of_shape(raw.shape[2:])).slices
        return torch.stack(logits, 1)[(..., *inside)]


def cells(number, seed=0):
    """One patch of square neurons, each of its own gray, shifted by the number of the batch."""
    shift = (number + seed) % 4
    return np.roll(GRAY, (shift, shift), (1, 2))[None, None], np.roll(IDS, (shift, shift), (1, 2))[None]


def oracle(shrink=(0, 0, 0), sure=12.0, augmentation=None, **changes):
    """Consistency of the oracle with itself on patches of square neurons."""

    def labelled_batch(number):
        raw, ids = cells(number)
        return Batch(raw, ids, np.ones(ids.shape, bool), ("labelled",))

    def raw_batch(number):
        return RawBatch(cells(number, 2)[0], ("unlabelled",))

    network = Oracle(shrink, sure)
    labelled = supervised(network=network, sampler=labelled_batch, augmentation=augmentation or Sequence(steps=()))
    labelled.targets = Targets(NEAREST, "none", shrink=shrink)
    table = {"teacher": WeightSharing(), "loss": SQUARED} | changes
    return consistency(labelled=labelled, sampler=raw_batch, build=lambda: Oracle(shrink, sure), **table)


def losses(objective, steps=6):
    return [objective.loss(objective.draw(step), step)["consistency"].item() for step in range(steps)]


class TestGeometry:
    @pytest.mark.parametrize("shrink", [(0, 0, 0), (1, 2, 2)])
    @pytest.mark.parametrize(
        "strong",
        [
            FlipTranspose(),
            Misalign(largest=3, section_probability=0.5),
            Sequence(steps=(FlipTranspose(), Misalign(largest=3, section_probability=0.5), FlipTranspose())),
        ],
        ids=["flips", "shifts", "both"],
    )
    def test_a_network_that_is_right_agrees_with_itself(self, strong, shrink):
        strong = strong if isinstance(strong, Sequence) else Sequence(steps=(strong,))
        assert max(losses(oracle(shrink, strong=strong))) < 1e-9

    @pytest.mark.parametrize("shrink", [(0, 0, 0), (1, 2, 2)])
    def test_and_with_itself_in_other_orientations(self, shrink):
        assert max(losses(oracle(shrink, orientations=16, strong=Sequence(steps=())))) < 1e-9

    @pytest.mark.parametrize("family", [FlipTranspose(), Misalign(largest=3, section_probability=0.5)])
    def test_the_papers_geometry_does_not(self, family):
        strong = Sequence(steps=(family,))
        assert max(losses(oracle(strong=strong, geometry="reference"))) > 0.01

    @pytest.mark.parametrize("family", [Scale(), Elastic(spacing=(4, 16, 16), sigma=1)])
    def test_what_a_warp_makes_uncertain_is_left_out_unless_it_is_asked_for(self, family):
        counted = {}
        for boundaries in ("masked", "kept"):
            objective = oracle(strong=Sequence(steps=(family,)), boundaries=boundaries)
            (patch,) = objective.labelled.process.patches(objective.draw(0).unlabelled)
            view = objective._view(patch, torch.Generator().manual_seed(1))
            affinities = objective.teacher.logits(patch.raw[None, None])[0, 0].sigmoid()
            counted[boundaries] = objective._carry(affinities, view)[1]
        assert not counted["masked"].any()  # neurons here are four voxels wide: all is near a boundary
        assert counted["kept"].float().mean() > 0.3

    def test_what_a_fold_hides_is_not_asked_for(self):
        objective = oracle(strong=Sequence(steps=(Fold(sections=(4, 4), half_width=(4, 4), reach=5),)))
        (patch,) = objective.labelled.process.patches(objective.draw(0).unlabelled)
        for seed in range(8):
            view = objective._view(patch, torch.Generator().manual_seed(seed))
            _, known = objective._carry(torch.ones(3, *SHAPE), view)
            assert not known[:, ~view.valid].any()

    @pytest.mark.parametrize("shrink", [(0, 0, 0), (1, 2, 2)])
    def test_an_edge_to_a_hidden_voxel_is_not_asked_for_wherever_that_lies(self, shrink):
        objective = oracle(shrink)
        valid = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)) > 0.3
        inside = Box.of_shape(SHAPE).grown(tuple(-n for n in shrink)).slices
        affinities = torch.ones(3, *SHAPE)[:, *inside]
        _, known = objective._carry(affinities, Patch(torch.zeros(SHAPE), valid=valid))
        ends = []
        for axis in range(3):
            there = valid.roll(1, axis)
            there.select(axis, 0).fill_(True)  # nothing is known of what lies beyond the patch
            ends.append(valid & there)
        assert torch.equal(known, torch.stack(ends)[:, *inside])


class TestTerms:
    def test_before_the_warm_up_ends_there_are_labelled_patches_alone(self):
        objective = consistency(warmup=3)
        assert [list(objective.loss(objective.draw(step), step)) for step in (0, 2, 3)] == [
            ["labelled"], ["labelled"], ["labelled", "consistency"],
        ]  # fmt: skip

    def test_a_weight_of_zero_costs_nothing(self):
        objective = consistency(weight=0)
        objective.teacher = None
        assert list(objective.loss(objective.draw(0), 0)) == ["labelled"]

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_unlabelled_patches_are_read_for_steps_in_which_they_count(self, tmp_path, accumulate):
        numbers, patches = [], raw_patches()

        def sampler(number):
            numbers.append(number)
            return patches(number)

        objective = consistency(sampler=sampler, accumulate=accumulate, warmup=3)
        assert objective.describe(objective.draw(0)) == "; ".join(objective.labelled.sampler(0).places)
        train(objective, CHECKPOINT, settings(steps=5, accumulate=accumulate), tmp_path)
        assert numbers[: 2 * accumulate] == list(range(3 * accumulate, 5 * accumulate))
        numbers.clear()
        objective = consistency(sampler=sampler, accumulate=accumulate, weight=0)
        train(objective, CHECKPOINT, settings(steps=2, accumulate=accumulate), tmp_path / "without")
        assert not numbers

    def test_the_ramp_of_the_reference(self):
        # reference 5.4: 6.7e-4, 0.0287 and 0.1 of the weight at the start, half way and at the end.
        objective = ConsistencyObjective(weight=0.1, ramp=SigmoidRamp(steps=100_000))
        found = [objective.weight * objective.ramp.share(step) for step in (0, 50_000, 100_000, 300_000)]
        assert found == pytest.approx([6.7379e-4, 0.02865, 0.1, 0.1], rel=1e-3)

    def test_the_ramp_begins_where_the_warm_up_ends(self):
        objective = ConsistencyObjective(weight=2.0, warmup=10, ramp=SigmoidRamp(steps=4))
        found = [objective.weight_at(step) for step in (9, 10, 12, 14, 100)]
        assert found == pytest.approx([0.0, 2 * math.exp(-5), 2 * math.exp(-5 / 4), 2.0, 2.0])

    def test_the_weight_multiplies(self):
        values = []
        for weight, share in ((1.0, 1.0), (0.5, math.exp(-5 / 4))):
            objective = consistency(weight=weight, ramp=SigmoidRamp(steps=4))
            objective.network.eval()
            step = 4 if share == 1 else 2
            values.append(objective.loss(objective.draw(0), step)["consistency"].item() / weight / share)
        assert values[0] == pytest.approx(values[1], rel=1e-5)

    def test_squared_error_is_the_masked_mean_of_squares(self):
        objective = consistency(loss=SQUARED, strong=Sequence(steps=()), teacher=MeanTeacher(start="random"))
        objective.network.eval()
        batch = objective.draw(3)
        generator = objective.labelled.process.generator(3, 1)
        clean = [objective._cleaned(patch, generator) for patch in objective.labelled.process.patches(batch.unlabelled)]
        raw = torch.stack([patch.raw for patch in clean])[:, None]
        with torch.no_grad():
            wanted = (
                (objective.network(raw)[0].sigmoid() - objective.teacher.judged.eval()(raw).sigmoid()).square().mean()
            )
            found = objective.loss(batch, 0)["consistency"]
        torch.testing.assert_close(found, wanted)
        assert wanted > 1e-4

    def test_targets_of_all_orientations_turn_with_the_patch(self):
        objective = consistency(orientations=16)
        (patch, _) = objective.labelled.process.patches(objective.draw(0).unlabelled)
        raw, generator = patch.raw[None, None], torch.Generator()
        turn = GridSymmetry((True, False, True), transpose=True)
        one, turned = (objective._taught(view, generator)[0] for view in (raw, turn.apply(raw)))
        wanted, known = transform_affinities(one, objective.labelled.targets.offsets, turn)
        torch.testing.assert_close(turned[known], wanted[known])
        alone = objective.teacher.logits(raw)[0].sigmoid()
        assert (one - alone).abs().max() > 1e-3

    def test_only_sure_targets_count_where_confidence_is_asked(self):
        for sure, counted in ((0.1, False), (12.0, True)):
            objective = oracle(sure=sure, confidence=0.9, strong=Sequence(steps=(Noise(),)))
            assert (max(losses(objective, 3)) > 0) == counted

    def test_sure_targets_are_those_near_one_and_near_zero(self):
        objective = oracle(confidence=0.8)
        taught = (
            torch.tensor([0.0, 0.19, 0.21, 0.5, 0.79, 0.81, 1.0]).reshape(1, 1, 1, 1, 1, 7).expand(1, 1, 3, 4, 4, 7)
        )
        _, known = objective._carried(taught, [Patch(torch.zeros(4, 4, 7))])
        inside = known[0, 0, 1, 1, 1]  # each edge there has both ends
        assert inside.tolist() == [True, True, False, False, False, True, True]

    def test_several_views_differ_and_are_averaged(self):
        objective = oracle(views=3, strong=Sequence(steps=(Noise(),)))
        seen = []
        objective.network.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
        batch = objective.draw(0)
        found = objective.loss(batch, 0)["consistency"]
        (_labelled, views), output = seen[-1]
        logits = output[0, 1:]  # the first one is of the labelled patch
        assert len(views) == len(logits) == 3
        assert not torch.equal(views[0], views[1])
        assert not torch.equal(views[1], views[2])
        generator = objective.labelled.process.generator(0, 1)
        (clean,) = (
            objective._cleaned(patch, generator) for patch in objective.labelled.process.patches(batch.unlabelled)
        )
        target, known = objective._carried(objective._taught(clean.raw[None, None], generator), [clean])
        each = [SQUARED(one[None], target[0], known[0]) for one in logits]
        assert max(each) > min(each)
        torch.testing.assert_close(found, torch.stack(each).mean())

    def test_what_the_clean_perturbations_hid_is_not_asked_for(self):
        fold = Sequence(steps=(Fold(sections=(4, 4), half_width=(4, 4), reach=5),))
        objective = oracle(clean=fold, strong=Sequence(steps=()))
        (patch,) = objective.labelled.process.patches(objective.draw(0).unlabelled)
        clean = objective._cleaned(patch, torch.Generator().manual_seed(0))
        assert clean.valid is not None
        assert not clean.valid.all()
        _, known = objective._carried(torch.ones(1, 1, 3, *SHAPE), [objective._view(clean, torch.Generator())])
        assert not known[0, 0][:, ~clean.valid].any()

    def test_the_teacher_works_in_the_precision_of_training(self):
        kinds = []
        objective = consistency(autocast=lambda: torch.autocast("cpu", torch.bfloat16))
        teach = objective.teacher.logits

        def logits(view):
            kinds.append((found := teach(view)).dtype)
            return found

        objective.teacher.logits = logits
        assert objective.loss(objective.draw(0), 0)["consistency"].dtype == torch.float32
        assert kinds == [torch.bfloat16]

    def test_gradients_reach_the_student_only(self):
        objective = consistency(teacher=MeanTeacher(start="random"))
        sum(objective.loss(objective.draw(0), 0).values()).backward()
        assert all(parameter.grad is not None for parameter in objective.network.parameters())
        assert all(parameter.grad is None for parameter in objective.judged.parameters())


class TestCutMix:
    @pytest.mark.parametrize("shrink", [(0, 0, 0), (1, 2, 2)])
    @pytest.mark.parametrize("mix", [CutMix(plane=1, depth=0), CutMix(plane=0, depth=1)], ids=["plane", "depth"])
    def test_a_network_that_is_right_loses_nothing_by_it(self, mix, shrink):
        objective = oracle(shrink, strong=Sequence(steps=()), cut_mix=mix)
        for step in range(4):
            terms = objective.loss(objective.draw(step), step)
            assert terms["labelled"].item() < 1e-4
            assert terms["consistency"].item() < 1e-9

    def test_the_network_sees_mixed_patches(self):
        objective, seen = oracle(strong=Sequence(steps=()), cut_mix=CutMix(plane=1, depth=0)), []
        objective.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
        batch = objective.draw(0)
        objective.loss(batch, 0)
        unmixed = torch.from_numpy(batch.labelled.raw)
        changed = (seen[-1][:1] != unmixed).float().mean()
        assert 0.05 < changed < 0.6


KINDS = {
    "weight sharing": WeightSharing(statistics="batch"),
    "mean teacher": MeanTeacher(),
    "cross": CrossSupervision(),
}


@pytest.mark.parametrize("teacher", KINDS.values(), ids=KINDS)
class TestTraining:
    @pytest.mark.parametrize(("warmup", "accumulate"), [(1, 1), (4, 2)])
    def test_resumed_equals_uninterrupted(self, tmp_path, teacher, warmup, accumulate):
        changes = {"teacher": teacher, "cut_mix": CutMix(), "warmup": warmup, "accumulate": accumulate}
        loop = settings(accumulate=accumulate)

        def failing(network, step):
            raise OSError("gone")

        train(consistency(**changes), CHECKPOINT, loop, tmp_path / "whole", validate=fitness)
        with pytest.raises(OSError, match="gone"):
            train(consistency(**changes), CHECKPOINT, loop, tmp_path / "resumed", validate=failing)
        train(consistency(1, **changes), CHECKPOINT, loop, tmp_path / "resumed", validate=fitness)
        assert equal(outcome(tmp_path / "resumed"), outcome(tmp_path / "whole"))
        networks = [load_checkpoint(tmp_path / name / "last.pt").state["network"] for name in ("resumed", "whole")]
        assert equal(*networks)

    def test_the_judged_network_is_validated_and_saved_with_the_students(self, tmp_path, teacher):
        objective = consistency(teacher=teacher)
        best = train(objective, CHECKPOINT, settings(), tmp_path, validate=fitness)
        assert best.scores == fitness(best.build(), best.step)
        last = load_checkpoint(tmp_path / "last.pt")
        assert equal(dict(last.weights), dict(objective.judged.state_dict()))
        assert equal(dict(last.state["network"]), dict(objective.network.state_dict()))

    def test_it_learns(self, tmp_path, teacher):
        objective = consistency(teacher=teacher)
        batch = objective.draw(0)
        objective.draw = lambda number: replace(batch, number=0)
        before = objective.loss(batch, 0)["labelled"].item()
        train(objective, CHECKPOINT, settings(steps=60, schedule={"type": "constant"}), tmp_path)
        assert objective.loss(batch, 60)["labelled"].item() < 0.6 * before


def test_patches_of_a_step_depend_on_seed_and_number_alone():
    first, again, other = raw_patches(), raw_patches(), raw_patches(seed=1)
    assert np.array_equal(first(3).raw, again(3).raw)
    assert not np.array_equal(first(3).raw, other(3).raw)
    assert first(3).raw.shape == (2, 1, *PATCH)


def test_the_teacher_of_a_network_is_of_its_kind():
    students, _ = make_teacher(MeanTeacher(), lambda: NETWORK.build(3))
    assert isinstance(ConsistencyObjective().loss, SquaredError)
    assert len(students.networks) == 1
