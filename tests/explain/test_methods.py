import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from tests.conftest import tiny
from tests.explain import reference
from tests.models.agreement import shaken
from vtrain.errors import ConfigError
from vtrain.explain.methods import (
    METHODS,
    Request,
    automatic,
    check_request,
    images_at_once,
    integrated,
)
from vtrain.explain.recording import record
from vtrain.models.base import ImageClassifier

FAMILIES = [
    ("vit_ti", {}),
    ("vit_ti", {"pooling": "mean", "num_registers": 2}),
    ("deit_ti_distilled", {}),
    ("tnt_ti", {}),
    ("swin_t", {"window_size": 4}),  # shifted, no padding
    ("swin_t", {"window_size": 5, "patch_size": 4}),  # 8 x 8 and 4 x 4: padded, shifted
    ("swin_t", {"window_size": 2, "image_size": 20, "patch_size": 4}),  # 5 x 5: an odd merging
    ("swinv2_t", {"window_size": 4}),
]
every_family = pytest.mark.parametrize(("name", "arguments"), FAMILIES)


def model_and_images(name: str, arguments: dict[str, object]) -> tuple[ImageClassifier, Tensor]:
    model = shaken(tiny(name, **arguments)).eval()
    return model, torch.randn(2, 3, model.image_size, model.image_size)


def request(**keywords: int) -> Request:
    return Request(torch.tensor([[3, 1], [7, 1]]), **keywords)


@every_family
def test_rollout_equals_the_product_of_whole_matrices(name, arguments) -> None:
    model, images = model_and_images(name, arguments)
    recording = record(model, images)
    found = METHODS["rollout"].function(model, images, request())[0]
    for image in range(2):
        expected = reference.rollout(recording, image)
        torch.testing.assert_close(found.values[image], expected, rtol=1e-4, atol=1e-8)


@every_family
def test_relevance_equals_the_paper_s_update(name, arguments) -> None:
    model, images = model_and_images(name, arguments)
    maps = [
        m
        for m in METHODS["relevance"].function(model, images, request())
        if m.name in ("", "both tokens")
    ]
    recording = record(model, images, gradients=True)
    weights = {layer.module: recording.weights[layer.module] for layer in recording.layout.patches}
    for t, found in enumerate(maps):
        for image in range(2):
            y = recording.logits[image, request().targets[image, t]]
            gradients = torch.autograd.grad(y, list(weights.values()), retain_graph=True)
            expected = reference.relevance(
                recording, image, dict(zip(weights, gradients, strict=True))
            )
            torch.testing.assert_close(found.values[image], expected, rtol=1e-3, atol=1e-7)


@every_family
@pytest.mark.parametrize("number", [0, -1])
def test_gradcam_is_the_features_weighted_by_their_mean_gradient(name, arguments, number) -> None:
    model, images = model_and_images(name, arguments)
    layer = model.attention_layout(*images.shape[-2:]).patches[number]
    kept: list[Tensor] = []
    handle = model.get_submodule(layer.features).register_forward_hook(
        lambda _, __, out: kept.append(out)
    )
    logits = model.forward_head(model.forward_features(images))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, 3] + logits[1, 7], kept)
    found = METHODS["gradcam"].function(model, images, request(layer=number))[0].values
    front = len(layer.prefix)
    for image in range(2):
        X, G = (t[image].reshape(-1, t.shape[-1])[front:] for t in (kept[0], gradient))
        w = G.sum(0) / len(G)
        for n in range(len(X)):
            expected = max(0.0, (w * X[n]).sum().item())
            assert found[image].flatten()[n].item() == pytest.approx(expected, rel=1e-3, abs=1e-6)


@every_family
def test_attention_is_the_row_that_the_heads_read(name, arguments) -> None:
    model, images = model_and_images(name, arguments)
    recording = record(model, images)
    layer = recording.layout.patches[-1]
    for head in (None, 1):
        found = METHODS["attention"].function(model, images, request(head=head))[0].values
        weights = recording.of(layer)
        of_head = weights.mean(2) if head is None else weights[:, :, head]
        for image in range(2):
            row = reference.head_row(recording) @ reference.whole(of_head[image], layer)
            row = row[len(layer.prefix) :].view(layer.rows, layer.columns)
            torch.testing.assert_close(found[image], row, rtol=1e-4, atol=1e-8)


def test_words_show_what_each_patch_looks_at_inside() -> None:
    model, images = model_and_images("tnt_ti", {"inner_stride": 2})  # 4 x 4 words of 4 x 4 patches
    weights = record(model, images).weights["blocks.1.attn_in"]  # (2 * 16, H, 16, 16)
    words = METHODS["attention"].function(model, images, request())[1]
    assert words.name == "words"
    assert words.values.shape == (2, 16, 16)
    for image, patch, word in ((0, 0, 3), (1, 6, 9)):
        received = weights[16 * image + patch].mean(0)[:, word].mean() / 16
        y, x = patch // 4 * 4 + word // 4, patch % 4 * 4 + word % 4
        assert words.values[image, y, x].item() == pytest.approx(received.item(), rel=1e-4)


def test_both_prefix_tokens_of_a_distilled_model_have_their_maps() -> None:
    model, images = model_and_images("deit_ti_distilled", {})
    for method in ("attention", "rollout", "relevance"):
        maps = METHODS[method].function(model, images, request())[:3]
        assert [m.name for m in maps] == ["both tokens", "class", "distillation"]
        both, one, other = (m.values for m in maps)
        assert not torch.allclose(one, other, rtol=1e-3)
        torch.testing.assert_close(both, (one + other) / 2, rtol=1e-4, atol=1e-8)


@every_family
def test_integrated_gradients_equal_captum_s_and_are_complete(name, arguments) -> None:
    model, images = model_and_images(name, arguments)
    targets = request().targets[:, 0]
    found = integrated(model, images, targets).detach()
    theirs = IntegratedGradients(model).attribute(images, target=targets, n_steps=50)
    torch.testing.assert_close(found, theirs.float(), rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        lift = model(images) - model(torch.zeros_like(images))
    lift = lift.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(found.flatten(1).sum(1), lift, rtol=0.01, atol=1e-3)


def test_a_model_is_left_as_it_was() -> None:
    model, images = model_and_images("vit_ti", {})
    model.train()
    model.activation_checkpointing = True
    for method in METHODS.values():
        method.function(model, images, request())
    assert model.training
    assert model.activation_checkpointing
    assert all(p.grad is None for p in model.parameters())


def test_a_frozen_model_has_gradients_of_its_attention() -> None:
    model, images = model_and_images("vit_ti", {})
    expected = METHODS["relevance"].function(model, images, request())[0].values
    model.requires_grad_(False)
    found = METHODS["relevance"].function(model, images, request())[0].values
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [
        (2, None, "--layer 2 is none of the model's 2 blocks"),
        (-3, None, "--layer -3 is none of the model's 2 blocks"),
        (None, 2, "--head 2 is none of the block's 2 heads"),
    ],
)
def test_what_a_model_does_not_have_is_refused(layer, head, message) -> None:
    with pytest.raises(ConfigError, match=message):
        check_request(tiny("vit_ti"), layer, head)


def test_batches_are_small_where_attention_is_large() -> None:
    assert images_at_once(tiny("vit_ti"), 32, 32) == 32
    assert images_at_once(tiny("vit_ti", image_size=512), 512, 512) < 32
    assert images_at_once(tiny("swin_t"), 512, 512) >= 1


def test_auto_is_a_method_that_knows_classes_where_one_is_asked_for() -> None:
    for name, arguments in FAMILIES:
        model = tiny(name, **arguments)
        layout = model.attention_layout(model.image_size, model.image_size)
        assert automatic(layout, False) in METHODS
        assert METHODS[automatic(layout, True)].of_class
