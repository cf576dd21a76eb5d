from typing import get_args

import pytest

from ssns.errors import UserError
from ssns.experiment import load_experiment
from ssns.presets import Preset, merged
from ssns.training.objectives import MeanTeacher, WeightSharing

VOLUME = '[volumes.a]\nraw = "a.tif"\n'


def loaded(tmp_path, text, name="e.toml"):
    (tmp_path / name).write_text(text + VOLUME)
    return load_experiment(tmp_path / name)


class TestMerged:
    def test_the_upper_table_decides_and_the_rest_stays(self):
        below = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [1, 2]}
        above = {"b": {"d": {"e": 4}}, "f": [5], "g": 6}
        assert merged(below, above) == {"a": 1, "b": {"c": 2, "d": {"e": 4}}, "f": [5], "g": 6}
        assert below == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [1, 2]}

    def test_a_component_of_another_type_replaces_the_whole(self):
        below = {"loss": {"type": "bce", "balance": "channel"}}
        assert merged(below, {"loss": {"type": "dice"}}) == {"loss": {"type": "dice"}}
        assert merged(below, {"loss": {"type": "bce"}}) == below
        assert merged(below, {"loss": {"balance": "none"}}) == {"loss": {"type": "bce", "balance": "none"}}
        assert merged(below, {"loss": "none"}) == {"loss": "none"}


class TestPaper:
    """reference 1.6 and 4 to 6."""

    @pytest.mark.parametrize("name", get_args(Preset))
    def test_what_all_share(self, tmp_path, name):
        experiment = loaded(tmp_path, f'preset = "{name}"\n')
        assert experiment.seed == 555
        for loop, batch in ((experiment.training, 2), (experiment.pretraining.training, 4)):
            optimizer = loop.optimizer
            assert (optimizer.type, optimizer.lr, optimizer.eps, optimizer.weight_decay, optimizer.amsgrad) == (
                "adam", 1e-4, 0.01, 1e-6, True,
            )  # fmt: skip
            assert (loop.steps, loop.batch, loop.patch, loop.schedule.type) == (
                300_000,
                batch,
                (18, 160, 160),
                "constant",
            )
        assert (experiment.border, experiment.outside, experiment.beyond) == ("reference", "replicate", "reflected")
        assert experiment.network.batch_momentum == 0.001
        assert experiment.network.filters == (28, 36, 48, 64, 80)
        assert (experiment.pretraining.skips, experiment.transfer.parts) == ("none", "encoder")
        assert experiment.objective.loss.type == "squared_error"
        assert experiment.objective.teacher.statistics == "batch"
        assert (experiment.objective.geometry, experiment.objective.batch) == ("reference", "joint")
        assert experiment.objective.cut_mix is None
        assert experiment.loss.type == "bce"
        assert {loop.precision for loop in (experiment.training, experiment.pretraining.training)} == {"fp32"}
        assert experiment.prediction.tiling == "reference"
        assert experiment.normalization.type == "dtype"
        assert (experiment.segmentation.method.type, experiment.segmentation.thresholds) == ("agglomeration", (0.5,))

    @pytest.mark.parametrize("name", get_args(Preset))
    def test_labelled_patches_and_those_of_pre_training_go_through_one_of_five(self, tmp_path, name):
        experiment = loaded(tmp_path, f'preset = "{name}"\n')
        five = ["intensity", "noise", "blur", "cut_out", "misalign"]
        flip, one_of = experiment.augmentation.steps
        assert (flip.type, flip.probability) == ("flip_transpose", 0.5)
        assert [(choice.type, choice.probability) for choice in one_of.choices] == [
            *((kind, 1.0) for kind in five[:4]), ("misalign", 0.5),
        ]  # fmt: skip
        pretraining = experiment.pretraining
        assert [(step.type, step.probability) for step in pretraining.clean.steps] == [("flip_transpose", 0.5)]
        assert [choice.type for choice in pretraining.task.perturbations.choices] == five
        assert pretraining.loss.type == "squared_error"

    def test_weight_sharing_draws_one_perturbation(self, tmp_path):
        objective = loaded(tmp_path, 'preset = "paper-ws"\n').objective
        assert objective.teacher == WeightSharing(statistics="batch")
        assert [choice.type for choice in objective.strong.choices] == [
            "intensity", "noise", "blur", "cut_out", "misalign",
        ]  # fmt: skip
        assert objective.clean.steps == ()
        assert (objective.weight, objective.ramp.type) == (1.0, "steady")

    def test_the_mean_teacher_perturbs_in_sequence(self, tmp_path):
        objective = loaded(tmp_path, 'preset = "paper-ema"\n').objective
        assert objective.teacher == MeanTeacher(
            decay=0.999, warmup=True, buffers="own", statistics="batch", start="random"
        )
        assert [(step.type, step.probability) for step in objective.strong.steps] == [
            ("intensity", 0.5), ("noise", 0.5), ("blur", 0.5), ("cut_out", 0.5),
        ]  # fmt: skip
        assert objective.strong.steps[0].per_section == 1
        assert [(step.type, step.probability) for step in objective.clean.steps] == [("flip_transpose", 0.5)]
        assert (objective.weight, objective.ramp.type) == (1.0, "steady")

    def test_the_ramp(self, tmp_path):
        objective = loaded(tmp_path, 'preset = "paper-ema-ramp"\n').objective
        found = [objective.weight * objective.ramp.share(step) for step in (0, 50_000, 100_000)]
        assert found == pytest.approx([6.7379e-4, 0.02865, 0.1], rel=1e-3)


class TestFiles:
    def test_the_file_comes_on_top_of_its_preset(self, tmp_path):
        experiment = loaded(tmp_path, 'preset = "paper-ws"\ntraining.steps = 7\nobjective.teacher.type = "cross"\n')
        assert experiment.training.steps == 7
        assert experiment.training.optimizer.eps == 0.01
        assert experiment.objective.teacher.type == "cross"
        assert experiment.objective.teacher.statistics == "running"

    def test_a_preset_comes_on_top_of_the_base(self, tmp_path):
        loaded(
            tmp_path, 'preset = "paper-ws"\nseed = 3\noffsets = [[-1,0,0],[0,-1,0],[0,0,-1],[0,0,-9]]\n', "base.toml"
        )
        (tmp_path / "inner").mkdir()
        path = tmp_path / "inner" / "e.toml"
        path.write_text('base = "../base.toml"\npreset = "paper-ema"\nname = "mine"\n')
        experiment = load_experiment(path)
        assert experiment.objective.teacher.type == "mean_teacher"
        assert (experiment.name, experiment.seed, len(experiment.offsets)) == ("mine", 555, 4)
        assert experiment.volumes["a"].raw == str(tmp_path / "a.tif")
        assert experiment.runs == str(tmp_path / "inner" / "runs")

    def test_a_type_that_a_base_leaves_out_is_the_default_one(self, tmp_path):
        loaded(tmp_path, "[training.optimizer]\nlr = 0.5\n", "base.toml")
        experiment = loaded(tmp_path, 'base = "base.toml"\ntraining.optimizer = {type = "adamw", weight_decay = 0.1}\n')
        assert (experiment.training.optimizer.lr, experiment.training.optimizer.weight_decay) == (0.5, 0.1)

    def test_mix_up_of_labelled_patches_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="augmentation: wanted perturbations of one patch, got mix_up"):
            loaded(tmp_path, 'augmentation = {type = "one_of", choices = [{type = "mix_up"}]}\n')

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ('preset = "paper-sw"\n', "preset: .*'paper-ws', 'paper-ema' or 'paper-ema-ramp' .*'paper-sw'"),
            ('base = "gone.toml"\n', "no file at .*gone.toml"),
            ('base = "e.toml"\n', "e.toml is based on .*e.toml, which is based on it"),
        ],
    )
    def test_mistakes_are_told(self, tmp_path, text, told):
        with pytest.raises(UserError, match=told):
            loaded(tmp_path, text)
