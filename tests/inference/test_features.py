import pytest
import torch

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.errors import CheckpointError, DataError
from vtrain.inference.features import Read, gathered, pre_logits
from vtrain.models.base import ImageClassifier


@pytest.mark.parametrize("name", ["vit_ti", "tnt_ti", "swin_t", "swinv2_t"])
def test_features_are_what_the_head_multiplies(name: str) -> None:
    model = shaken(tiny(name)).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad(), pre_logits(model) as kept:
        logits = model(images)
        model(images[:1])
    assert [len(one) for one in kept] == [3, 1]
    head = model.head.fc if hasattr(model.head, "fc") else model.head
    torch.testing.assert_close(kept[0] @ head.weight.T + head.bias, logits)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_of_two_heads_features_are_the_mean_of_what_both_read() -> None:
    model = shaken(tiny("deit_ti_distilled")).eval()
    images = torch.randn(2, 3, 32, 32)
    model.head_dist.load_state_dict(model.head.state_dict())  # one head for the mean of both
    with torch.no_grad(), pre_logits(model) as kept:
        logits = model(images)
    torch.testing.assert_close(kept[0] @ model.head.weight.T + model.head.bias, logits)


def test_what_was_read_in_batches_is_one_and_may_be_fewer_than_were_meant() -> None:
    features, targets = torch.randn(7, 3), torch.arange(7) % 2
    indices = torch.arange(7)
    reads = [Read(features[a:b], targets[a:b], indices[a:b]) for a, b in ((0, 3), (3, 4), (4, 7))]
    whole = gathered(reads, 9)  # two could not be read
    for part, expected in zip(whole, (features, targets, indices), strict=True):
        assert torch.equal(part, expected)
    with pytest.raises(DataError, match="there is no image to read features of"):
        gathered([], 9)


class Headless(ImageClassifier):
    """An exported file: it has logits alone."""

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def depth_groups(self) -> list[tuple[str, ...]]:
        return []

    def attention_layout(self, height: int, width: int) -> None:  # type: ignore[override]
        return None


def test_what_has_no_head_has_no_features() -> None:
    with pytest.raises(CheckpointError, match="has logits and no features"):
        pre_logits(Headless()).__enter__()
