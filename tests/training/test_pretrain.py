import numpy as np
import pytest
import torch
from test_loop import equal, outcome
from toy_training import CHECKPOINT, NETWORK, PATCH, raw_patches, settings

from ssns.losses import AbsoluteError, SquaredError
from ssns.networks import MalaUNetSettings
from ssns.perturb import FlipTranspose, Noise, Patch, Sequence
from ssns.sampling import RawBatch
from ssns.training.loop import train
from ssns.training.objectives import MaskedBlocks, PretrainingSettings, Restoration
from ssns.training.pretrain import Pretraining
from ssns.training.supervised import Process

PLAIN = Sequence(steps=())


def pretraining(network_seed=0, sampler=None, picture=None, network=NETWORK, **changes):
    torch.manual_seed(network_seed)
    return Pretraining(
        network.without_skips().build(1),
        sampler or raw_patches(),
        settings=PretrainingSettings(**changes),
        process=Process(torch.device("cpu")),
        picture=picture,
    )


class TestRestoration:
    @pytest.mark.parametrize(("loss", "power"), [(SquaredError(), 2), (AbsoluteError(), 1)])
    def test_the_loss_is_of_every_voxel_of_the_clean_patch(self, loss, power):
        objective = pretraining(loss=loss, clean=PLAIN, task=Restoration(perturbations=Sequence(steps=(Noise(),))))
        objective.network.eval()
        batch, number = objective.draw(2)
        raw, clean, counted = objective.views(batch, objective.process.generator(number))
        assert torch.equal(clean, torch.from_numpy(batch.raw))
        assert not torch.equal(raw, clean)
        assert counted.all()
        with torch.no_grad():
            wanted = (objective.network(raw).sigmoid() - clean).abs().pow(power).mean()
            found = objective.loss((batch, number), 0)
        assert list(found) == ["restoration"]
        torch.testing.assert_close(found["restoration"], wanted)

    def test_of_a_valid_network_the_middle_is_restored(self):
        network = MalaUNetSettings(features=2, growth=2, depth=1)
        raw = np.random.default_rng(0).random((2, 1, 14, 28, 34), np.float32)
        objective = pretraining(
            network=network, sampler=lambda number: RawBatch(raw, ("here",)), picture=lambda *images: images
        )
        batch, number = objective.draw(0)
        seen, clean, counted = objective.views(batch, objective.process.generator(number))
        assert seen.shape == (2, 1, 14, 28, 34)
        assert clean.shape == counted.shape == (2, 1, 2, 8, 14)
        with torch.no_grad():
            found = objective.loss((batch, number), 0)["restoration"]
            torch.testing.assert_close(found, ((objective.network(seen).sigmoid() - clean) ** 2).mean())
        plain = pretraining(network=network, sampler=objective.sampler, clean=PLAIN)
        _, clean, _ = plain.views(batch, plain.process.generator(number))
        assert np.array_equal(clean, raw[:, :, 6:8, 10:18, 10:24])
        assert [image.shape[-3:] for image in objective.preview()] == [(2, 8, 14)] * 4

    def test_the_target_goes_through_the_clean_perturbations_too(self):
        objective = pretraining(clean=Sequence(steps=(FlipTranspose(),)), task=Restoration(perturbations=PLAIN))
        batch, _ = objective.draw(0)
        turned = 0
        for number in range(6):
            raw, clean, _ = objective.views(batch, objective.process.generator(number))
            assert torch.equal(raw, clean)
            turned += not torch.equal(clean, torch.from_numpy(batch.raw))
        assert turned >= 4


class TestMaskedBlocks:
    def test_blocks_of_the_grid_are_blank_and_only_they_count(self):
        patch = Patch(torch.full((6, 20, 24), 0.5))
        task = MaskedBlocks(block=(4, 8, 8), share=0.25, value=0.1)
        seen, hidden = task.perturb(patch, torch.Generator().manual_seed(0))
        assert torch.equal(seen == 0.1, hidden)
        assert torch.equal(seen == 0.5, ~hidden)
        blocks = [hidden[z : z + 4, y : y + 8, x : x + 8] for z in (0, 4) for y in (0, 8, 16) for x in (0, 8, 16)]
        assert sum(bool(block.all()) for block in blocks) == round(0.25 * 18)
        assert all(block.all() or not block.any() for block in blocks)

    def test_the_loss_is_of_what_was_hidden(self):
        objective = pretraining(clean=PLAIN, task=MaskedBlocks(block=(1, 4, 4)))
        objective.network.eval()
        batch, number = objective.draw(1)
        raw, clean, hidden = objective.views(batch, objective.process.generator(number))
        assert torch.equal(raw[~hidden], clean[~hidden])
        assert not raw[hidden].any()
        with torch.no_grad():
            wanted = (objective.network(raw).sigmoid() - clean)[hidden].square().mean()
            torch.testing.assert_close(objective.loss((batch, number), 0)["restoration"], wanted)

    def test_other_blocks_each_time(self):
        task, generator = MaskedBlocks(block=(2, 4, 4)), torch.Generator().manual_seed(0)
        first, second = (task.perturb(Patch(torch.zeros(4, 16, 16)), generator)[1] for _ in range(2))
        assert not torch.equal(first, second)


class TestTraining:
    def test_resumed_equals_uninterrupted(self, tmp_path):
        def validated(objective):
            return lambda network, step: objective.validate(network, 2)

        def failing(network, step):
            raise OSError("gone")

        whole, resumed, again = pretraining(), pretraining(), pretraining(1)
        train(whole, CHECKPOINT, settings(), tmp_path / "whole", validate=validated(whole), score="restoration")
        with pytest.raises(OSError, match="gone"):
            train(resumed, CHECKPOINT, settings(), tmp_path / "resumed", validate=failing, score="restoration")
        train(again, CHECKPOINT, settings(), tmp_path / "resumed", validate=validated(again), score="restoration")
        assert equal(outcome(tmp_path / "resumed"), outcome(tmp_path / "whole"))

    def test_it_learns_and_the_best_restores_best(self, tmp_path):
        objective, said = pretraining(task=Restoration(perturbations=Sequence(steps=(Noise(),)))), []

        def validate(network, step):
            said.append(objective.validate(network, 3))
            return said[-1]

        best = train(
            objective,
            CHECKPOINT,
            settings(steps=80, validate_every=20),
            tmp_path,
            validate=validate,
            score="restoration",
        )
        values = [scores["restoration"] for scores in said]
        assert values[-1] < 0.6 * values[0]
        assert best.scores["restoration"] == min(values)

    def test_validation_is_always_on_the_same_patches(self):
        objective = pretraining()
        objective.network.eval()
        assert objective.validate(objective.network, 2) == objective.validate(objective.network, 2)

    def test_the_preview_shows_perturbed_clean_and_restored(self):
        shown = []

        def picture(raw, target, prediction, mask):
            shown.append([part.shape for part in (raw, target, prediction, mask)])
            return np.zeros((4, 6, 3), np.uint8)

        objective = pretraining(picture=picture)
        assert objective.preview() is None
        objective.loss(objective.draw(0), 0)
        assert objective.preview().shape == (4, 6, 3)
        assert shown == [[PATCH, (1, *PATCH), (1, *PATCH), (1, *PATCH)]]
