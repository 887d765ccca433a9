"""Losses against torch, timm and their formulas."""

from functools import partial

import numpy as np
import pytest
import timm.loss
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from vtrain.optim.class_weights import balanced_weights, effective_weights
from vtrain.registry import LOSSES

every_loss = pytest.mark.parametrize("name", LOSSES.names())


def batch(B: int = 8, K: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, hard targets and soft targets (two classes for each image)."""
    logits, hard = 3 * torch.randn(B, K), torch.randint(K, (B,))
    share = torch.rand(B, 1)
    other = F.one_hot(torch.randint(K, (B,)), K)
    return logits, hard, share * F.one_hot(hard, K) + (1 - share) * other


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_for_hard_and_soft_targets(smoothing: float) -> None:
    logits, hard, soft = batch()
    loss = LOSSES["cross_entropy"](label_smoothing=smoothing)
    for targets in (hard, soft):
        theirs = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        torch.testing.assert_close(loss(logits, targets), theirs)


def test_cross_entropy_of_soft_targets_is_timms() -> None:
    logits, _, soft = batch()
    theirs = timm.loss.SoftTargetCrossEntropy()(logits, soft)
    torch.testing.assert_close(LOSSES["cross_entropy"]()(logits, soft), theirs)


def test_class_weights_multiply_the_terms_of_their_class() -> None:
    logits, hard, soft = batch()
    weights = [1.0, 2.0, 0.5, 3.0, 0.0]
    loss = LOSSES["cross_entropy"](class_weights=weights)
    log_p = logits.log_softmax(1)
    by_hand = sum(-weights[k] * log_p[i, k] for i, k in enumerate(hard.tolist())) / 8
    torch.testing.assert_close(loss(logits, hard), by_hand)
    torch.testing.assert_close(
        loss(logits, soft), F.cross_entropy(logits, soft, torch.tensor(weights))
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_is_timms(smoothing: float) -> None:
    logits, hard, soft = batch()
    theirs = timm.loss.BinaryCrossEntropy(smoothing=smoothing)
    ours = LOSSES["binary_cross_entropy"](label_smoothing=smoothing)
    torch.testing.assert_close(ours(logits, hard), theirs(logits, hard))
    theirs = timm.loss.BinaryCrossEntropy(smoothing=0, target_threshold=0.0)
    ours = LOSSES["binary_cross_entropy"]()
    torch.testing.assert_close(ours(logits, soft), theirs(logits, soft))


def several_labels() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    return 3 * torch.randn(8, 5, generator=draw), (torch.rand(8, 5, generator=draw) < 0.3).float()


@pytest.mark.parametrize(
    ("gamma_neg", "gamma_pos", "clip"), [(4, 0, 0.05), (4, 1, 0.05), (2, 0.5, 0.0), (0, 0, 0.2)]
)
def test_the_asymmetric_loss_is_timms_and_the_papers(
    gamma_neg: float, gamma_pos: float, clip: float
) -> None:
    logits, targets = several_labels()
    keys = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip}
    ours = LOSSES["asymmetric"](**keys)(logits, targets)
    # timm adds up over the classes.
    theirs = timm.loss.AsymmetricLossMultiLabel(**keys)(logits, targets) / targets.shape[1]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    p = logits.double().sigmoid()
    shifted = (p - clip).clamp(min=0)
    present = (1 - p) ** gamma_pos * p.log()
    absent = shifted**gamma_neg * (1 - shifted).log()
    by_hand = -(targets * present + (1 - targets) * absent).mean()
    torch.testing.assert_close(ours.double(), by_hand, rtol=1e-5, atol=1e-7)


def test_without_its_keys_the_asymmetric_loss_is_binary_cross_entropy() -> None:
    logits, targets = several_labels()
    plain = LOSSES["asymmetric"](gamma_neg=0, gamma_pos=0, clip=0)(logits, targets)
    torch.testing.assert_close(plain, F.binary_cross_entropy_with_logits(logits, targets))


@pytest.mark.parametrize("size", [30.0, 200.0])
@pytest.mark.parametrize("keys", [{}, {"clip": 0.0}, {"gamma_neg": 0.5, "gamma_pos": 0.5}])
def test_the_asymmetric_loss_of_sure_answers_and_its_slope_are_finite(
    size: float, keys: dict[str, float]
) -> None:
    logits = torch.tensor([[size, -size, size, -size]], requires_grad=True)
    loss = LOSSES["asymmetric"](**keys)(logits, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_weight_of_present_labels_is_torchs() -> None:
    logits, targets = several_labels()
    counts, names = [2, 4, 6, 0, 8], list("abcde")
    listed = [1.0, 2.0, 0.5, 4.0, 1.0]
    for given, weight in (
        (3.0, torch.tensor(3.0)),
        (listed, torch.tensor(listed)),
        (dict(zip("bacde", [2.0, 1.0, 0.5, 4.0, 1.0], strict=True)), torch.tensor(listed)),
        ("balanced", torch.tensor([3.0, 1.0, 1 / 3, 1.0, 1.0])),
    ):
        ours = LOSSES["binary_cross_entropy"](counts, names, 8, pos_weight=given)
        theirs = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight)
        torch.testing.assert_close(ours(logits, targets), theirs)


def test_of_one_class_an_image_the_images_are_the_sum_of_the_counts() -> None:
    loss = LOSSES["binary_cross_entropy"]([1, 3], ["a", "b"], pos_weight="balanced")
    assert loss.pos_weight.tolist() == pytest.approx([3, 1 / 3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("balanced", r"pos_weight \(balanced\) needs the number of images of each class"),
        ({"a": 1.0}, "pos_weight has no weight for class 'b'"),
        ({"a": 1.0, "b": 1.0, "x": 1.0}, "pos_weight names 'x', which is no class"),
        ([0.0, 0.0], "pos_weight are all 0"),
    ],
)
def test_a_weight_of_present_labels_that_fits_no_class_is_refused(
    given: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LOSSES["binary_cross_entropy"](None, ["a", "b"], pos_weight=given)


def test_binary_cross_entropy_can_keep_the_shares_of_a_mixed_image() -> None:
    logits, _, soft = batch()
    p = logits.sigmoid()
    by_hand = -(soft * p.log() + (1 - soft) * (1 - p).log()).mean()
    ours = LOSSES["binary_cross_entropy"](binarize=False)
    torch.testing.assert_close(ours(logits, soft), by_hand)


def test_focal_loss_follows_the_formula() -> None:
    logits, hard, soft = batch()
    p = logits.softmax(1)
    for targets, weights in ((hard, F.one_hot(hard, 5)), (soft, soft)):
        by_hand = -(weights * (1 - p) ** 2 * p.log()).sum(1).mean()
        torch.testing.assert_close(LOSSES["focal"]()(logits, targets), by_hand)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, hard, soft = batch()
    focal = LOSSES["focal"](gamma=0.0, label_smoothing=0.1, class_weights=[1.0, 2, 3, 4, 5])
    plain = LOSSES["cross_entropy"](label_smoothing=0.1, class_weights=[1.0, 2, 3, 4, 5])
    for targets in (hard, soft):
        torch.testing.assert_close(focal(logits, targets), plain(logits, targets))


@every_loss
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_a_batch_costs_the_weighted_mean_of_its_pieces(
    name: str, soft: bool, weights: str | None
) -> None:
    logits, *both = batch()
    targets = both[soft]
    loss = LOSSES[name]([1, 2, 3, 4, 5], class_weights=weights)
    pieces = loss(logits[:3], targets[:3]) * 3 / 8 + loss(logits[3:], targets[3:]) * 5 / 8
    torch.testing.assert_close(loss(logits, targets), pieces)


@every_loss
def test_a_hard_target_is_a_soft_one_with_all_its_weight_in_one_class(name: str) -> None:
    logits, hard, _ = batch()
    loss = LOSSES[name](label_smoothing=0.1)
    torch.testing.assert_close(loss(logits, hard), loss(logits, F.one_hot(hard, 5).float()))


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_are_widened_before_anything_else(
    name: str, dtype: torch.dtype
) -> None:
    logits, hard, _ = batch()
    logits = (10 * logits).to(dtype)
    loss = LOSSES[name]()
    assert loss(logits, hard).dtype == torch.float32
    assert torch.equal(loss(logits, hard), loss(logits.float(), hard))


@every_loss
def test_a_certain_right_answer_costs_nothing_and_its_gradient_is_finite(name: str) -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = LOSSES[name](**({"gamma": 0.5} if name == "focal" else {}))
    value = loss(logits, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_balanced_weights_are_sklearns() -> None:
    counts = [10, 1, 5, 84]
    labels = np.repeat(range(4), counts)
    theirs = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert balanced_weights(counts) == pytest.approx(list(theirs))


def test_a_class_without_images_weighs_nothing() -> None:
    assert balanced_weights([0, 2, 2]) == [0.0, 1.0, 1.0]


@every_loss
def test_the_class_weights_move_with_the_module(name: str) -> None:
    loss = LOSSES[name]([1, 3], class_weights="balanced").to("meta")
    assert loss.weights.device.type == "meta"


@every_loss
def test_balanced_weights_without_counts_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"class_weights \(balanced\) needs the number of images"):
        LOSSES[name](class_weights="balanced")


@every_loss
def test_class_weights_of_the_wrong_length_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="class_weights has 2 values for 3 classes"):
        LOSSES[name]([1, 2, 3], class_weights=[1.0, 2.0])


@every_loss
def test_class_weights_may_be_given_by_name_in_any_order(name: str) -> None:
    logits, hard, _ = batch()
    classes = ("ant", "bee", "café", "1", "no")
    named = {"no": 5.0, "cafe\u0301": 3.0, "ant": 1.0, "1": 4.0, "bee": 2.0}  # é as two characters
    by_name = LOSSES[name]([1] * 5, classes, class_weights=named)
    by_place = LOSSES[name]([1] * 5, classes, class_weights=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert by_name(logits, hard) == by_place(logits, hard)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"cat": 1.0}, r"no weight for class 'dog' \(1 of 2 classes have none\)"),
        ({"cat": 1.0, "dgo": 1.0}, r"names 'dgo', which is no class .* did you mean 'dog'\?"),
        ({"cat": 1.0, "dog": 1.0, "emu": 1.0}, "names 'emu', which is no class"),
        ({}, r"no weight for class 'cat' \(2 of 2"),
        ({"cat": 0.0, "dog": 0.0}, "are all 0"),
        ([0.0, 0.0], "are all 0"),
    ],
)
def test_class_weights_that_are_not_those_of_the_classes_are_refused(
    weights: dict[str, float] | list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LOSSES["cross_entropy"]([1, 2], ("cat", "dog"), class_weights=weights)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_follows_the_formula(tau: float) -> None:
    """Menon et al., equation 10, in float64: exponentials times the class's share to the tau."""
    logits, hard, soft = batch()
    counts = [1000, 100, 30, 5, 0]
    loss = LOSSES["cross_entropy"](counts, tau=tau, label_smoothing=0.1)
    share = np.array([1000, 100, 30, 5, 1]) / 1136
    weighed = np.exp(logits.double().numpy()) * share**tau
    log_p = np.log(weighed / weighed.sum(1, keepdims=True))
    for targets, weights in ((hard, F.one_hot(hard, 5)), (soft, soft)):
        smooth = 0.9 * weights.double().numpy() + 0.1 / 5
        by_hand = -(smooth * log_p).sum(1).mean()
        assert loss(logits, targets).item() == pytest.approx(by_hand, rel=1e-6)


def slope(loss: nn.Module, logits: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(logits, torch.tensor([[0.9, 0.1]]))
    value.backward()
    return value


def test_adjusted_training_finds_the_logits_of_balanced_classes() -> None:
    """Of images that look alike cross entropy learns the shares, and balanced softmax does not."""
    found = {}
    for tau in (0.0, 1.0):
        logits = torch.zeros(1, 2, requires_grad=True)
        loss = LOSSES["cross_entropy"]([90, 10], tau=tau)
        optimizer = torch.optim.LBFGS([logits], line_search_fn="strong_wolfe", max_iter=100)

        optimizer.step(partial(slope, loss, logits, optimizer))
        found[tau] = (logits[0, 0] - logits[0, 1]).item()
    assert found[0.0] == pytest.approx(np.log(9), abs=1e-3)
    assert found[1.0] == pytest.approx(0, abs=1e-3)


def test_effective_weights_are_the_inverse_of_a_sum_of_powers() -> None:
    counts = [1, 10, 500, 3000, 0]
    numbers = [sum(0.999**i for i in range(n)) for n in counts]
    weights = effective_weights(counts)
    for k in range(1, 4):
        assert weights[0] / weights[k] == pytest.approx(numbers[k] / numbers[0])
    assert weights[4] == 0
    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(sum(counts))
    # Of few images all count in full, as balanced weights have it.
    few = [1, 2, 4]
    assert effective_weights(few, beta=1 - 1e-9) == pytest.approx(balanced_weights(few), rel=1e-6)


def test_tau_needs_the_numbers_of_images() -> None:
    with pytest.raises(ValueError, match="tau needs the number of images of each class"):
        LOSSES["cross_entropy"](tau=1.0)
