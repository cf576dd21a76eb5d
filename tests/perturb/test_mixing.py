import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError

from ssns.errors import UserError
from ssns.perturb import FlipTranspose, MixUp, Patch
from ssns.perturb.mixing import mix


def test_mix_is_numpys_clipped_sum():
    draws = np.random.default_rng(0)
    raw, partner = draws.random((2, 5, 6)), draws.random((2, 5, 6)) + 0.5
    wanted = np.clip(0.3 * partner + 0.7 * raw, 0, 1)
    assert_allclose(mix(torch.from_numpy(raw).float(), torch.from_numpy(partner).float(), 0.3), wanted, atol=1e-6)


def test_shares_of_the_partner_are_those_of_the_paper():
    patch = Patch(torch.zeros(1, 1, 1), partner=torch.ones(1, 1, 1))
    generator = torch.Generator().manual_seed(0)
    shares = torch.stack([MixUp().apply(patch, generator).raw.squeeze() for _ in range(2000)])
    assert 0.1 <= shares.min() < 0.11
    assert 0.39 < shares.max() <= 0.4
    assert float(shares.mean()) == pytest.approx(0.25, abs=0.01)


def test_labels_stay_those_of_the_patch():
    labels = torch.arange(8).reshape(2, 2, 2)
    patch = Patch(torch.zeros(2, 2, 2), labels, partner=torch.ones(2, 2, 2))
    assert MixUp().apply(patch, torch.Generator().manual_seed(0)).labels is labels


def test_a_moved_patch_keeps_its_partner():
    patch = Patch(torch.rand(2, 4, 4), partner=torch.rand(2, 4, 4))
    generator = torch.Generator().manual_seed(1)
    assert patch.moved(FlipTranspose().draw(patch.shape, generator)).partner is patch.partner
    assert patch.with_raw(patch.raw).partner is patch.partner
    assert patch.unknown_at(patch.raw > 1).partner is patch.partner


def test_a_patch_without_partner_is_refused_with_the_fix():
    with pytest.raises(UserError, match=r"this objective draws no partners .*; leave mix_up out"):
        MixUp().apply(Patch(torch.rand(2, 4, 4)), torch.Generator().manual_seed(0))


def test_shares_above_one_are_refused():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        MixUp(share=(0.1, 1.5))
