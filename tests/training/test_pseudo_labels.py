import numpy as np
import torch
from toy_training import LABELS, PATCH, supervised, volume

from ssns.affinities import labels_to_affinities
from ssns.perturb import Sequence
from ssns.sampling import LabelledPatches
from ssns.training import PseudoLabelObjective
from ssns.training.pseudo_labels import TAUGHT, PseudoLabelled

BOLD = np.arange(LABELS.max() + 1)
BOLD[2] = 1  # the bold segmentation joins the first two


def objective(bold=BOLD, apart=(), augmentation=None, **changes):
    labelled = supervised(augmentation=augmentation)
    sampler = LabelledPatches([volume()], PATCH, 2, seed=0, stream=TAUGHT)
    pairs = np.array(apart, np.uint32).reshape(-1, 2)
    return PseudoLabelled(labelled, sampler, bold, pairs, PseudoLabelObjective(**changes))


def test_what_the_bold_segmentation_alone_joins_is_not_known():
    found = objective(augmentation=Sequence(steps=()))
    for number in range(5):
        batch = found.draw(number).taught
        raw, target, known = found.views(batch, number)
        np.testing.assert_array_equal(raw.numpy(), batch.raw)
        for labels, affinities, mask in zip(batch.labels, target.numpy(), known.numpy(), strict=True):
            wanted, inside = labels_to_affinities(labels)
            joined, _ = labels_to_affinities(BOLD[labels])
            np.testing.assert_array_equal(affinities, wanted)
            np.testing.assert_array_equal(mask, inside & (wanted == joined))
            assert (mask < inside).any() == ({1, 2} <= set(np.unique(labels)))


def test_pairs_that_are_apart_are_outside_though_one_bold_segment_has_both():
    # 1 and 2, and 5 and 6, are neighbours along x, 1 and 5 along y; one bold segment has all of them
    bold = np.where(np.isin(np.arange(LABELS.max() + 1), [1, 2, 5, 6]), 1, np.arange(LABELS.max() + 1))
    pairs = [[1, 2], [1, 5]]
    found, without = (objective(bold, each, augmentation=Sequence(steps=())) for each in (pairs, ()))
    seen = 0
    for number in range(20):
        batch = found.draw(number).taught
        _, target, known = found.views(batch, number)
        _, _, less = without.views(batch, number)
        for labels, affinities, more in zip(batch.labels, target.numpy(), (known & ~less).numpy(), strict=True):
            for channel, z, y, x in np.argwhere(more):
                there = np.array([z, y, x]) - np.eye(3, dtype=int)[channel]
                assert sorted((labels[z, y, x], labels[tuple(there)])) in pairs
                assert affinities[channel, z, y, x] == 0
                seen += 1
        assert not (less & ~known).any()
    assert seen > 0


def test_of_channels_that_nothing_has_trained_nothing_is_known():
    whole, found = objective(), objective()
    found.untrained = [0, 2]
    batch = whole.draw(0).taught
    (_, _, every), (_, _, known) = whole.views(batch, 0), found.views(batch, 0)
    assert every[:, 0].any()
    assert not known[:, [0, 2]].any()
    assert torch.equal(known[:, 1], every[:, 1])


def test_the_two_kinds_of_patches_are_drawn_and_perturbed_apart():
    found = objective()
    batch = found.draw(0)
    assert found.describe(batch) == "; ".join(batch.labelled.places + batch.taught.places)
    assert batch.labelled.places != batch.taught.places
    first, second = found.labelled.augmented(batch.labelled, 0), found.labelled.augmented(batch.labelled, 0, TAUGHT)
    assert not torch.equal(first[0], second[0])


def test_the_weight_is_that_of_pseudo_labelled_patches():
    losses = [objective(weight=weight).loss(objective().draw(0), 0) for weight in (1, 3)]
    torch.testing.assert_close(losses[1]["taught"], 3 * losses[0]["taught"])
    torch.testing.assert_close(losses[1]["labelled"], losses[0]["labelled"])


def test_labels_as_pseudo_labels_are_labels():
    found = objective(bold=np.arange(LABELS.max() + 1))
    batch = found.draw(0)
    _, target, mask = found.views(batch.labelled, 0)
    _, labels, valid = found.labelled.augmented(batch.labelled, 0, TAUGHT)
    wanted, known = supervised(border="none").targets.of(labels, valid)
    assert torch.equal(target, wanted)
    assert torch.equal(mask, known)
