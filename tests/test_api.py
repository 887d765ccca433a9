import pytest
import torch

import vtrain
from vtrain.errors import ConfigError


def test_a_model_is_built_by_name_at_its_native_size() -> None:
    with torch.device("meta"):
        model = vtrain.create_model("vit_ti")
    assert (model.num_classes, model.image_size, model.in_channels) == (1000, 224, 3)


def test_arguments_change_what_the_name_presets() -> None:
    model = vtrain.create_model(
        "deit_s", num_classes=7, image_size=16, in_channels=1, patch_size=8, embed_dim=12, depth=1
    )
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 7)


def test_every_listed_model_can_be_built() -> None:
    with torch.device("meta"):
        for name in vtrain.list_models():
            vtrain.create_model(name)


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'vit_ti'"):
        vtrain.create_model("vit_tii")
