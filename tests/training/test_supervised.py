import numpy as np
import pytest
import torch
from torch import nn
from toy_training import LABELS, NETWORK, PATCH, supervised, volume

from ssns.affinities import labels_to_affinities, widen_borders
from ssns.losses import SquaredError
from ssns.networks import Extents
from ssns.perturb import Noise, Sequence
from ssns.perturb.geometry import FlipTranspose
from ssns.sampling import LabelledPatches, LabelledVolume
from ssns.space import Box
from ssns.volume import from_array
from ssns.volume.normalization import IntensityRange

FLIPS = Sequence(steps=(FlipTranspose(),))


class Shrinking(nn.Module):
    """A valid convolution: one voxel less at each side in the plane."""

    extents = Extents(shrink=(0, 1, 1))

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, (1, 3, 3))

    def forward(self, raw):
        return self.conv(raw)


def test_a_batch_comes_with_its_number_and_can_be_told():
    objective = supervised()
    batch, number = objective.draw(7)
    assert number == 7
    np.testing.assert_array_equal(batch.raw, LabelledPatches([volume()], PATCH, 2, seed=0)(7).raw)
    assert objective.describe((batch, number)) == "; ".join(batch.places)


class TestAugmentation:
    def test_raw_and_labels_move_together(self):
        ids = np.arange(6 * 20 * 20).reshape(6, 20, 20)
        box = Box.of_shape(ids.shape)
        both = LabelledVolume(
            from_array(ids.astype(np.float32)), from_array(ids), (0, 0, 0), (box,), IntensityRange(0, 4096)
        )
        objective = supervised(sampler=LabelledPatches([both], PATCH, 4, seed=0), augmentation=FLIPS)
        batch, number = objective.draw(0)
        raw, labels, valid = objective.augmented(batch, number)
        assert (raw.shape, labels.shape, valid.shape) == ((4, 1, *PATCH), (4, *PATCH), (4, *PATCH))
        torch.testing.assert_close((raw[:, 0] * 4096).long(), labels.long(), rtol=0, atol=0)
        assert not torch.equal(labels, torch.from_numpy(batch.labels))

    def test_draws_depend_on_seed_rank_and_number_alone(self):
        noise = Sequence(steps=(Noise(),))
        batch = supervised().draw(0)[0]
        images = {}
        for name, seed, rank, number in [
            ("a", 0, 0, 0), ("b", 0, 0, 0), ("number", 0, 0, 1), ("seed", 1, 0, 0), ("rank", 0, 1, 0),
        ]:  # fmt: skip
            torch.manual_seed(len(images))
            images[name] = supervised(seed=seed, rank=rank, augmentation=noise).augmented(batch, number)[0]
        assert torch.equal(images["a"], images["b"])
        for name in ("number", "seed", "rank"):
            assert not torch.equal(images["a"], images[name])
        first, second = images["a"] - torch.from_numpy(batch.raw)
        assert not torch.equal(first, second)


class TestTargets:
    def test_they_are_the_affinities_of_labels_with_wide_borders(self):
        labels = torch.from_numpy(LABELS.astype(np.int32))[None]
        valid = torch.ones(labels.shape, dtype=torch.bool)
        for border in ("none", "symmetric", "reference"):
            target, mask = supervised(border=border).targets.of(labels, valid)
            wanted, known = labels_to_affinities(widen_borders(LABELS, border))
            np.testing.assert_array_equal(target[0].numpy(), wanted)
            np.testing.assert_array_equal(mask[0].numpy(), known)

    def test_a_network_that_shrinks_is_asked_for_the_inner_part(self):
        objective = supervised(network=Shrinking())
        labels = torch.from_numpy(LABELS.astype(np.int32))[None]
        valid = torch.ones(labels.shape, dtype=torch.bool)
        for inner, outer in zip(
            objective.targets.of(labels, valid), supervised().targets.of(labels, valid), strict=True
        ):
            assert torch.equal(inner, outer[..., 1:-1, 1:-1])
        assert objective.loss(objective.draw(0), 0)["labelled"].isfinite()

    def test_the_end_of_the_labels_is_no_membrane(self):
        labels = torch.ones((1, *PATCH), dtype=torch.int32)
        valid = torch.ones((1, *PATCH), dtype=torch.bool)
        labels[..., 5:], valid[..., 5:] = 0, False
        target, mask = supervised().targets.of(labels, valid)
        assert (target[mask] == 1).all()
        assert not mask[..., 5:].any()


class TestLoss:
    def test_it_is_the_loss_of_the_logits_under_the_mask(self):
        objective = supervised(augmentation=Sequence(steps=()), loss=SquaredError())
        batch, number = objective.draw(0)
        objective.network.eval()
        target, mask = objective.targets.of(torch.from_numpy(batch.labels), torch.from_numpy(batch.valid))
        with torch.no_grad():
            terms = objective.loss((batch, number), 0)
            prediction = objective.network(torch.from_numpy(batch.raw)).sigmoid()
        expected = ((prediction - target)[mask] ** 2).mean()
        assert list(terms) == ["labelled"]
        torch.testing.assert_close(terms["labelled"], expected)

    def test_unlabelled_voxels_do_not_matter(self):
        objective = supervised(augmentation=Sequence(steps=()))
        batch, _ = objective.draw(0)
        batch.valid[:, :, :, 3:] = False
        objective.network.eval()
        first = objective.loss((batch, 0), 0)["labelled"]
        batch.labels[:, :, :, 3:] += 1000
        torch.testing.assert_close(objective.loss((batch, 0), 0)["labelled"], first, rtol=0, atol=0)


class TestPreview:
    @pytest.mark.parametrize(("network", "lost"), [(NETWORK, 0), (Shrinking(), 1)])
    def test_it_shows_the_latest_batch(self, network, lost):
        shown = []

        def picture(raw, target, prediction, mask):
            shown.append((raw, target, prediction, mask))
            return np.zeros((4, 6, 3), np.uint8)

        objective = supervised(network=network, augmentation=Sequence(steps=()), picture=picture)
        assert objective.preview() is None
        drawn = objective.draw(3)
        objective.loss(drawn, 3)
        assert objective.preview().shape == (4, 6, 3)
        ((raw, target, prediction, mask),) = shown
        inside = (slice(None), slice(lost, 8 - lost), slice(lost, 8 - lost))
        np.testing.assert_array_equal(raw, drawn[0].raw[0, 0][inside])
        assert target.shape == prediction.shape == mask.shape == (3, 3, 8 - 2 * lost, 8 - 2 * lost)
        assert mask.dtype == bool
        assert 0 < prediction.min() < prediction.max() < 1

    def test_a_network_that_is_very_sure_can_be_shown(self):
        objective = supervised(picture=lambda raw, target, prediction, mask: prediction)
        nn.init.constant_(objective.network.out_put[0].bias, -200)
        objective.loss(objective.draw(0), 0)
        assert objective.preview().max() < 1e-30

    def test_without_a_picture_there_is_none(self):
        objective = supervised()
        objective.loss(objective.draw(0), 0)
        assert objective.preview() is None
