import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ssns.perturb import (
    AnyPerturbation,
    CutOut,
    Engine,
    Fold,
    MissingSection,
    MixUp,
    Motion,
    OneOf,
    Patch,
    Sequence,
    Sobel,
    default_augmentation,
)

DRAWS_NOTHING = {Sobel}
FAMILIES = get_args(get_args(AnyPerturbation)[0])
SHAPES = [(18, 64, 64), (5, 24, 31), (1, 9, 7)]


def labelled(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 9, shape, generator=generator, dtype=torch.int32) * 10_000_000
    raw, partner, doubt = (torch.rand(shape, generator=generator) for _ in range(3))
    return Patch(raw, labels, doubt < 0.9, partner)


def apply(component, patch, seed=0):
    return component.apply(patch, torch.Generator().manual_seed(seed))


def same(first, second):
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("raw", "labels", "valid", "partner")]
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def test_the_table_below_has_every_family():
    assert {family().type for family in FAMILIES} == {
        "flip_transpose", "quarter_turn", "rotation", "scale", "elastic", "intensity", "noise", "blur", "strong_blur",
        "sobel", "mix_up", "cut_out", "missing_section", "misalign", "fold",
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
class TestEveryFamily:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_keeps_shape_types_and_range_for_any_draw(self, family, shape):
        patch = labelled(shape)
        ids = set(patch.labels.unique().tolist())
        for seed in range(8):
            moved = apply(family(), patch, seed)
            assert (moved.raw.shape, moved.labels.shape, moved.valid.shape) == (patch.raw.shape,) * 3
            assert (moved.raw.dtype, moved.labels.dtype, moved.valid.dtype) == (
                torch.float32,
                torch.int32,
                torch.bool,
            )
            assert 0 <= float(moved.raw.min()) <= float(moved.raw.max()) <= 1 + 1e-6
            assert set(moved.labels.unique().tolist()) <= ids

    def test_equal_seeds_give_equal_patches_and_others_others(self, family):
        patch = labelled(SHAPES[0])
        assert same(apply(family(), patch, 5), apply(family(), patch, 5))
        differ = any(not same(apply(family(), patch, 5), apply(family(), patch, seed)) for seed in range(4))
        assert differ == (family not in DRAWS_NOTHING)

    def test_probability_zero_is_the_identity_and_one_is_not(self, family):
        patch = labelled(SHAPES[0])
        assert all(apply(family(probability=0.0), patch, seed) is patch for seed in range(20))
        assert not all(same(apply(family(), patch, seed), patch) for seed in range(4))

    def test_never_writes_to_its_input(self, family):
        patch, copy = labelled(SHAPES[0]), labelled(SHAPES[0])
        for seed in range(8):
            apply(family(), patch, seed)
        assert same(patch, copy)

    def test_labels_are_optional_and_do_not_change_the_raw(self, family):
        patch = labelled(SHAPES[0])
        for seed in range(4):
            known = replace(patch, valid=None)
            bare = apply(family(), Patch(patch.raw, partner=patch.partner), seed)
            with_labels = apply(family(), known, seed)
            assert bare.labels is None
            assert torch.equal(bare.raw, with_labels.raw)
            assert same(Patch(bare.raw, valid=bare.valid), Patch(bare.raw, valid=with_labels.valid))

    def test_tells_how_voxels_moved(self, family):
        patch = labelled(SHAPES[0])
        for seed in range(8):
            moved = apply(family(), patch, seed)
            labels = patch.labels
            for move in moved.moves:
                labels = move.apply(labels)
            assert torch.equal(labels, moved.labels)

    def test_leaves_the_partner_alone_and_tells_whether_it_needs_one(self, family):
        patch = labelled(SHAPES[0])
        assert all(apply(family(), patch, seed).partner is patch.partner for seed in range(4))
        assert family.needs_partner == (family is MixUp)

    def test_moves_labels_exactly_if_it_is_a_motion(self, family):
        patch = labelled(SHAPES[0])
        moved = [not torch.equal(apply(family(), patch, seed).labels, patch.labels) for seed in range(8)]
        assert any(moved) == issubclass(family, Motion)

    def test_is_written_and_read_back_as_its_table(self, family):
        component = family(probability=0.25)
        read = TypeAdapter(AnyPerturbation).validate_json(component.model_dump_json())
        assert read == component

    def test_describes_every_setting_and_refuses_unknown_ones(self, family):
        assert all(field.description for field in family.model_fields.values())
        with pytest.raises(ValidationError, match="Extra inputs"):
            family(strength=1)


@pytest.mark.parametrize("family", [family for family in FAMILIES if issubclass(family, Motion)])
class TestEveryMotion:
    def test_its_move_carries_all_that_belongs_to_the_voxels(self, family):
        patch = labelled(SHAPES[0])
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            moved = family().perturb(patch, generator)
            again = generator.manual_seed(seed)
            move = family().draw(patch.shape, again)
            assert torch.equal(move.apply(patch.labels), moved.labels)
            seen = moved.raw != 0  # a fold is dark and unknown
            assert torch.equal(move.apply(patch.raw)[seen], moved.raw[seen])
            assert torch.equal(move.apply(patch.valid)[seen], moved.valid[seen])

    def test_its_move_carries_channels_alike_and_is_repeatable(self, family):
        channels = torch.rand(3, 6, 32, 32)
        move = family().draw((6, 32, 32), torch.Generator().manual_seed(1))
        together = move.apply(channels)
        assert torch.equal(together, torch.stack([move.apply(channel) for channel in channels]))
        assert torch.equal(together, move.apply(channels))


def test_probability_is_a_frequency():
    blank = MissingSection(probability=0.3, partial=0.0, section_probability=1.0)
    generator = torch.Generator().manual_seed(0)
    patch = Patch(torch.ones(1, 1, 1))
    applied = sum(float(blank.apply(patch, generator).raw) == 0 for _ in range(2000))
    assert applied == pytest.approx(600, abs=70)


def painting(value):
    """A perturbation that leaves its value behind."""
    return MissingSection(partial=0.0, section_probability=1.0, value=value)


def test_one_of_applies_exactly_one_each_as_often():
    engine = OneOf(choices=tuple(painting(value) for value in (0.25, 0.5, 0.75)))
    generator = torch.Generator().manual_seed(0)
    patch = Patch(torch.ones(1, 1, 1))
    counts = Counter(float(engine.apply(patch, generator).raw) for _ in range(1500))
    assert set(counts) == {0.25, 0.5, 0.75}
    assert all(count == pytest.approx(500, abs=70) for count in counts.values())


def test_sequence_applies_in_order_and_may_hold_a_choice():
    patch = Patch(torch.ones(1, 1, 1))
    last_wins = Sequence(steps=(painting(0.25), painting(0.5)))
    assert float(apply(last_wins, patch).raw) == 0.5
    nested = Sequence(steps=(painting(0.25), OneOf(choices=(painting(0.75),))))
    assert float(apply(nested, patch).raw) == 0.75
    assert apply(Sequence(steps=()), patch) is patch


def test_engines_need_a_partner_if_a_step_at_any_depth_does():
    choice = OneOf(choices=(Fold(), MixUp()))
    assert choice.needs_partner
    assert Sequence(steps=(Fold(), choice)).needs_partner
    assert Sequence(steps=(MixUp(),)).needs_partner
    assert not Sequence(steps=(Fold(), OneOf(choices=(Fold(),)))).needs_partner
    assert not default_augmentation().needs_partner


def test_one_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="at least 1 item"):
        OneOf(choices=())


def test_engine_is_chosen_by_type():
    table = {
        "type": "sequence",
        "steps": [{"type": "fold"}, {"type": "one_of", "choices": [{"type": "cut_out", "width": [3, 5]}]}],
    }
    wanted = Sequence(steps=(Fold(), OneOf(choices=(CutOut(width=(3, 5)),))))
    assert TypeAdapter(Engine).validate_python(table) == wanted
    with pytest.raises(ValidationError, match="union_tag_invalid"):
        TypeAdapter(Engine).validate_python({"type": "sequence", "steps": [{"type": "sharpen"}]})


def test_default_augmentation_is_deterministic_and_keeps_types():
    patch = labelled((6, 32, 32))
    first, second = (apply(default_augmentation(), patch, 7) for _ in range(2))
    assert same(first, second)
    assert (first.labels.dtype, first.raw.shape) == (torch.int32, patch.raw.shape)
    assert TypeAdapter(Engine).validate_json(default_augmentation().model_dump_json()) == default_augmentation()


def test_settings_do_not_import_torch():
    code = "import sys, ssns.perturb as p; p.default_augmentation(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
