"""Distillation against the papers' formulas, with one head and with two."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.conftest import tiny
from vtrain.optim.distillation import BothHeads, Distillation, Teacher
from vtrain.optim.losses import CrossEntropy

B, K = 6, 4


def tensors() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, K), torch.randint(K, (B,)), torch.randn(B, K)


def test_a_hard_teacher_is_a_second_label() -> None:
    logits, targets, taught = tensors()
    loss = Distillation(CrossEntropy(), alpha=0.3)
    expected = 0.7 * F.cross_entropy(logits, targets)
    expected += 0.3 * F.cross_entropy(logits, taught.argmax(1))
    torch.testing.assert_close(loss(logits, targets, taught), expected)


def test_a_soft_teacher_is_matched_at_its_temperature() -> None:
    logits, targets, taught = tensors()
    loss = Distillation(CrossEntropy(), kind="soft", alpha=0.5, tau=3.0)
    p, q = (logits / 3).softmax(1), (taught / 3).softmax(1)
    divergence = sum(
        float(q[b, k]) * math.log(float(q[b, k] / p[b, k])) for b in range(B) for k in range(K)
    )
    expected = 0.5 * F.cross_entropy(logits, targets) + 0.5 * 9 * divergence / B
    torch.testing.assert_close(loss(logits, targets, taught), expected)


def test_a_student_that_agrees_with_a_soft_teacher_pays_for_labels_only() -> None:
    logits, targets, _ = tensors()
    loss = Distillation(CrossEntropy(), kind="soft", alpha=0.5, tau=2.0)
    torch.testing.assert_close(
        loss(logits, targets, logits), 0.5 * F.cross_entropy(logits, targets)
    )


def test_of_two_heads_the_first_learns_labels_and_the_second_the_teacher() -> None:
    _, targets, taught = tensors()
    model = tiny("deit_ti_distilled", num_classes=K).train()
    loss = Distillation(CrossEntropy())
    outputs = model(torch.randn(B, 3, 32, 32))
    expected = (
        F.cross_entropy(outputs.classes, targets)
        + F.cross_entropy(outputs.distillation, taught.argmax(1))
    ) / 2
    torch.testing.assert_close(loss(outputs, targets, taught), expected)
    loss(model(torch.randn(B, 3, 32, 32)), targets, taught).backward()
    assert model.head.weight.grad.any()
    assert model.head_dist.weight.grad.any()


def test_mixed_targets_go_to_the_loss_on_labels() -> None:
    logits, _, taught = tensors()
    soft = torch.rand(B, K).softmax(1)
    loss = Distillation(CrossEntropy(), alpha=0.0)
    torch.testing.assert_close(loss(logits, soft, taught), F.cross_entropy(logits, soft))


def test_a_batch_costs_the_weighted_mean_of_its_pieces() -> None:
    logits, targets, taught = tensors()
    for loss in (
        Distillation(CrossEntropy(label_smoothing=0.1)),
        Distillation(CrossEntropy(), kind="soft", tau=2.0),
    ):
        pieces = [loss(logits[s], targets[s], taught[s]) for s in (slice(0, 2), slice(2, B))]
        whole = loss(logits, targets, taught)
        torch.testing.assert_close(whole, pieces[0] * 2 / B + pieces[1] * (B - 2) / B)


def test_a_teacher_answers_in_eval_mode_without_gradients() -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(12), nn.Linear(12, K))
    teacher = Teacher(inner)
    nn.ModuleList([teacher]).train()
    images = torch.randn(B, 3, 2, 2)
    answers = teacher(images)
    assert torch.equal(answers, teacher(images))
    assert not teacher(images.requires_grad_()).requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(inner[2].running_mean, torch.zeros(12))


def test_a_teacher_sees_images_in_its_own_normalisation() -> None:
    pixels = torch.rand(B, 3, 4, 4)
    student = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    own = ((0.1, 0.2, 0.3), (1.0, 0.5, 0.25))

    def normalised(stats: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
        mean, std = (torch.tensor(v)[:, None, None] for v in stats)
        return (pixels - mean) / std

    teacher = Teacher(nn.Identity(), student=student, teacher=own)
    torch.testing.assert_close(teacher(normalised(student)), normalised(own))


def test_a_teacher_sees_images_in_its_own_size() -> None:
    assert Teacher(nn.Identity(), image_size=8)(torch.randn(2, 3, 4, 4)).shape == (2, 3, 8, 8)
    images = torch.randn(2, 3, 4, 4)
    assert Teacher(nn.Identity(), image_size=4)(images) is images


def test_a_teacher_answers_for_the_students_classes_in_their_order() -> None:
    images = torch.randn(B, K)
    answers = Teacher(nn.Identity(), columns=[2, 0])(images)
    assert torch.equal(answers, torch.stack([images[:, 2], images[:, 0]], dim=1))


def test_a_teacher_compiles_without_a_break() -> None:
    stats = ((0.5,) * 3, (0.2,) * 3), ((0.4,) * 3, (0.3,) * 3)
    inner = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, K))
    teacher = Teacher(inner, [1, 0, 2], 8, *stats)
    images = torch.randn(B, 3, 4, 4)
    expected = teacher(images)
    once = torch.compile(teacher, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(once(images), expected)


def test_without_a_teacher_both_heads_learn_the_labels() -> None:
    one, targets, other = tensors()
    expected = (F.cross_entropy(one, targets) + F.cross_entropy(other, targets)) / 2
    torch.testing.assert_close(BothHeads(CrossEntropy())((one, other), targets), expected)


def test_a_temperature_for_hard_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tau \(3\) has no meaning with kind \(hard\)"):
        Distillation(CrossEntropy(), tau=3.0)
