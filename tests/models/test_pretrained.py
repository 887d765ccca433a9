import json
import socket
import sys
import types
from pathlib import Path

import pytest
import timm
import torch
import torchvision.models as tv
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models.tnt import TNT as timm_tnt
from torch import Tensor, nn

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.errors import CheckpointError, ConfigError
from vtrain.files import hub
from vtrain.layers.patch_embed import resize_kernel
from vtrain.models.base import ImageClassifier
from vtrain.models.pretrained import load_pretrained
from vtrain.registry import MODELS

State = dict[str, Tensor]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def other(name: str, **arguments: object) -> ImageClassifier:
    """Build the tiny model `name` with weights that differ from `tiny`'s everywhere."""
    return shaken(tiny(name, **arguments)).eval()


def assert_loads(model: ImageClassifier, path: Path, expected: nn.Module) -> None:
    """After loading, `model` computes the same logits as `expected` on its native size."""
    report = load_pretrained(model, str(path))
    assert not report.new
    assert not report.resized
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(images), expected.eval()(images), rtol=0, atol=1e-5)


# Files.


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("timm/vit_tiny_patch16_224", "did you mean hf-hub:timm/vit_tiny_patch16_224?"),
        ("hf:google/vit-base", "did you mean hf-hub:google/vit-base?"),
        ("hf_hub:timm/a.b_in1k", "did you mean hf-hub:timm/a.b_in1k?"),
        ("https://huggingface.co/timm/vit_tiny", "did you mean hf-hub:timm/vit_tiny?"),
        ("https://dl.fbaipublicfiles.com/deit/d.pth", "download the file first"),
        ("imagenet", "hf-hub:OWNER/NAME of the Hugging Face hub, or timm:NAME"),
        ("true", "hf-hub:OWNER/NAME"),
        ("weights/vit.pth", "write a file"),
        ("here/vit_tiny", "write a file"),
    ],
)
def test_weights_that_are_not_there_are_answered_with_the_right_form(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    for given in (source, str(tmp_path / source)):  # as it is typed, and as a config keeps it
        with pytest.raises(CheckpointError, match="no such checkpoint") as caught:
            load_pretrained(tiny("vit_ti"), given)
        assert said in str(caught.value)


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_both_kinds_of_file_are_read(file: Path, save) -> None:
    source = other("vit_ti")
    save(source.state_dict(), file)
    assert_loads(tiny("vit_ti"), file, source)


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_are_found_under_the_usual_keys(file: Path, key: str) -> None:
    source = other("deit_ti_distilled")
    torch.save({key: source.state_dict(), "epoch": 3}, file)
    assert_loads(tiny("deit_ti_distilled"), file, source)


def test_of_a_vtrain_checkpoint_the_averaged_weights_are_taken(file: Path) -> None:
    source = other("vit_ti")
    state = {"model": tiny("vit_ti").state_dict(), "ema": {"weights": source.state_dict()}}
    torch.save({"format": 1, "model": {"name": "vit_ti"}, "state": state}, file)
    assert_loads(tiny("vit_ti"), file, source)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_removed(file: Path, prefix: str) -> None:
    source = other("vit_ti")
    torch.save({prefix + name: t for name, t in source.state_dict().items()}, file)
    assert_loads(tiny("vit_ti"), file, source)


# Key mappings, against the models that they are for.


def small_tv_vit() -> nn.Module:
    return tv.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=128)


def small_tv_swin(version: int) -> nn.Module:
    parts = tv.swin_transformer
    kind = (
        {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}
        if version == 2
        else {}
    )
    return tv.SwinTransformer([2, 2], 16, [2, 2], [2, 4], [4, 4], **kind)


def test_torchvision_vit(file: Path) -> None:
    theirs = shaken(small_tv_vit())
    torch.save(theirs.state_dict(), file)
    assert_loads(tiny("vit_ti", num_classes=1000), file, theirs)


@pytest.mark.parametrize(("name", "version"), [("swin_t", 1), ("swinv2_t", 2)])
def test_torchvision_swin(file: Path, name: str, version: int) -> None:
    theirs = shaken(small_tv_swin(version))
    torch.save(theirs.state_dict(), file)
    assert_loads(tiny(name, num_classes=1000, window_size=4), file, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build", "size"),
    [("vit_b", tv.vit_b_16, 224), ("swin_t", tv.swin_t, 224), ("swinv2_t", tv.swin_v2_t, 256)],
)
def test_published_torchvision_models(file: Path, name: str, build, size: int) -> None:
    theirs = shaken(build()).eval()
    torch.save(theirs.state_dict(), file)
    ours = MODELS[name](image_size=size).eval()
    report = load_pretrained(ours, str(file))
    assert len(report.loaded) == len(ours.state_dict())
    images = torch.randn(1, 3, size, size)
    given, expected = ours(images), theirs(images)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def split_qkv(state: State, attention: str) -> State:
    """Give queries, keys and values of `...attn.qkv` names of their own, below `attention`."""
    split: State = {}
    for name, tensor in state.items():
        if ".attn.qkv." not in name:
            split[name] = tensor
            continue
        for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            split[name.replace("attn.qkv", f"{attention}.{part}")] = piece
    return split


def renamed(state: State, names: list[tuple[str, str]]) -> State:
    """Replace parts of names, one after the other."""
    for old, new in names:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


HUGGING_FACE_BLOCK = [
    ("attn.proj.", "attention.output.dense."),
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
    ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
]


TRANSFORMERS_5 = [
    ("encoder.layer.", "layers."),
    ("attention.output.dense.", "attention.o_proj."),
    ("attention.attention.", "attention."),
    (
        "attention.self.relative_position_bias_table",
        "attention.relative_position_bias.relative_position_bias_table",
    ),
    ("attention.self.", "attention."),
    ("attention.query.", "attention.q_proj."),
    ("attention.key.", "attention.k_proj."),
    ("attention.value.", "attention.v_proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
]
"""What version 5 calls what version 4 called otherwise: both are found in files."""

FINAL_NORM = {"norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias"}


def as_hugging_face_vit(state: State) -> State:
    """Name weights as transformers does, without the prefix of the model with a head."""
    names = [
        *HUGGING_FACE_BLOCK,
        ("cls_token", "embeddings.cls_token"),
        ("dist_token", "embeddings.distillation_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("blocks.", "encoder.layer."),
    ]
    state = renamed(split_qkv(state, "attention.attention"), names)
    return {FINAL_NORM.get(name, name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("prefix", ["vit.", "deit.", ""])
def test_hugging_face_vit(file: Path, prefix: str, version: int) -> None:
    source = other("vit_ti")
    body = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
    state = {prefix + name: t for name, t in as_hugging_face_vit(body).items()}
    state |= {"classifier.weight": source.head.weight, "classifier.bias": source.head.bias}
    state |= {f"{prefix}pooler.dense.weight": torch.zeros(3)}
    torch.save(state if version == 4 else renamed(state, TRANSFORMERS_5), file)
    assert_loads(tiny("vit_ti"), file, source)


def test_hugging_face_deit_with_two_heads(file: Path) -> None:
    source = other("deit_ti_distilled")
    body = {n: t for n, t in source.state_dict().items() if not n.startswith("head")}
    state = {"deit." + name: t for name, t in as_hugging_face_vit(body).items()}
    for part in ("weight", "bias"):
        state[f"cls_classifier.{part}"] = getattr(source.head, part)
        state[f"distillation_classifier.{part}"] = getattr(source.head_dist, part)
    torch.save(state, file)
    assert_loads(tiny("deit_ti_distilled"), file, source)


def merged_at_the_end(state: State) -> State:
    """Move patch merging from the start of stage i + 1 to the end of stage i."""
    return renamed(state, [("layers.1.downsample", "layers.0.downsample")])


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("name", "prefix"), [("swin_t", "swin."), ("swinv2_t", "swinv2.")])
def test_hugging_face_swin(file: Path, name: str, prefix: str, version: int) -> None:
    source = other(name)
    names = [
        ("attn.q_bias", "attention.self.query.bias"),  # the second version has no bias for keys
        ("attn.v_bias", "attention.self.value.bias"),
        *HUGGING_FACE_BLOCK,
        ("patch_embed.norm.", "embeddings.NORM."),
        ("attn.", "attention.self."),
        ("cpb_mlp.", "continuous_position_bias_mlp."),
        ("layers.", "encoder.layers."),
        ("head.fc.", "classifier."),
    ]
    state = split_qkv(merged_at_the_end(source.state_dict()), "attention.self")
    state = {
        FINAL_NORM.get(name, name).replace("NORM", "norm"): tensor
        for name, tensor in renamed(state, names).items()
    }
    state = {n if n.startswith("classifier") else prefix + n: t for n, t in state.items()}
    index = f"{prefix}encoder.layers.0.blocks.0.attention.self.relative_position_index"
    state[index] = torch.zeros(16, 16)
    torch.save(state if version == 4 else renamed(state, TRANSFORMERS_5), file)
    assert_loads(tiny(name), file, source)


VIT_OF_TRANSFORMERS = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
    "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6,
}  # fmt: skip
SWIN_OF_TRANSFORMERS = {
    "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "image_size": 32,
    "patch_size": 2,
}  # fmt: skip


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize(
    ("name", "family", "head", "sizes"),
    [
        ("vit_ti", "ViT", "ForImageClassification", VIT_OF_TRANSFORMERS),
        ("deit_ti_distilled", "DeiT", "ForImageClassificationWithTeacher", VIT_OF_TRANSFORMERS),
        ("swin_t", "Swin", "ForImageClassification", SWIN_OF_TRANSFORMERS),
        ("swinv2_t", "Swinv2", "ForImageClassification", SWIN_OF_TRANSFORMERS),
    ],
)
def test_models_of_transformers_compute_the_same(
    tmp_path: Path, name: str, family: str, head: str, sizes: dict, saved: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(**sizes, num_labels=10)
    theirs = shaken(getattr(transformers, family + head)(config)).eval()
    file = tmp_path / "model.safetensors"
    if saved:
        theirs.save_pretrained(tmp_path)
    else:
        save_file(theirs.state_dict(), file)
    ours = tiny(name, **({"window_size": 4} if "swin" in name else {}))
    report = load_pretrained(ours, str(file))
    assert len(report.loaded) == len(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    expected = theirs(images).logits
    torch.testing.assert_close(ours.eval()(images), expected, rtol=0, atol=1e-5)


def test_official_deit_iii(file: Path) -> None:
    source = other("deit3_s")
    names = [(".ls1.gamma", ".gamma_1"), (".ls2.gamma", ".gamma_2")]
    torch.save({"model": renamed(source.state_dict(), names)}, file)
    assert_loads(tiny("deit3_s"), file, source)


@pytest.mark.parametrize("name", ["swin_t", "swinv2_t"])
def test_official_swin(file: Path, name: str) -> None:
    source = other(name)
    state = renamed(merged_at_the_end(source.state_dict()), [("head.fc.", "head.")])
    buffers = {
        "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16),
    }
    torch.save({"model": {**state, **buffers}, "epoch": 299}, file)
    assert_loads(tiny(name), file, source)
    assert set(load_pretrained(tiny(name), str(file)).unused) == set(buffers)


def test_official_tnt(file: Path) -> None:
    source = other("tnt_s")
    state = source.state_dict()
    state["pixel_pos"] = state["pixel_pos"].flatten(2).mT  # a row for each word
    names = [
        ("patch_pos", "outer_pos"),
        ("pixel_pos", "inner_pos"),
        ("pixel_embed.", "patch_embed."),
        ("norm1_proj.", "proj_norm1."),
        ("norm2_proj.", "proj_norm2."),
        ("norm_mlp_in.", "inner_norm2."),
        ("norm_in.", "inner_norm1."),
        ("norm_mlp.", "outer_norm2."),
        ("norm_out.", "outer_norm1."),
        (".mlp.", ".outer_mlp."),
        ("mlp_in.", "inner_mlp."),
        ("attn_in.", "inner_attn."),
        ("attn_out.", "outer_attn."),
    ]
    torch.save({**renamed(state, names), "outer_tokens": torch.zeros(1, 16, 32)}, file)
    assert_loads(tiny("tnt_s"), file, source)


def legacy_tnt() -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "inner_dim": 24, "depth": 2}
    return shaken(timm_tnt(**sizes, num_heads_outer=2, num_classes=10, legacy=True))


def test_the_legacy_layout_takes_all_of_a_legacy_tnt(file: Path) -> None:
    theirs = legacy_tnt()
    torch.save({"state_dict": theirs.state_dict()}, file)
    assert_loads(tiny("tnt_s_legacy"), file, theirs)


@pytest.mark.slow
def test_a_published_legacy_tnt(file: Path) -> None:
    theirs = shaken(timm.create_model("tnt_s_legacy_patch16_224")).eval()
    torch.save({"state_dict": theirs.state_dict()}, file)
    ours = MODELS["tnt_s_legacy"]().eval()
    assert len(load_pretrained(ours, str(file)).loaded) == len(theirs.state_dict())
    images = torch.randn(1, 3, 224, 224)
    given, expected = ours(images), theirs(images)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_the_official_layout_takes_what_a_legacy_tnt_shares_and_reports_the_rest(
    file: Path,
) -> None:
    theirs = legacy_tnt()
    torch.save(theirs.state_dict(), file)
    model = tiny("tnt_s")
    report = load_pretrained(model, str(file))
    assert set(report.new) == {n for n in model.state_dict() if "blocks" in n and "_proj." in n}
    assert {name.split(".", 2)[2] for name in report.unused} == {
        "norm1_proj.weight",
        "norm1_proj.bias",
        "proj.bias",
    }
    assert torch.equal(model.blocks[0].attn_in.qk.weight, theirs.blocks[0].attn_in.qk.weight)


# Fitting to other shapes.


@pytest.mark.parametrize("size", [16, 48])
@pytest.mark.parametrize(
    ("name", "prefix"), [("vit_ti", 1), ("deit_ti_distilled", 2), ("deit3_s", 0)]
)
def test_position_embeddings_follow_the_image_size(file, name, prefix, size) -> None:
    source, model = other(name), tiny(name, image_size=size)
    torch.save(source.state_dict(), file)
    report = load_pretrained(model, str(file))
    assert report.resized == ("pos_embed",)
    expected = resample_abs_pos_embed(
        source.pos_embed.data, [size // 8] * 2, num_prefix_tokens=prefix
    )
    torch.testing.assert_close(model.pos_embed.data, expected)
    assert torch.equal(model.pos_embed[:, :prefix], source.pos_embed[:, :prefix])


def test_positions_of_each_axis_follow_the_image_size(file: Path) -> None:
    source = other("vit_ti", position_embedding="learned_2d")
    with torch.no_grad():
        source.pos_embed_x.copy_(torch.arange(4.0)[None, :, None].expand(1, 4, 16))
    torch.save(source.state_dict(), file)
    model = tiny("vit_ti", position_embedding="learned_2d", image_size=64)
    assert load_pretrained(model, str(file)).resized == ("pos_embed_x", "pos_embed_y")
    along, across = model.pos_embed_x[0].diff(dim=0), model.pos_embed_x[0].diff(dim=1)
    assert (along > 0).all()
    torch.testing.assert_close(across, torch.zeros(8, 15), atol=1e-5, rtol=0)


def test_bias_tables_follow_the_window_size(file: Path) -> None:
    source, model = other("swin_t", window_size=4), tiny("swin_t", window_size=8)
    name = "layers.0.blocks.0.attn.relative_position_bias_table"
    dy = torch.arange(-3.0, 4)[:, None].expand(7, 7).reshape(49, 1)
    with torch.no_grad():
        source.get_parameter(name).copy_(dy.expand(49, 2))
    torch.save(source.state_dict(), file)
    assert name in load_pretrained(model, str(file)).resized
    table = model.get_parameter(name).view(15, 15, 2)
    assert (table.diff(dim=0) > 0).all()
    torch.testing.assert_close(table.diff(dim=1), torch.zeros(15, 14, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(table, -table.flip(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [4, 16])
def test_patch_kernels_are_resized_as_timm_does(size: int) -> None:
    kernel = torch.randn(6, 3, 8, 8)
    expected = resample_patch_embed(kernel, [size, size])
    torch.testing.assert_close(resize_kernel(kernel, size), expected, atol=1e-4, rtol=0)


def test_larger_patches_of_a_larger_image_give_the_same_tokens(file: Path) -> None:
    source, model = other("vit_ti"), tiny("vit_ti", image_size=64, patch_size=16)
    torch.save(source.state_dict(), file)
    assert load_pretrained(model, str(file)).resized == ("patch_embed.proj.weight",)
    patch = torch.randn(1, 3, 8, 8)
    larger = nn.functional.interpolate(patch, (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        model.patch_embed(larger), source.patch_embed(patch), atol=1e-4, rtol=0
    )


def test_one_channel_gets_the_sum_of_the_kernels(file: Path) -> None:
    source, model = other("vit_ti"), tiny("vit_ti", in_channels=1).eval()
    torch.save(source.state_dict(), file)
    load_pretrained(model, str(file))
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(model(grey), source(grey.expand(-1, 3, -1, -1)))


def test_more_channels_get_the_kernels_in_turn(file: Path) -> None:
    source, model = other("vit_ti"), tiny("vit_ti", in_channels=6).eval()
    torch.save(source.state_dict(), file)
    load_pretrained(model, str(file))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(torch.cat([images, images], dim=1)), source(images))


@pytest.mark.parametrize("headless", [True, False])
def test_a_head_for_other_classes_is_new(file: Path, headless: bool) -> None:
    source, model = other("vit_ti", num_classes=5), tiny("vit_ti")
    start = model.head.weight.clone()
    state = source.state_dict()
    if headless:
        del state["head.weight"], state["head.bias"]
    torch.save(state, file)
    report = load_pretrained(model, str(file))
    assert report.new == ("head.weight", "head.bias")
    assert report.unused == (() if headless else report.new)
    assert torch.equal(model.head.weight, start)
    assert torch.equal(model.norm.weight, source.norm.weight)
    assert "2 new (head.weight, head.bias)" in str(report)


@pytest.mark.parametrize(
    ("classes", "rows"),
    [(["a", "b", "c"], [0, 1, 2]), (["c", "a"], [2, 0]), (["b", "x", "a"], None)],
)
def test_a_head_is_matched_by_the_names_of_classes(
    file: Path, classes: list[str], rows: list[int] | None
) -> None:
    source, model = other("vit_ti", num_classes=3), tiny("vit_ti", num_classes=len(classes))
    start = model.head.weight.clone()
    torch.save({"model": source.state_dict(), "classes": ["a", "b", "c"]}, file)
    report = load_pretrained(model, str(file), classes)
    assert torch.equal(model.head.weight, start if rows is None else source.head.weight[rows])
    assert report.new == (() if rows is not None else ("head.weight", "head.bias"))
    assert torch.equal(model.norm.weight, source.norm.weight)


# Mistakes.


def test_what_does_not_match_is_counted_and_named_and_the_model_is_untouched(file: Path) -> None:
    state = other("vit_ti").state_dict()
    state["fc_norm.weight"] = state.pop("norm.weight")
    state["blocks.0.mlp.fc1.bias"] = torch.zeros(7)
    torch.save(state, file)
    model = tiny("vit_ti")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(model, str(file))
    assert str(caught.value).startswith(
        "the weights do not fit the model: 1 absent (norm.weight), 1 unknown (fc_norm.weight), "
        "1 reshaped (blocks.0.mlp.fc1.bias)"
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("deit3_s", {}, "ls1.gamma"),
        ("vit_ti", {"depth": 3}, "blocks.2"),
        ("deit_ti_distilled", {}, "dist_token"),
        ("swin_t", {}, "layers.0"),
    ],
)
def test_weights_of_another_architecture_are_refused(file, name, arguments, kind) -> None:
    torch.save(other("vit_ti").state_dict(), file)
    with pytest.raises(CheckpointError, match=kind):
        load_pretrained(tiny(name, **arguments), str(file))


def test_positions_that_are_no_square_are_refused(file: Path) -> None:
    state = other("vit_ti").state_dict()
    state["pos_embed"] = torch.zeros(1, 1 + 15, 32)
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"1 reshaped \(pos_embed\)"):
        load_pretrained(tiny("vit_ti"), str(file))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(file: Path, value: float) -> None:
    state = other("vit_ti").state_dict()
    state["norm.weight"][3] = value
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=r"1 nonfinite \(norm.weight\)"):
        load_pretrained(tiny("vit_ti"), str(file))


def test_queries_and_keys_that_cannot_be_stacked_are_refused(file: Path) -> None:
    state = as_hugging_face_vit(other("vit_ti").state_dict())
    state["encoder.layer.0.attention.attention.key.weight"] = torch.zeros(2, 2)
    torch.save(state, file)
    with pytest.raises(
        CheckpointError, match="queries, keys and values, have shapes that do not match"
    ):
        load_pretrained(tiny("vit_ti"), str(file))


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {"model": {"name": "x"}}, {"state": {"ema": {}}}]
)
def test_a_file_without_weights_is_refused(file: Path, content: dict) -> None:
    torch.save(content, file)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_pretrained(tiny("vit_ti"), str(file))


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        load_pretrained(tiny("vit_ti"), str(file))


# The hub, with a stand-in for its package.


def fake_hub(monkeypatch: pytest.MonkeyPatch, download) -> None:
    """Install a `huggingface_hub` whose only function is `download(repository, file)`."""
    package, errors = (
        types.ModuleType("huggingface_hub"),
        types.ModuleType("huggingface_hub.errors"),
    )
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
    errors.LocalEntryNotFoundError = type(
        "LocalEntryNotFoundError", (errors.EntryNotFoundError,), {}
    )
    package.hf_hub_download = lambda repository, name: download(repository, name, errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)


def test_a_hub_repository_is_read_from_safetensors_or_else_from_bin(monkeypatch, file) -> None:
    source = other("vit_ti")
    torch.save(source.state_dict(), file)
    asked = []

    def download(repository, name, errors):
        asked.append((repository, name))
        if not name.endswith(".bin"):
            raise errors.EntryNotFoundError
        return str(file)

    fake_hub(monkeypatch, download)
    model = tiny("vit_ti")
    load_pretrained(model, "hf-hub:someone/vit")
    files = ["model.safetensors", "pytorch_model.bin"]
    beside = ["config.json", "preprocessor_config.json"]  # neither has to be there
    assert asked == [("someone/vit", name) for name in files + beside]
    assert torch.equal(model.head.weight, source.head.weight)


def test_a_hub_repository_may_have_its_weights_in_parts(monkeypatch, tmp_path: Path) -> None:
    source = other("vit_ti")
    names = list(source.state_dict())
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, some in parts.items():
        save_file({name: source.state_dict()[name] for name in some}, tmp_path / part)
    index = {"weight_map": {name: part for part, some in parts.items() for name in some}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    def download(repository, name, errors):
        if not (tmp_path / name).exists():
            raise errors.EntryNotFoundError
        return str(tmp_path / name)

    fake_hub(monkeypatch, download)
    model = tiny("vit_ti")
    report = load_pretrained(model, "hf-hub:someone/vit")
    assert "(2 parts)" in str(report)
    assert torch.equal(model.head.weight, source.head.weight)


def test_a_name_of_timm_is_its_repository(monkeypatch, file) -> None:
    source = other("vit_ti")
    save_file(source.state_dict(), file)
    asked = []
    fake_hub(monkeypatch, lambda repository, _name, _errors: asked.append(repository) or str(file))
    load_pretrained(tiny("vit_ti"), "timm:vit_tiny_patch16_224.augreg_in21k")
    assert set(asked) == {"timm/vit_tiny_patch16_224.augreg_in21k"}


def test_what_a_repository_says_of_its_mean_and_std_is_downloaded_with_its_weights(
    monkeypatch, tmp_path: Path
) -> None:
    stated = {"pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}}

    def download(_repository, name, errors):
        if name == "model.safetensors":
            save_file(other("vit_ti").state_dict(), tmp_path / name)
        elif name == "config.json":
            (tmp_path / name).write_text(json.dumps(stated))
        else:
            raise errors.EntryNotFoundError
        return str(tmp_path / name)

    fake_hub(monkeypatch, download)
    report = load_pretrained(tiny("vit_ti"), "timm:vit_tiny_patch16_224.augreg_in21k")
    assert report.colours is not None
    assert report.colours.mean == (0.5, 0.4, 0.3)
    assert report.colours.said_by == "config.json beside the weights"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("timm:vit_tiny", "its name has a tag, as in timm:vit_tiny_patch16_224."),
        ("timm:vit_tiny.in1k", "hf download timm/vit_tiny.in1k model.safetensors"),
        ("hf-hub:someone/vit", "hf download someone/vit model.safetensors"),
    ],
)
def test_a_repository_that_is_not_reached_says_what_to_do(monkeypatch, source, said) -> None:
    def download(_repository, _name, _errors):
        raise OSError("no route to host")

    fake_hub(monkeypatch, download)
    monkeypatch.setattr(hub, "is_in_reach", lambda: True)
    with pytest.raises(CheckpointError, match="did not answer") as caught:
        load_pretrained(tiny("vit_ti"), source)
    assert said in str(caught.value)


def test_a_hub_repository_without_weights_is_refused(monkeypatch) -> None:
    def download(_repository, _name, errors):
        raise errors.EntryNotFoundError

    fake_hub(monkeypatch, download)
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch"):
        load_pretrained(tiny("vit_ti"), "hf-hub:someone/vit")


def test_without_network_the_hub_is_one_line(monkeypatch) -> None:
    def download(_repository, _name, errors):
        raise errors.LocalEntryNotFoundError("cannot find it on disk\nand much more")

    fake_hub(monkeypatch, download)
    with pytest.raises(CheckpointError, match="did not answer") as caught:
        load_pretrained(tiny("vit_ti"), "hf-hub:someone/vit")
    assert len(caught.value.lines()) == 1
    assert "much more" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9", "127.0.0.1:9"])
def test_without_network_the_hub_s_own_program_does_not_try_again(
    monkeypatch, tmp_path: Path, capfd: pytest.CaptureFixture[str], proxy: str
) -> None:
    """With the real package: no request is made at all, and nothing is said but the error."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(CheckpointError, match=r"\(no network\)") as caught:
        load_pretrained(tiny("vit_ti"), "hf-hub:someone/vit")
    assert "model.pretrained=FILE" in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_is_in_reach_is_asked(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in hub.PROXIES:
            monkeypatch.delenv(name, raising=False)
        assert hub.is_in_reach()
    assert not hub.is_in_reach()


def test_without_the_hub_package_the_install_line_is_given(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r'pip install "vtrain\[hub\]"'):
        load_pretrained(tiny("vit_ti"), "hf-hub:someone/vit")
