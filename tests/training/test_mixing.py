import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssns.affinities import NEAREST, labels_to_affinities
from ssns.training.mixing import Exchange, draw_exchange
from ssns.training.objectives import CutMix

OFFSETS = (*NEAREST, (0, 2, -3), (-2, 0, 0))
shapes = st.tuples(st.integers(1, 6), st.integers(2, 9), st.integers(2, 9))


def drawn(shape, seed, **changes):
    return draw_exchange(CutMix(**changes), shape, torch.Generator().manual_seed(seed), torch.device("cpu"))


@given(shape=shapes, seed=st.integers(0, 10_000))
@settings(max_examples=100)
def test_swapping_twice_does_nothing_and_edges_in_one_piece_are_those_of_the_mixed_patch(shape, seed):
    exchange = drawn(shape, seed, plane=0.5, depth=0.5)
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(0, 3, shape, generator=generator) for _ in range(2))
    mixed = exchange.swap(first, second)
    assert torch.equal(mixed[0][exchange.box], second[exchange.box])
    assert torch.equal(mixed[0][~exchange.box], first[~exchange.box])
    back = exchange.swap(*mixed)
    assert torch.equal(back[0], first)
    assert torch.equal(back[1], second)
    # Affinities of the mixed patches, changed back, are those of the unmixed ones wherever an edge is whole.
    whole = exchange.whole_edges(OFFSETS)
    affinities = [labels_to_affinities(patch, OFFSETS)[0] for patch in mixed]
    for found, patch in zip(exchange.swap(*affinities), (first, second), strict=True):
        assert torch.equal(found[whole], labels_to_affinities(patch, OFFSETS)[0][whole])


def test_an_edge_across_the_rim_is_not_whole():
    box = torch.zeros(1, 1, 6, dtype=torch.bool)
    box[..., 2:4] = True
    assert Exchange(box).whole_edges([(0, 0, -1)])[0, 0, 0].tolist() == [True, True, False, True, False, True]


def test_kinds_of_boxes_come_as_often_as_is_said():
    shape, kinds = (6, 20, 20), {"none": 0, "plane": 0, "depth": 0}
    for seed in range(400):
        exchange = drawn(shape, seed, plane=0.5, depth=0.25)
        if exchange is None:
            kinds["none"] += 1
            continue
        sections = exchange.box.flatten(1)
        if (sections == sections[:, :1]).all():
            kinds["depth"] += 1
            assert sections[0, 0] != sections[-1, 0]
        else:
            kinds["plane"] += 1
            assert (exchange.box == exchange.box[:1]).all()
            assert 5 * 5 <= int(exchange.box[0].sum()) <= 15 * 15
    assert kinds["plane"] == pytest.approx(200, abs=40)
    assert kinds["depth"] == pytest.approx(100, abs=35)
