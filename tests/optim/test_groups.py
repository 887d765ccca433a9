"""Which parameters are decayed, and how fast each layer learns."""

import pytest
from torch import nn

from tests.conftest import tiny
from vtrain.models.base import freeze
from vtrain.optim.groups import param_groups, set_lr
from vtrain.registry import MODELS, OPTIMIZERS

every_model = pytest.mark.parametrize("name", MODELS.names())


@every_model
@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_the_groups_cover_each_parameter_exactly_once(name: str, layer_decay: float | None) -> None:
    model = tiny(name)
    groups = param_groups(model, 0.05, layer_decay)
    grouped = [name for group in groups for name in group["names"]]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    for group in groups:
        assert [id(model.get_parameter(n)) for n in group["names"]] == [
            id(p) for p in group["params"]
        ]


@every_model
def test_weights_are_decayed_but_not_vectors_tokens_positions_and_tables(name: str) -> None:
    model = tiny(name)
    decayed = {n for g in param_groups(model, 0.05) if g["weight_decay"] for n in g["names"]}
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1 and n.endswith(".weight")}
    # Swin V2 computes its bias tables by a small network, which its official code exempts too.
    assert decayed == {name for name in matrices if "cpb_mlp" not in name}


@every_model
def test_each_layer_learns_slower_than_the_next_one(name: str) -> None:
    model = tiny(name)
    scale_of = {n: g["lr_scale"] for g in param_groups(model, 0, 0.5) for n in g["names"]}
    head = len(model.depth_groups()) - 1
    assert scale_of == {n: 0.5 ** (head - model.layer_id(n)) for n in scale_of}
    assert max(scale_of.values()) == 1


def test_exemptions_are_full_names_or_last_components() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Embedding(2, 2))
    model.no_weight_decay = frozenset({"0.weight"})
    assert decayed_names(model) == ["1.weight", "2.weight"]
    model.no_weight_decay = frozenset({"weight"})
    assert decayed_names(model) == []
    model.no_weight_decay = frozenset({"eight"})
    assert decayed_names(model) == ["0.weight", "1.weight", "2.weight"]


def test_frozen_parameters_are_left_out() -> None:
    model = tiny("vit_ti")
    freeze(model, "backbone")
    assert [n for g in param_groups(model, 0.1) for n in g["names"]] == ["head.weight", "head.bias"]


def test_a_model_with_nothing_to_train_is_refused() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        param_groups(model, 0.1)


def test_layer_decay_without_numbered_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="layer_decay needs the layers of Linear to be numbered"):
        param_groups(nn.Linear(2, 2), 0.1, 0.5)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_takes_its_rate_from_set_lr(name: str) -> None:
    optimizer = OPTIMIZERS[name](tiny("vit_ti"), lr=1.0, layer_decay=0.5)
    set_lr(optimizer, 0.25)
    rates = {group["lr"] for group in optimizer.param_groups}
    assert rates == {0.25, 0.125, 0.0625, 0.03125}  # head, two blocks, stem


def decayed_names(model: nn.Module) -> list[str]:
    return [n for g in param_groups(model, 0.1) if g["weight_decay"] for n in g["names"]]
