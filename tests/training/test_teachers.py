import pytest
import torch
from toy_training import NETWORK

from ssns.training.objectives import CrossSupervision, MeanTeacher, WeightSharing
from ssns.training.teachers import make_teacher

RAW = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = [WeightSharing(), MeanTeacher(), CrossSupervision()]


def made(settings, seed=0, batch="separate"):
    torch.manual_seed(seed)
    return make_teacher(settings, lambda: NETWORK.build(3), batch)


def disturb(network, seed=1):
    """Weights and statistics as another step might leave them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.type)
class TestEveryTeacher:
    def test_targets_have_one_place_for_each_student_and_no_gradient(self, settings):
        students, teacher = made(settings)
        logits = teacher.logits(RAW)
        assert logits.shape == students(RAW).shape == (len(students.networks), 2, 3, 3, 8, 8)
        assert not logits.requires_grad

    def test_with_running_statistics_targets_are_those_of_evaluation_and_leave_them_alone(self, settings):
        students, teacher = made(settings)
        disturb(students)
        before = {name: tensor.clone() for name, tensor in students.state_dict().items()}
        students.train()
        logits = teacher.logits(RAW)
        assert all(torch.equal(before[name], tensor) for name, tensor in students.state_dict().items())
        assert all(module.training for module in students.modules())
        assert torch.equal(logits, teacher.logits(RAW))

    def test_what_is_judged_is_a_network_of_its_own_kind(self, settings):
        _, teacher = made(settings)
        assert set(teacher.judged.state_dict()) == set(NETWORK.build(3).state_dict())


class TestStudents:
    @pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.type)
    def test_views_are_normalised_apart_and_move_no_running_statistics(self, settings):
        students, _ = made(settings)
        alone, _ = made(settings)
        views = RAW * 0.1
        logits = students(RAW, views)
        torch.testing.assert_close(logits, torch.cat([alone(RAW), made(settings)[0](views)], dim=1))
        assert all(torch.equal(a, b) for a, b in zip(students.buffers(), alone.buffers(), strict=True))
        students(RAW)
        alone(RAW)
        assert all(torch.equal(a, b) for a, b in zip(students.buffers(), alone.buffers(), strict=True))

    def test_a_joint_batch_is_one_batch(self):
        students, _ = made(MeanTeacher(), batch="joint")
        alone, _ = made(MeanTeacher())
        views = RAW * 0.1
        torch.testing.assert_close(students(RAW, views), alone(torch.cat([RAW, views])))
        assert all(torch.equal(a, b) for a, b in zip(students.buffers(), alone.buffers(), strict=True))

    def test_gradients_come_from_both(self):
        students, _ = made(MeanTeacher())
        labelled, views = torch.split(students(RAW, RAW * 0.1), len(RAW), dim=1)
        both = [torch.autograd.grad(part.square().sum(), next(students.parameters()), retain_graph=True)[0]
                for part in (labelled, views)]  # fmt: skip
        assert all(gradient.abs().sum() > 0 for gradient in both)


class TestWeightSharing:
    def test_the_student_is_its_own_teacher(self):
        students, teacher = made(WeightSharing())
        disturb(students)
        logits = teacher.logits(RAW)
        assert torch.equal(logits, students.eval()(RAW))
        assert teacher.judged is students.networks[0]

    def test_the_statistics_of_the_batch_are_those_of_training_and_are_kept(self):
        students, teacher = made(WeightSharing(statistics="batch"))
        twin, _ = made(WeightSharing())
        students.train(), twin.train()
        assert torch.equal(teacher.logits(RAW), twin(RAW))
        assert all(torch.equal(a, b) for a, b in zip(students.buffers(), twin.buffers(), strict=True))


class TestMeanTeacher:
    def test_it_begins_as_a_copy_or_at_random(self):
        for start, equal in (("copy", True), ("random", False)):
            students, teacher = made(MeanTeacher(start=start))
            pairs = zip(teacher.judged.parameters(), students.networks[0].parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs if a.dim() > 1) == equal
            assert not {a.data_ptr() for a in teacher.judged.parameters()} & {
                b.data_ptr() for b in students.parameters()
            }

    def test_the_warm_up_is_the_plain_mean_of_the_start_and_all_steps(self):
        students, teacher = made(MeanTeacher(decay=0.999))
        states = [next(students.parameters()).detach().clone()]
        for step in range(6):
            disturb(students, step)
            teacher.follow(step)
            states.append(next(students.parameters()).detach().clone())
        torch.testing.assert_close(next(teacher.judged.parameters()), torch.stack(states).mean(0))

    @pytest.mark.parametrize(
        ("step", "kept"), [(0, 0.5), (1, 2 / 3), (2, 0.75), (997, 1 - 1 / 999), (998, 0.999), (5000, 0.999)]
    )
    def test_decays_of_the_reference(self, step, kept):
        students, teacher = made(MeanTeacher(decay=0.999))
        with torch.no_grad():
            for mine, theirs in zip(teacher.judged.parameters(), students.parameters(), strict=True):
                mine.fill_(1.0), theirs.fill_(0.0)
        teacher.follow(step)
        assert next(teacher.judged.parameters()).flatten()[0].item() == pytest.approx(kept, rel=1e-6)

    def test_without_warm_up_the_decay_holds_from_the_start(self):
        students, teacher = made(MeanTeacher(decay=0.9, warmup=False))
        before = next(teacher.judged.parameters()).clone()
        disturb(students)
        teacher.follow(0)
        wanted = 0.9 * before + 0.1 * next(students.parameters())
        torch.testing.assert_close(next(teacher.judged.parameters()), wanted)

    @pytest.mark.parametrize("buffers", ["averaged", "copied", "own"])
    def test_running_statistics(self, buffers):
        statistics = "batch" if buffers == "own" else "running"
        students, teacher = made(MeanTeacher(decay=0.9, warmup=False, buffers=buffers, statistics=statistics))
        before = [buffer.clone() for buffer in teacher.judged.buffers()]
        disturb(students)
        teacher.follow(0)
        for old, mine, theirs in zip(before, teacher.judged.buffers(), students.buffers(), strict=True):
            if buffers == "own":
                assert torch.equal(mine, old)
            elif buffers == "copied" or not mine.is_floating_point():
                assert torch.equal(mine, theirs)
            else:
                torch.testing.assert_close(mine, 0.9 * old + 0.1 * theirs)

    def test_its_own_statistics_come_from_its_own_batches(self):
        students, teacher = made(MeanTeacher(buffers="own", statistics="batch"))
        own = [buffer.clone() for buffer in students.buffers()]
        teacher.logits(RAW)
        students.train()(RAW)
        assert all(torch.equal(a, b) for a, b in zip(teacher.judged.buffers(), students.buffers(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(teacher.judged.buffers(), own, strict=True))

    def test_nothing_of_it_learns_by_gradient(self):
        _, teacher = made(MeanTeacher())
        assert not any(parameter.requires_grad for parameter in teacher.judged.parameters())


class TestCrossSupervision:
    def test_each_student_is_taught_by_the_other(self):
        students, teacher = made(CrossSupervision())
        first, second = students.eval()(RAW)
        assert not torch.equal(first, second)
        taught = teacher.logits(RAW)
        assert torch.equal(taught[0], second)
        assert torch.equal(taught[1], first)
