"""Weights in other libraries' names: each loads strictly there and computes the same."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.export.cases import CLASSES, evidence, loaded
from tests.models.test_pretrained import SWIN_OF_TRANSFORMERS, VIT_OF_TRANSFORMERS
from vtrain.errors import CheckpointError, ConfigError
from vtrain.export import weights
from vtrain.export.foreign import Architecture, timm_architecture, torchvision_model
from vtrain.export.weights import check_supported, write_weights
from vtrain.registry import MODELS

SWIN = {**SWIN_OF_TRANSFORMERS, "window_size": 4}
SPOKEN = {
    "plain": ("vit_ti", {}, ("timm", "torchvision", "hf")),
    "no bias": ("vit_ti", {"qkv_bias": False}, ("timm", "torchvision", "hf")),
    "fixed positions": (
        "vit_s",
        {"position_embedding": "sincos_2d"},
        ("timm", "torchvision", "hf"),
    ),
    "rows and columns": ("vit_s", {"position_embedding": "learned_2d"}, ("timm", "hf")),
    "no positions": ("vit_s", {"position_embedding": "none"}, ("timm", "torchvision")),
    "mean": ("vit_b", {"pooling": "mean", "position_embedding": "sincos_2d"}, ("timm",)),
    "registers": ("vit_b", {"num_registers": 4}, ("timm",)),
    "layer scale": ("deit3_s", {}, ("timm",)),
    "two heads": ("deit_ti_distilled", {}, ("timm", "hf")),
    "swin": ("swin_t", {"window_size": 4}, ("timm", "torchvision", "hf")),
    "swin v2": ("swinv2_t", {"window_size": 4}, ("timm", "torchvision", "hf")),
    "other windows": ("swinv2_t", {"pretrained_window_sizes": (6, 3)}, ("timm",)),
    "tnt": ("tnt_ti", {}, ("timm",)),
    "tnt without positions": ("tnt_ti", {"outer_position_embedding": False}, ("timm",)),
    "legacy": ("tnt_s_legacy", {}, ("timm",)),
}
CASES = [(case, library) for case, row in SPOKEN.items() for library in row[2]]


@pytest.mark.parametrize(("case", "library"), CASES)
def test_a_file_loads_strictly_into_the_library(tmp_path: Path, case: str, library: str) -> None:
    name, arguments, _ = SPOKEN[case]
    model = loaded(name, **arguments)
    path = tmp_path / "w.safetensors"
    asked = evidence(model)
    proof = write_weights(model, path, asked, {"model": "{}"}, library)
    assert proof.difference < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == list(CLASSES)
    # Not by the code that proved it: built by hand, asked without a runtime.
    arch = Architecture.of(model)
    if library == "timm":
        entry, theirs = timm_architecture(arch)
        other = timm.create_model(entry, num_classes=10, **theirs)
    elif library == "torchvision":
        other = torchvision_model(arch)
    else:
        return  # transformers is not installed here: see the slow test
    other.load_state_dict(load_file(path), strict=True)
    with torch.no_grad():
        given = other.eval()(model.geometry.normalise(torch.from_numpy(asked.images)))
    expected = torch.from_numpy(asked.logits)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("name", "arguments", "library", "says"),
    [
        ("tnt_ti", {}, "torchvision", "torchvision does not support TNT"),
        ("tnt_ti", {}, "hf", "Hugging Face does not support TNT"),
        ("vit_ti", {"pooling": "mean"}, "torchvision", "model.pooling=mean"),
        ("vit_ti", {"num_registers": 2}, "hf", "model.num_registers=2"),
        ("deit3_s", {}, "torchvision", "model.layer_scale="),
        ("deit_ti_distilled", {}, "torchvision", "model.distillation_token=true"),
        ("deit_ti_distilled", {"num_registers": 1}, "timm", "model.num_registers=1"),
        ("swin_t", {"relative_position_bias": False}, "timm", "model.relative_position_bias=false"),
        ("swin_t", {"window_shift": False}, "hf", "model.window_shift=false"),
        ("swin_t", {"absolute_position_embedding": True}, "torchvision", "absolute_position"),
        ("swin_t", {"window_size": 3}, "timm", "it shifts before it pads"),
        ("swin_t", {"window_size": 16}, "torchvision", "windows that shrink"),
        ("swinv2_t", {"pretrained_window_sizes": (6, 3)}, "hf", "pretrained_window_sizes"),
    ],
)
def test_what_a_library_has_no_word_for_is_refused_with_a_reason(
    name: str, arguments: dict[str, object], library: str, says: str
) -> None:
    arch = Architecture.of(loaded(name, **arguments))
    with pytest.raises(ConfigError) as caught:
        check_supported(arch, library)
    assert says in caught.value.what
    assert "does not support" in caught.value.what


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "family", "head", "sizes"),
    [
        ("vit_ti", {}, "ViT", "ForImageClassification", VIT_OF_TRANSFORMERS),
        (
            "vit_s",
            {"qkv_bias": False, "position_embedding": "sincos_2d"},
            "ViT",
            "ForImageClassification",
            {**VIT_OF_TRANSFORMERS, "qkv_bias": False},
        ),
        ("deit_ti_distilled", {}, "DeiT", "ForImageClassificationWithTeacher", VIT_OF_TRANSFORMERS),
        ("swin_t", {"window_size": 4}, "Swin", "ForImageClassification", SWIN),
        ("swinv2_t", {"window_size": 4}, "Swinv2", "ForImageClassification", SWIN),
    ],
)
def test_transformers_loads_its_names_and_computes_the_same(
    tmp_path: Path,
    name: str,
    arguments: dict[str, object],
    family: str,
    head: str,
    sizes: dict[str, object],
) -> None:
    transformers = pytest.importorskip("transformers")
    model = loaded(name, **arguments)
    asked = evidence(model)
    write_weights(model, tmp_path / "w.safetensors", asked, {}, "hf")
    config = getattr(transformers, f"{family}Config")(**sizes, num_labels=10)
    theirs, found = getattr(transformers, family + head).from_pretrained(
        None,
        config=config,
        state_dict=load_file(tmp_path / "w.safetensors"),
        output_loading_info=True,
    )
    assert not any(found.values()), found  # nothing missing, nothing unexpected
    with torch.no_grad():
        given = theirs.eval()(model.geometry.normalise(torch.from_numpy(asked.images))).logits
    expected = torch.from_numpy(asked.logits)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.names())
def test_timm_has_a_word_for_every_model_of_the_zoo(tmp_path: Path, name: str) -> None:
    arguments = {"window_size": 4} if "swin" in name else {}
    model = loaded(name, **arguments)
    write_weights(model, tmp_path / "w.safetensors", evidence(model), {}, "timm")


@pytest.mark.parametrize("library", ["timm", "torchvision", "hf"])
def test_weights_that_are_not_the_models_are_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    model, right = loaded(), weights.foreign_state

    def swapped(*arguments: object) -> dict[str, torch.Tensor]:
        state = right(*arguments)
        name = next(n for n in state if n.split(".")[0] in ("head", "heads", "classifier"))
        return {**state, name: state[name].roll(1, 0)}

    monkeypatch.setattr(weights, "foreign_state", swapped)
    with pytest.raises(CheckpointError, match="the file is not the model"):
        write_weights(model, tmp_path / "w.safetensors", evidence(model), {}, library)
    monkeypatch.setattr(weights, "foreign_state", lambda *a: {**right(*a), "x": torch.zeros(1)})
    with pytest.raises(CheckpointError):
        write_weights(model, tmp_path / "w.safetensors", evidence(model), {}, library)
    assert list(tmp_path.iterdir()) == []
