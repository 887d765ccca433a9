"""The mean and std of published weights, against the programs that publish them."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torchvision import models as torchvision

from tests.conftest import tiny
from tests.models.weights.test_google_vit import released
from vtrain.models.pretrained import load_pretrained
from vtrain.models.weights.key_mappings import KEY_MAPPINGS
from vtrain.models.weights.published import (
    BY_MAPPING,
    HALF,
    IMAGENET,
    Pair,
    published_colours,
)


def pair(mapping: str, *names: str, arch: str = "", place: str = "") -> Pair | None:
    found = published_colours(mapping, names, arch=arch, place=place)
    return None if found is None else (found.mean, found.std)


def test_every_name_is_one_of_a_mapping() -> None:
    assert set(BY_MAPPING) <= {mapping.name for mapping in KEY_MAPPINGS}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("torchvision ViT", torchvision.ViT_B_16_Weights),
        ("torchvision ViT", torchvision.ViT_L_16_Weights),
        ("torchvision Swin", torchvision.Swin_T_Weights),
        ("torchvision Swin", torchvision.Swin_V2_T_Weights),
    ],
)
def test_torchvision_s_own_transforms_say_the_same(name: str, weights: type) -> None:
    for entry in weights:  # type: ignore[attr-defined] # an enumeration
        preset = entry.transforms()
        assert pair(name) == (tuple(preset.mean), tuple(preset.std))


def published_by_timm(*patterns: str) -> list[str]:
    return sorted(name for pattern in patterns for name in timm.list_models(pattern))


@pytest.mark.parametrize("pattern", ["vit_*", "deit*", "swin_*", "swinv2_*", "tnt_*"])
def test_timm_s_defaults_of_a_model_are_as_its_name_says(pattern: str) -> None:
    known = 0
    for name in published_by_timm(pattern):
        config = get_pretrained_cfg(name)
        assert config is not None
        found = pair("timm", arch=name)
        if found is not None:
            known += 1
            assert found == (tuple(config.mean), tuple(config.std)), name
    assert known >= 2


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("swin_tiny_patch4_window7_224", {}),
        ("swinv2_tiny_window8_256", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("tnt_s_patch16_224", {}),
    ],
)
def test_names_that_only_some_of_timm_s_models_have_tell_them(model: str, arguments: dict) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(model, **arguments)
    config = theirs.pretrained_cfg
    expected = tuple(config["mean"]), tuple(config["std"])
    assert pair("timm", *theirs.state_dict()) == expected


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("model", IMAGENET),
        ("model_ema, averaged", IMAGENET),
        ("teacher", IMAGENET),
        ("state_dict", None),
        ("", None),
    ],
)
def test_a_plain_vit_is_told_by_the_script_that_saved_it_or_not_at_all(
    place: str, expected: Pair | None
) -> None:
    assert pair("timm", "cls_token", "pos_embed", place=place) == expected


@pytest.mark.parametrize("name", ["Hugging Face ViT", "mmpretrain ViT"])
def test_where_the_same_names_had_several_nothing_is_said(name: str) -> None:
    assert pair(name, "dist_token", place="model") is None


def test_what_is_stated_beside_the_weights_counts_more(tmp_path: Path) -> None:
    np.savez(tmp_path / "ViT-B_16.npz", **released())
    found = load_pretrained(tiny("vit_ti"), str(tmp_path)).colours
    assert found is not None
    assert (found.mean, found.std) == HALF
    assert found.said_by == "the published weights of Google ViT"
    (tmp_path / "config.json").write_text('{"mean": [0.1], "std": [0.2]}')
    found = load_pretrained(tiny("vit_ti"), str(tmp_path)).colours
    assert found is not None
    assert (found.mean, found.std) == ((0.1,), (0.2,))


def test_of_vtrain_s_own_weights_nothing_is_guessed(tmp_path: Path) -> None:
    state = {"model": tiny("swin_t").state_dict()}
    path = tmp_path / "best.pt"
    torch.save({"vtrain": "1", "state": state}, path)
    assert load_pretrained(tiny("swin_t"), str(path)).colours is None
    torch.save({"model": state["model"]}, path)
    assert load_pretrained(tiny("swin_t"), str(path)).colours is not None
