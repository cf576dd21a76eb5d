"""Muon against torch's, which takes matrices and orthogonalises in bf16, and against AdamW for all else."""

import pytest
import torch

from ssns.training.muon import Muon, orthogonal


def moved(build, start, gradients):
    """Where an optimiser takes a parameter, step by step."""
    parameter = torch.nn.Parameter(start.clone())
    optimizer = build([parameter])
    places = []
    for gradient in gradients:
        parameter.grad = gradient.reshape(start.shape).clone()
        optimizer.step()
        places.append(parameter.detach().clone())
    return torch.stack(places)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
@pytest.mark.parametrize("shape", [(16, 4, 1, 3, 3), (8, 2, 1, 1, 1), (6, 40)])
def test_kernels_move_as_torch_moves_their_matrices(shape):
    rows = shape[0]
    start, gradients = drawn(*shape), [drawn(*shape, seed=1 + step) for step in range(4)]
    ours = moved(lambda params: Muon(params, lr=0.1, weight_decay=0.2), start, gradients)
    theirs = moved(
        lambda params: torch.optim.Muon(params, lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        start.reshape(rows, -1),
        gradients,
    )
    travelled = (ours - start).norm()
    assert (ours - theirs.reshape(ours.shape)).norm() < 0.02 * travelled  # theirs is rounded to bf16


def test_all_else_moves_as_with_adamw():
    start, gradients = drawn(12), [drawn(12, seed=1 + step) for step in range(5)]
    options = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.2}
    ours = moved(lambda params: Muon(params, **options), start, gradients)
    theirs = moved(lambda params: torch.optim.AdamW(params, **options), start, gradients)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(16, 300), (300, 16), (32, 32)])
def test_singular_values_become_about_one_whatever_the_scale(shape):
    for scale in (1e-4, 1.0, 1e4):
        values = torch.linalg.svdvals(orthogonal(scale * drawn(*shape)))
        assert values.max() < 1.3
        assert values.median() > 0.6
    assert not orthogonal(torch.zeros(shape)).any()


def test_it_goes_on_from_its_state():
    start, gradients = drawn(8, 2, 3, 3, 3), [drawn(8, 2, 3, 3, 3, seed=1 + step) for step in range(4)]
    whole = moved(Muon, start, gradients)
    first = torch.nn.Parameter(start.clone())
    before = Muon([first])
    for gradient in gradients[:2]:
        first.grad = gradient
        before.step()

    def resumed(params):
        after = Muon(params)
        after.load_state_dict(before.state_dict())
        return after

    torch.testing.assert_close(moved(resumed, first.detach(), gradients[2:]), whole[2:])


def test_groups_have_rates_of_their_own():
    still, moving = (torch.nn.Parameter(drawn(4, 4)) for _ in range(2))
    before = still.detach().clone()
    optimizer = Muon([{"params": [still], "lr": 0.0}, {"params": [moving]}])
    for parameter in (still, moving):
        parameter.grad = drawn(4, 4, seed=3)
    optimizer.step()
    assert torch.equal(still, before)
    assert not torch.equal(moving, before)
