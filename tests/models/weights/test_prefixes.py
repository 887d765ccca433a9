"""Where training programs keep a model: in an attribute of theirs, twice, beside other parts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.errors import CheckpointError
from vtrain.models.base import ImageClassifier
from vtrain.models.pretrained import LoadReport, load_pretrained

State = dict[str, Tensor]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def below(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def without_heads(state: State) -> State:
    return {name: t for name, t in state.items() if not name.startswith("head")}


def loaded(name: str, file: Path, source: ImageClassifier) -> LoadReport:
    """Load `file` into another model `name`; all that is no head must then be that of `source`."""
    model = tiny(name)
    report = load_pretrained(model, str(file))
    for key, tensor in without_heads(source.state_dict()).items():
        assert torch.equal(model.state_dict()[key], tensor), key
    return report


@pytest.mark.parametrize("name", ["vit_ti", "deit3_s", "tnt_s", "swin_t", "swinv2_t"])
@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "backbone.", "encoder.", "model._orig_mod.", "model.module."]
)
def test_a_prefix_that_all_share_is_removed_and_said(file: Path, name: str, prefix: str) -> None:
    source = shaken(tiny(name))
    torch.save({"epoch": 1, "state_dict": below(prefix, source.state_dict())}, file)
    report = loaded(name, file, source)
    assert set(report.loaded) == set(source.state_dict())
    assert f"(state_dict, names below {prefix.replace('_orig_mod.', '')})" in str(report)


def test_what_a_lightning_module_has_beside_its_model_is_unused_and_said(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    state = below("model.", source.state_dict())
    state |= {"criterion.weight": torch.ones(10), "train_top1.correct": torch.ones(1)}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.6", "loops": {}}, file)
    assert loaded("vit_ti", file, source).unused == ("criterion.weight", "train_top1.correct")


def test_a_head_beside_a_backbone_is_its_head(file: Path) -> None:
    source, model = shaken(tiny("vit_ti")), tiny("vit_ti")
    state = source.state_dict()
    heads = {name: state.pop(name) for name in ("head.weight", "head.bias")}
    torch.save({"state_dict": below("backbone.", state) | heads}, file)
    assert load_pretrained(model, str(file)).new == ()
    assert torch.equal(model.head.weight, source.head.weight)


@pytest.mark.parametrize(
    ("raw", "averaged"), [("state_dict", "state_dict_ema"), ("model", "model_ema")]
)
def test_averaged_weights_are_preferred_and_said(file: Path, raw: str, averaged: str) -> None:
    source = shaken(tiny("vit_ti"))
    torch.save({raw: tiny("vit_ti").state_dict(), averaged: source.state_dict()}, file)
    assert f"({averaged}, averaged)" in str(loaded("vit_ti", file, source))


@pytest.mark.parametrize("absent", [None, {}])
def test_an_average_that_is_absent_is_not_taken(file: Path, absent: object) -> None:
    source = shaken(tiny("vit_ti"))
    torch.save({"model": source.state_dict(), "model_ema": absent}, file)
    loaded("vit_ti", file, source)


def test_of_mmengine_the_state_dict_is_taken_which_it_has_exchanged_with_the_average(file) -> None:
    source = shaken(tiny("vit_ti"))
    other = below("module.", tiny("vit_ti").state_dict())
    torch.save({"state_dict": source.state_dict(), "ema_state_dict": other}, file)
    loaded("vit_ti", file, source)


def test_of_a_model_and_its_average_in_one_module_the_average_is_taken(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    state = below("model.", tiny("vit_ti").state_dict()) | below("ema_model.", source.state_dict())
    torch.save({"state_dict": state}, file)
    assert "names below ema_model." in str(loaded("vit_ti", file, source))


def test_of_dino_the_backbone_of_the_teacher_is_taken(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    body = without_heads(source.state_dict())
    projection = {"head.mlp.0.weight": torch.ones(2, 2), "head.last_layer.weight_g": torch.ones(2)}
    teacher = below("backbone.", body) | projection
    student = below("module.backbone.", without_heads(tiny("vit_ti").state_dict()))
    torch.save({"student": student, "teacher": teacher, "epoch": 3}, file)
    report = loaded("vit_ti", file, source)
    assert report.new == ("head.weight", "head.bias")
    assert report.unused == tuple(projection)
    assert "(teacher, names below backbone.)" in str(report)


def test_a_student_alone_is_taken(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    torch.save({"student": below("module.backbone.", source.state_dict())}, file)
    loaded("vit_ti", file, source)


def test_of_moco_v3_the_encoder_that_learns_is_taken_without_its_projection(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    projection = {"head.0.weight": torch.ones(4, 32), "head.1.running_mean": torch.ones(4)}
    state = below("module.momentum_encoder.", tiny("vit_ti").state_dict())
    state |= below("module.base_encoder.", without_heads(source.state_dict()) | projection)
    torch.save({"state_dict": state | {"module.predictor.0.weight": torch.ones(4, 4)}}, file)
    report = loaded("vit_ti", file, source)
    assert report.new == ("head.weight", "head.bias")
    assert {"head.0.weight", "head.1.running_mean", "predictor.0.weight"} < set(report.unused)
    assert "MoCo v3 (state_dict, names below base_encoder.)" in str(report)


def test_of_simmim_the_encoder_is_taken(file: Path) -> None:
    source = shaken(tiny("swin_t"))
    body = without_heads(source.state_dict())
    # Its merging is at the end of a stage, as in Swin's own code.
    body = {n.replace("layers.1.downsample", "layers.0.downsample"): t for n, t in body.items()}
    state = below("encoder.", body | {"mask_token": torch.ones(1, 1, 16)})
    torch.save({"model": state | {"decoder.0.weight": torch.ones(12, 32, 1, 1)}}, file)
    report = loaded("swin_t", file, source)
    assert report.unused == ("mask_token", "decoder.0.weight")
    assert report.new == ("head.fc.weight", "head.fc.bias")


@pytest.mark.parametrize("whole", [True, False])
def test_of_mae_the_encoder_is_taken(file: Path, whole: bool) -> None:
    source = shaken(tiny("vit_ti"))
    decoder = {
        "mask_token": torch.ones(1, 1, 16),
        "decoder_pos_embed": torch.ones(1, 17, 16),
        "decoder_blocks.0.norm1.weight": torch.ones(16),
        "decoder_pred.bias": torch.ones(12),
    }
    torch.save({"model": without_heads(source.state_dict()) | (decoder if whole else {})}, file)
    report = loaded("vit_ti", file, source)
    assert report.new == ("head.weight", "head.bias")
    assert report.unused == (tuple(decoder) if whole else ())


def test_of_the_names_below_a_prefix_none_is_unknown_to_the_model(file: Path) -> None:
    state = shaken(tiny("vit_ti")).state_dict() | {"blocks.0.odd.weight": torch.ones(1)}
    torch.save({"state_dict": below("model.", state)}, file)
    with pytest.raises(CheckpointError, match=r"1 unknown \(blocks\.0\.odd\.weight\)"):
        load_pretrained(tiny("vit_ti"), str(file))


def test_names_that_are_numbers_are_no_weights(file: Path) -> None:
    torch.save({0: torch.ones(1), "model": {1: torch.ones(1)}}, file)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_pretrained(tiny("vit_ti"), str(file))


def test_names_that_a_terminal_would_obey_are_shown_harmless_and_short(file: Path) -> None:
    source = shaken(tiny("vit_ti"))
    strange = {"\x1b]0;owned\x07": torch.ones(1), "a" * 10_000: torch.ones(1)}
    torch.save({"state_dict": below("\x1b[31mmodel.", source.state_dict()) | strange}, file)
    report = loaded("vit_ti", file, source)
    assert str(report).isprintable()
    assert len(str(report)) < 500
    torch.save(source.state_dict() | strange, file)
    with pytest.raises(CheckpointError, match="2 unknown") as caught:
        load_pretrained(tiny("vit_ti"), str(file))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
