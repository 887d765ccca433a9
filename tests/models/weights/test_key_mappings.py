"""Names of programs that are not installed here, by what their own files have."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.models.pretrained import load_pretrained

State = dict[str, Tensor]

BLOCK_OF_MMPRETRAIN = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def renamed(state: State, names: tuple[tuple[str, str], ...]) -> State:
    for pattern, new in names:
        state = {re.sub(pattern, new, name): tensor for name, tensor in state.items()}
    return {n if n.startswith("head") else f"backbone.{n}": t for n, t in state.items()}


def assert_computes_the_same(file: Path, state: State, ours: nn.Module, theirs: nn.Module) -> None:
    torch.save({"meta": {}, "state_dict": state}, file)
    report = load_pretrained(ours, str(file))
    assert len(report.loaded) == len(ours.state_dict())
    assert str(report).startswith("mmpretrain")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("name", ["vit_ti", "deit3_s", "deit_ti_distilled"])
def test_mmpretrain_vit(file: Path, name: str) -> None:
    names = (
        *BLOCK_OF_MMPRETRAIN,
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"\.ls1\.gamma$", ".attn.gamma1.weight"),
        (r"\.ls2\.gamma$", ".ffn.gamma2.weight"),
        (r"^norm\.", "ln1."),
        (r"^head", "head.layers.head"),
    )
    theirs = shaken(tiny(name))
    assert_computes_the_same(file, renamed(theirs.state_dict(), names), tiny(name), theirs)


def test_mmpretrain_vit_of_mean_tokens(file: Path) -> None:
    theirs, ours = (tiny("vit_ti", pooling="mean") for _ in range(2))
    names = (
        *BLOCK_OF_MMPRETRAIN,
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".ln\1."),
        (r"^fc_norm\.", "ln2."),
        (r"^head\.", "head.fc."),
    )
    assert_computes_the_same(file, renamed(shaken(theirs).state_dict(), names), ours, theirs)


def unfolded(tensor: Tensor) -> Tensor:
    """What is for four patches of C channels, for C channels of `nn.Unfold`, one by one."""
    channels = tensor.shape[-1] // 4
    # Which of ours each of theirs is: marks of the four patches, laid out as an image of 2 x 2.
    at = torch.arange(channels * 4).view(4, channels)  # ours: (0,0), (1,0), (0,1), (1,1)
    image = torch.stack([torch.stack([at[0], at[2]]), torch.stack([at[1], at[3]])])  # (2, 2, C)
    order = nn.functional.unfold(image.movedim(-1, 0)[None].float(), 2)[0, :, 0].long()
    return tensor[..., order]


def test_mmpretrain_swin(file: Path) -> None:
    names = (
        *BLOCK_OF_MMPRETRAIN,
        (r"^layers\.1\.downsample", "layers.0.downsample"),  # at the end of the stage before
        (r"^layers\.", "stages."),
        (r"\.attn\.", ".attn.w_msa."),
        (r"^norm\.", "norm3."),
    )
    theirs = shaken(tiny("swin_t"))
    state = renamed(theirs.state_dict(), names)
    state = {n: unfolded(t) if ".downsample." in n else t for n, t in state.items()}
    state["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"] = torch.zeros(16, 16)
    assert_computes_the_same(file, state, tiny("swin_t"), theirs)


def test_mmpretrain_swin_v2(file: Path) -> None:
    names = (
        *BLOCK_OF_MMPRETRAIN,
        (r"^layers\.", "stages."),  # which merge at their start, as ours do
        (r"\.attn\.", ".attn.w_msa."),
        (r"^norm\.", "norm3."),
    )
    theirs = shaken(tiny("swinv2_t"))
    state = renamed(theirs.state_dict(), names)
    state = {n: unfolded(t) if ".downsample.reduction" in n else t for n, t in state.items()}
    for buffer in ("relative_position_index", "relative_coords_table"):
        state[f"backbone.stages.0.blocks.0.attn.w_msa.{buffer}"] = torch.zeros(16, 16)
    assert_computes_the_same(file, state, tiny("swinv2_t"), theirs)


def test_mmpretrain_tnt(file: Path) -> None:
    names = (
        (r"^blocks\.", "layers."),
        (r"\.norm_in\.", ".inner_block.norm_attn."),
        (r"\.norm_mlp_in\.", ".inner_block.norm_ffn."),
        (r"\.norm_out\.", ".outer_block.norm_attn."),
        (r"\.norm_mlp\.", ".outer_block.norm_ffn."),
        (r"\.attn_in\.proj\.", ".inner_block.attn.attn.out_proj."),
        (r"\.attn_out\.proj\.", ".outer_block.attn.attn.out_proj."),
        (r"\.mlp_in\.fc1\.", ".inner_block.ffn.layers.0.0."),
        (r"\.mlp_in\.fc2\.", ".inner_block.ffn.layers.1."),
        (r"\.mlp\.fc1\.", ".outer_block.ffn.layers.0.0."),
        (r"\.mlp\.fc2\.", ".outer_block.ffn.layers.1."),
        (r"\.norm1_proj\.", ".norm_proj."),
        (r"(^|\.)proj\.(?=weight|bias)", r"\1projection."),
        (r"^pixel_embed\.projection\.", "pixel_embed.proj."),
        (r"^head\.", "head.fc."),
    )
    theirs = shaken(tiny("tnt_s_legacy"))
    state = theirs.state_dict()
    for i in range(len(theirs.blocks)):
        for ours, block in (("attn_in", "inner_block"), ("attn_out", "outer_block")):
            qk, v = (state.pop(f"blocks.{i}.{ours}.{part}.weight") for part in ("qk", "v"))
            state[f"blocks.{i}.{block}.attn.attn.in_proj_weight"] = torch.cat([qk, v])
    assert_computes_the_same(file, renamed(state, names), tiny("tnt_s_legacy"), theirs)
