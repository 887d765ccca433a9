"""Backbones whose head read another token, or that have tokens which the model has not."""

from pathlib import Path

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.errors import CheckpointError
from vtrain.models.pretrained import load_pretrained
from vtrain.models.vit import ViT
from vtrain.registry import MODELS

State = dict[str, Tensor]
SIZES = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def features(model: ViT, images: Tensor) -> Tensor:
    return model.eval().forward_features(images)


def test_an_encoder_of_mae_serves_a_mean_with_a_new_norm(file: Path) -> None:
    source, model = shaken(tiny("vit_ti")), tiny("vit_ti", pooling="mean")
    state = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
    torch.save({"model": state}, file)
    fresh = model.head.weight.clone()
    report = load_pretrained(model, str(file))
    assert report.new == ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
    assert report.unused == ("cls_token", "norm.weight", "norm.bias")
    assert report.resized == ("pos_embed",)
    assert torch.equal(model.pos_embed, source.pos_embed[:, 1:])
    assert torch.equal(model.head.weight, fresh)
    assert torch.equal(model.fc_norm.weight, torch.ones(32))


def test_a_head_that_read_a_class_token_is_new_for_a_mean(file: Path) -> None:
    torch.save(shaken(tiny("vit_ti")).state_dict(), file)
    report = load_pretrained(tiny("vit_ti", pooling="mean"), str(file))
    assert {"head.weight", "head.bias"} < set(report.new)
    assert {"head.weight", "head.bias"} < set(report.unused)


@pytest.mark.parametrize("class_token", [True, False])
def test_a_timm_vit_of_mean_tokens_keeps_its_norm_and_head(file: Path, class_token: bool) -> None:
    theirs = VisionTransformer(
        img_size=32, num_classes=10, global_pool="avg", class_token=class_token, **SIZES
    )
    torch.save({"state_dict": shaken(theirs).state_dict()}, file)
    model = tiny("vit_ti", pooling="mean").eval()
    report = load_pretrained(model, str(file))
    assert report.new == ()
    assert report.unused == (("cls_token",) if class_token else ())
    assert torch.equal(model.fc_norm.weight, theirs.fc_norm.weight)
    if not class_token:
        images = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(model(images), theirs.eval()(images), rtol=0, atol=1e-5)


def test_a_backbone_of_mean_tokens_serves_a_class_token_with_a_new_norm_and_head(file) -> None:
    theirs = VisionTransformer(img_size=32, num_classes=10, global_pool="avg", **SIZES)
    torch.save(theirs.state_dict(), file)
    report = load_pretrained(tiny("vit_ti"), str(file))
    assert report.new == ("norm.weight", "norm.bias", "head.weight", "head.bias")
    assert set(report.unused) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}


def test_another_size_and_another_pooling_at_once(file: Path) -> None:
    torch.save(shaken(tiny("vit_ti")).state_dict(), file)
    report = load_pretrained(tiny("vit_ti", pooling="mean", image_size=64), str(file))
    assert report.resized == ("pos_embed",)


def dinov2(registers: int) -> State:
    """Make a small file as DINOv2 releases them: layer scale, a mask token, no head."""
    model = tiny("vit_ti", layer_scale=1.0, image_size=32)
    state = shaken(model).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    state["mask_token"] = torch.randn(1, 32)
    if registers:  # behind the class token, and without positions
        state["register_tokens"] = torch.randn(1, registers, 32)
    return state


@pytest.mark.parametrize("class_position", [True, False])
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_computes_what_timm_makes_of_its_file(
    file: Path, registers: int, class_position: bool
) -> None:
    state = dinov2(registers)
    torch.save(state, file)
    model = tiny("vit_ti", layer_scale=1e-5, num_registers=registers, class_position=class_position)
    report = load_pretrained(model, str(file))
    assert report.key_mapping == "DINOv2"
    assert report.new == ("head.weight", "head.bias")
    assert report.unused == ("mask_token",)
    theirs = VisionTransformer(
        img_size=32, num_classes=0, init_values=1e-5, reg_tokens=registers,
        no_embed_class=registers > 0, **SIZES,
    ).eval()  # fmt: skip
    theirs.load_state_dict(checkpoint_filter_fn(dict(state), theirs))
    images = torch.randn(2, 3, 32, 32)
    expected = theirs.forward_features(images)
    torch.testing.assert_close(features(model, images), expected, rtol=0, atol=1e-5)


def test_dinov2_in_chunks_of_blocks(file: Path) -> None:
    state = dinov2(0)
    chunked = {n.replace("blocks.", f"blocks.{int('.1.' in n)}."): t for n, t in state.items()}
    torch.save({"teacher": {f"backbone.{n}": t for n, t in chunked.items()}}, file)
    model = tiny("vit_ti", layer_scale=1e-5)
    load_pretrained(model, str(file))
    for index in range(2):
        name = f"blocks.{index}.ls2.gamma"
        assert torch.equal(model.state_dict()[name], state[name])


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_for_a_model_of_other_registers_is_refused(file: Path, registers: int) -> None:
    torch.save(dinov2(registers), file)
    model = tiny("vit_ti", layer_scale=1e-5, num_registers=4 - registers)
    with pytest.raises(CheckpointError, match="reg_token"):
        load_pretrained(model, str(file))


@pytest.mark.slow
def test_the_size_of_the_released_dinov2_models() -> None:
    for name, reference in (("vit_s", "vit_small"), ("vit_b", "vit_base"), ("vit_l", "vit_large")):
        with torch.device("meta"):
            arguments = {"patch_size": 14, "layer_scale": 1e-5, "image_size": 518}
            ours = MODELS[name](**arguments).state_dict()
            theirs = timm.create_model(f"{reference}_patch14_dinov2", num_classes=1000)
        assert {n: t.shape for n, t in ours.items()} == {
            n: t.shape for n, t in theirs.state_dict().items()
        }
