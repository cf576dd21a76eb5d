from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss

from ssns.losses import AbsoluteError, BinaryCrossEntropy, Dice, Loss, Malis, SquaredError
from ssns.malis import malis_weights

SHAPE = (2, 3, 2, 4, 5)
MEMBERS = [
    BinaryCrossEntropy(), BinaryCrossEntropy(balance="channel"), Dice(), Dice(smooth=1e-3), SquaredError(),
    AbsoluteError(), Malis(), Malis(mergers=0.2),
]  # fmt: skip
seeds = st.integers(0, 2**32 - 1)


def sample(seed, shape=SHAPE):
    draws = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=draws, dtype=torch.float64)
    target = (torch.rand(shape, generator=draws) < 0.7).double()
    mask = torch.rand(shape, generator=draws) < 0.6
    mask[0, :, 0, 0, 0] = True
    return logits, target, mask


def by_numpy(loss, logits, target, mask):
    """The formulas of the documentation, in NumPy."""
    x, t, m = (tensor.numpy().astype(float) for tensor in (logits, target, mask))
    p = 1 / (1 + np.exp(-x))
    if isinstance(loss, Dice):
        return 1 - (2 * (p * t * m).sum() + loss.smooth) / (((p**2 + t**2) * m).sum() + loss.smooth)
    if isinstance(loss, SquaredError):
        return (m * (p - t) ** 2).sum() / m.sum()
    if isinstance(loss, Malis):
        shares = [malis_weights(*each) for each in zip(p, t > 0.5, m > 0, strict=True)]
        weight = np.stack([(1 - loss.mergers) * within + loss.mergers * between for within, between in shares])
        return (weight * (p - t) ** 2).sum() / len(p)
    if isinstance(loss, AbsoluteError):
        return (m * np.abs(p - t)).sum() / m.sum()
    each = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    weight = np.ones_like(x)
    if loss.balance == "channel":
        for channel in range(x.shape[1]):
            f = np.clip((t * m)[:, channel].sum() / m[:, channel].sum(), 0.01, 0.99)
            weight[:, channel] = np.where(t[:, channel] == 1, 1 / (2 * f), 1 / (2 * (1 - f)))
    return (each * weight * m).sum() / m.sum()


def test_the_table_has_every_loss():
    assert {type(loss) for loss in MEMBERS} == set(get_args(get_args(Loss)[0]))
    for loss in MEMBERS:
        assert TypeAdapter(Loss).validate_python(loss.model_dump()) == loss


@pytest.mark.parametrize("loss", MEMBERS, ids=repr)
class TestEveryLoss:
    @settings(max_examples=20)
    @given(seed=seeds)
    def test_equals_its_formula(self, loss, seed):
        logits, target, mask = sample(seed)
        assert loss(logits, target, mask).item() == pytest.approx(by_numpy(loss, logits, target, mask), rel=1e-10)

    @settings(max_examples=20)
    @given(seed=seeds, other=seeds)
    def test_what_is_masked_does_not_matter(self, loss, seed, other):
        logits, target, mask = sample(seed)
        noise, flipped, _ = sample(other)
        changed = loss(torch.where(mask, logits, noise), torch.where(mask, target, flipped), mask)
        original = loss(logits, target, mask)
        torch.testing.assert_close(changed, original, rtol=1e-12, atol=0)

    def test_gradients_flow_to_what_counts_alone(self, loss):
        logits, target, mask = sample(0)
        logits.requires_grad_()
        loss(logits, target, mask).backward()
        moved = logits.grad[mask] != 0
        assert moved.any() if isinstance(loss, Malis) else moved.all()
        assert (logits.grad[~mask] == 0).all()

    def test_gradients_point_towards_the_target(self, loss):
        logits, target, mask = sample(1)
        logits.requires_grad_()
        loss(logits, target, mask).backward()
        with torch.no_grad():
            better = loss(logits - 0.1 * logits.grad, target, mask)
            assert better < loss(logits, target, mask)

    def test_the_target_itself_costs_nothing(self, loss):
        _, target, mask = sample(2)
        assert loss(60 * (2 * target - 1), target, mask).item() == pytest.approx(0, abs=1e-12)

    def test_nothing_counted_costs_nothing(self, loss):
        logits, target, mask = sample(3)
        logits.requires_grad_()
        value = loss(logits, target, torch.zeros_like(mask))
        value.backward()
        assert value.item() == 0
        assert (logits.grad == 0).all()

    def test_weights_count_as_much_as_they_weigh(self, loss):
        logits, target, mask = sample(4)
        twice = loss(logits.repeat(2, 1, 1, 1, 1), target.repeat(2, 1, 1, 1, 1), mask.repeat(2, 1, 1, 1, 1))
        weighted = loss(logits, target, 2 * mask.double())
        torch.testing.assert_close(twice, weighted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("loss", [loss for loss in MEMBERS if not isinstance(loss, Dice)], ids=repr)
def test_small_weights_are_weights(loss):
    logits, target, mask = sample(5)
    light, heavy = (loss(logits, target, scale * mask.double()) for scale in (1e-4, 1))
    torch.testing.assert_close(light, heavy, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("loss", "torchs"),
    [
        (BinaryCrossEntropy(), binary_cross_entropy_with_logits),
        (SquaredError(), lambda logits, target: mse_loss(logits.sigmoid(), target)),
        (AbsoluteError(), lambda logits, target: l1_loss(logits.sigmoid(), target)),
    ],
    ids=["cross entropy", "squared error", "absolute error"],
)
@settings(max_examples=20)
@given(seed=seeds, soft=st.booleans())
def test_without_a_mask_losses_are_torchs_means(loss, torchs, seed, soft):
    # reference 10.1; a teacher's targets are soft
    logits, target, mask = sample(seed)
    if soft:
        target = sample(seed + 1)[0].sigmoid()
    everything = loss(logits, target, torch.ones_like(mask))
    torch.testing.assert_close(everything, torchs(logits, target), rtol=1e-12, atol=0)


def test_a_balanced_channel_gives_both_kinds_of_edge_half_the_weight():
    target = torch.zeros(1, 1, 1, 2, 4, dtype=torch.float64)
    target[..., 0, 0] = 1  # f = 1/8
    logits = torch.zeros_like(target, requires_grad=True)
    BinaryCrossEntropy(balance="channel")(logits, target, torch.ones_like(target)).backward()
    share = logits.grad.abs() / logits.grad.abs().sum()
    assert share[target == 1].sum().item() == pytest.approx(0.5)
    assert share[target == 0].sum().item() == pytest.approx(0.5)


def test_balance_stops_at_one_in_a_hundred():
    target = torch.zeros(1, 1, 1, 1, 1000, dtype=torch.float64)
    target[..., 0] = 1
    logits = torch.zeros_like(target, requires_grad=True)
    BinaryCrossEntropy(balance="channel")(logits, target, torch.ones_like(target)).backward()
    ratio = logits.grad.abs()[target == 1].sum() / logits.grad.abs()[..., 1]
    assert ratio.item() == pytest.approx((1 / 0.02) / (1 / 1.98))


def test_dice_of_the_reference():
    # p = 0.5 everywhere, 3 of 4 voxels positive, smooth 100: 1 - (2 * 1.5 + 100) / (1 + 3 + 100).
    logits = torch.zeros(1, 1, 1, 1, 4, dtype=torch.float64)
    target = torch.tensor([1.0, 1, 1, 0], dtype=torch.float64).reshape(logits.shape)
    assert Dice()(logits, target, torch.ones_like(target)).item() == pytest.approx(1 - 103 / 104)


@pytest.mark.parametrize("loss", MEMBERS, ids=repr)
def test_processes_with_parts_of_a_batch_get_the_loss_and_the_gradients_of_the_whole(loss):
    whole = sample(6)
    whole[0].requires_grad_()
    loss(*whole).backward()
    halves = [[tensor.detach()[n : n + 1].clone() for tensor in whole] for n in range(2)]
    said, meeting = [None, None], Barrier(2)

    def process(number):
        def total(part):
            said[number] = part
            meeting.wait(60)
            both = said[0] + said[1]
            meeting.wait(60)
            return both

        halves[number][0].requires_grad_()
        return loss(*halves[number], total)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(process, range(2))
    assert first.item() == second.item() == pytest.approx(loss(*whole).item(), rel=1e-12)
    first.backward()
    for half, gradient in zip(halves, whole[0].grad.split(1), strict=True):
        torch.testing.assert_close(half[0].grad, gradient, rtol=1e-10, atol=1e-14)


def test_half_precision_logits_keep_their_type():
    logits, target, mask = sample(7)
    for loss in MEMBERS:
        assert loss(logits.bfloat16(), target.bfloat16(), mask).dtype == torch.bfloat16
