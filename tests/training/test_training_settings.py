import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ssns.errors import UserError
from ssns.perturb import MixUp, Patch, Sequence
from ssns.training import ConsistencyObjective, PretrainingSettings, TrainingSettings, muon
from ssns.training.objectives import CutMix, MaskedBlocks, MeanTeacher, Restoration, SigmoidRamp
from ssns.training.settings import Adam, AdamW, Constant, Cosine, Muon, OptimizerSettings, Polynomial, Schedule

STEPS = 100


def factors(schedule, steps=STEPS):
    return [schedule.factor(step, steps) for step in range(steps)]


class TestSchedules:
    def test_constant(self):
        assert factors(Constant()) == [1.0] * STEPS

    def test_polynomial_is_the_reference_without_warm_up(self):
        base, end, power = 1e-4, 1e-5, 1.5
        ours = [base * factor for factor in factors(Polynomial(power=power, end=end / base))]
        reference = [(base - end) * (1 - t / STEPS) ** power + end for t in range(STEPS)]
        assert ours == pytest.approx(reference, rel=1e-12)
        assert Polynomial(end=0.1).factor(STEPS, STEPS) == pytest.approx(0.1)

    def test_cosine(self):
        schedule = Cosine(warmup=0, end=0.2)
        assert schedule.factor(0, STEPS) == 1
        assert schedule.factor(25, STEPS) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
        assert schedule.factor(50, STEPS) == pytest.approx(0.6)
        assert schedule.factor(STEPS, STEPS) == pytest.approx(0.2)

    @pytest.mark.parametrize("kind", [Constant, Polynomial, Cosine])
    def test_the_warm_up_rises_linearly_and_is_never_zero(self, kind):
        values = factors(kind(warmup=9))
        assert values[:10] == pytest.approx([step / 10 for step in range(1, 11)])
        assert values[9] == 1

    @pytest.mark.parametrize("kind", [Polynomial, Cosine])
    @pytest.mark.parametrize("warmup", [0, 10])
    def test_the_fall_begins_after_the_warm_up_and_has_no_jump(self, kind, warmup):
        values = factors(kind(warmup=warmup))[warmup:]
        falls = [a - b for a, b in pairwise(values)]
        assert values[0] == 1
        assert min(falls) > 0
        assert max(falls) < 0.025
        assert values[-1] < 0.01

    @pytest.mark.parametrize("kind", [Constant, Polynomial, Cosine])
    def test_a_run_shorter_than_its_warm_up_works(self, kind):
        values = factors(kind(warmup=50), 5)
        assert values == pytest.approx([step / 51 for step in range(1, 6)])

    def test_all_can_be_named_in_an_experiment(self):
        kinds = [TypeAdapter(Schedule).validate_python({"type": name}) for name in ("constant", "polynomial", "cosine")]
        assert kinds == [Constant(), Polynomial(), Cosine()]


class TestOptimizers:
    @pytest.mark.parametrize(
        ("settings", "kind", "own"),
        [
            (Adam(), torch.optim.Adam, {"amsgrad": True}),
            (AdamW(), torch.optim.AdamW, {"amsgrad": True}),
            (Muon(), muon.Muon, {"momentum": 0.7}),
        ],
    )
    def test_every_setting_reaches_torch(self, settings, kind, own):
        changed = settings.model_copy(update={"lr": 0.5, "betas": (0.8, 0.9), "eps": 0.01, "weight_decay": 1e-6} | own)
        optimizer = changed.build([torch.nn.Parameter(torch.zeros(1))])
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        for name, value in changed.model_dump(exclude={"type"}).items():
            assert group[name] == value

    def test_all_can_be_named_in_an_experiment(self):
        adapter = TypeAdapter(OptimizerSettings)
        named = [adapter.validate_python({"type": name}) for name in ("adam", "adamw", "muon")]
        assert named == [Adam(), AdamW(), Muon()]


@pytest.mark.parametrize(
    "table",
    [{"steps": 0}, {"batch": 0}, {"clip": 0}, {"precision": "fp8"}, {"validation_share": 0}, {"patch": [18, 160]}],
)
def test_impossible_settings_are_refused(table):
    with pytest.raises(ValidationError, match=next(iter(table))):
        TrainingSettings.model_validate(table)


class TestObjectives:
    @pytest.mark.parametrize(
        ("model", "given", "told"),
        [
            (MeanTeacher, {"buffers": "own"}, 'set statistics = "batch"'),
            (CutMix, {"plane": 0.6, "depth": 0.5}, "wanted plane \\+ depth of at most 1"),
            (CutMix, {"size": (0.9, 0.1)}, "swap the two"),
            (CutMix, {"size": (0.5, 1.5)}, "less than or equal to 1"),
        ],
    )
    def test_what_cannot_work_is_refused(self, model, given, told):
        with pytest.raises((ValidationError, UserError), match=told):
            model(**given)

    def test_the_ramp_begins_where_the_warm_up_ends(self):
        objective = ConsistencyObjective(weight=2.0, warmup=10, ramp=SigmoidRamp(steps=4))
        found = [objective.weight_at(step) for step in (0, 9, 10, 12, 14, 20)]
        assert found == pytest.approx([0, 0, 2 * np.exp(-5), 2 * np.exp(-5 / 4), 2, 2])

    def test_mix_up_of_any_engine_needs_partners(self):
        mixing = Sequence(steps=(MixUp(),))
        assert ConsistencyObjective(clean=mixing).needs_partner
        assert ConsistencyObjective(strong=mixing).needs_partner
        assert not ConsistencyObjective().needs_partner
        assert PretrainingSettings(clean=mixing).needs_partner
        assert PretrainingSettings(task=Restoration(perturbations=mixing)).needs_partner
        assert not PretrainingSettings().needs_partner

    def test_never_is_all_of_a_patch_hidden(self):
        draws = torch.Generator().manual_seed(0)
        _, hidden = MaskedBlocks(block=(4, 8, 8), share=0.9).perturb(Patch(torch.zeros(4, 8, 16)), draws)
        assert hidden.float().mean() == 0.5
        with pytest.raises(UserError, match="wanted at least two"):
            MaskedBlocks(block=(4, 8, 8)).perturb(Patch(torch.zeros(4, 8, 8)), draws)
