"""What every registered model promises."""

import math
from functools import cache
from itertools import pairwise, product

import pytest
import torch

from tests.conftest import tiny
from tests.models.agreement import same_as, shaken
from vtrain.layers.probe import probed
from vtrain.models.base import ImageClassifier, freeze
from vtrain.models.layout import AttentionLayer, AttentionLayout
from vtrain.registry import MODELS

every_model = pytest.mark.parametrize("name", MODELS.names())
# The presets of one class run the same code, but for the second head.
ONE_OF_EACH = {MODELS[name].constructor: name for name in MODELS.names()}
every_class = pytest.mark.parametrize("name", ["deit_ti_distilled", *ONE_OF_EACH.values()])


def logits_of(output: object) -> torch.Tensor:
    """Join the logits of several heads."""
    return output if isinstance(output, torch.Tensor) else torch.stack(tuple(output))


@every_model
def test_images_become_logits(name: str) -> None:
    model = tiny(name, num_classes=7, in_channels=1).eval()
    assert (model.num_classes, model.image_size, model.in_channels) == (7, 32, 1)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@every_model
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = shaken(tiny(name).train())  # SwinV2 starts with branches that add nothing
    logits_of(model(torch.randn(2, 3, 32, 32))).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_model
def test_the_same_seed_gives_the_same_weights_and_output(name: str) -> None:
    first, second = tiny(name, drop_path_rate=0.5), tiny(name, drop_path_rate=0.5)
    images = torch.randn(4, 3, 32, 32)
    outputs = []
    for model in (first, second):
        torch.manual_seed(1)
        outputs.append(logits_of(model.train()(images)))
    assert torch.equal(*outputs)


@every_model
def test_a_state_dict_makes_the_round_trip(name: str) -> None:
    first, second, images = tiny(name).eval(), tiny(name).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(0.5)
    assert not torch.equal(first(images), second(images))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(first(images), second(images))


@every_model
def test_the_head_follows_the_features(name: str) -> None:
    model, images = tiny(name).eval(), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), model.forward_head(model.forward_features(images)))


@cache
def exported(name: str) -> torch.export.ExportedProgram:
    """Export a model with a free batch."""
    example = (torch.zeros(2, 3, 32, 32),)
    # A forward that makes a plain number of its batch freezes it, and this raises.
    free = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(shaken(tiny(name)).eval(), example, dynamic_shapes=free)


def check_any_batch(name: str) -> None:
    """Ask a model and its export for batches of other sizes."""
    model, free = shaken(tiny(name)).eval(), exported(same_as(name))
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        torch.testing.assert_close(free.module(check_guards=False)(images), model(images))


@every_class
def test_an_exported_model_takes_any_number_of_images(name: str) -> None:
    check_any_batch(name)


@pytest.mark.slow
@every_model
def test_every_exported_preset_takes_any_number_of_images(name: str) -> None:
    check_any_batch(name)


@every_model
def test_activation_checkpointing_changes_no_number(name: str) -> None:
    images = torch.randn(2, 3, 32, 32)
    gradients = []
    for checkpointing in (False, True):
        model = tiny(name, drop_path_rate=0.3).train()
        model.activation_checkpointing = checkpointing
        torch.manual_seed(1)
        logits_of(model(images)).square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for parameter, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][parameter]), parameter


@every_model
def test_undecayed_names_are_names_of_parameters(name: str) -> None:
    model = tiny(name)
    components = {part for n, _ in model.named_parameters() for part in (n, n.split(".")[-1])}
    # Some stand for options, such as a second token; a model without tokens may name none.
    assert not model.no_weight_decay or model.no_weight_decay & components


@every_model
def test_every_parameter_has_one_depth_and_depths_rise(name: str) -> None:
    model = tiny(name)
    groups = model.depth_groups()
    names = [n for n, _ in model.named_parameters()]
    for parameter in names:
        covering = [
            i
            for i, prefixes in enumerate(groups)
            if any(f"{parameter}.".startswith(f"{prefix}.") for prefix in prefixes)
        ]
        assert covering == [model.layer_id(parameter)], parameter
    assert {model.layer_id(n) for n in names} == set(range(len(groups)))


@every_model
def test_a_linear_probe_trains_only_the_heads(name: str) -> None:
    model = tiny(name)
    freeze(model, "backbone")
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(n.startswith("head") for n in trained)


@every_model
def test_freezing_blocks_leaves_everything_above_them(name: str) -> None:
    model = tiny(name)
    frozen = freeze(model, 1)
    for n, p in model.named_parameters():
        assert p.requires_grad == (model.layer_id(n) > 1) == (n not in frozen)


@every_model
def test_a_model_without_that_many_blocks_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"freeze \(99\) must be backbone or at most the \d+ blocks"
    ):
        freeze(tiny(name), 99)


@every_model
def test_images_with_other_channels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="in_channels"):
        tiny(name)(torch.randn(2, 4, 32, 32))


@pytest.mark.slow
@every_class
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_is_one_graph_without_breaks(name: str, checkpointing: bool) -> None:
    torch.compiler.reset()
    model, images = tiny(name, drop_path_rate=0.1).train(), torch.randn(2, 3, 32, 32)
    model.activation_checkpointing = checkpointing
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits_of(compiled(images)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@every_model
def test_every_argument_is_explained(name: str) -> None:
    component = MODELS[name]
    text = component.constructor.__doc__
    missing = [key for key, _, _ in component.parameters() if f"\n        {key}: " not in text]
    assert missing == []
    assert "arXiv:" in component.reference


@every_model
def test_the_layout_covers_the_image(name: str) -> None:
    layout = tiny(name).attention_layout(32, 32)
    assert set(layout.pooled) <= set(layout.patches[-1].prefix)
    assert 32 % layout.patches[0].rows == 0
    for above, below in pairwise(layout.patches):
        assert below.rows in (above.rows, math.ceil(above.rows / 2))
        assert below.columns in (above.columns, math.ceil(above.columns / 2))


@every_model
def test_the_layout_says_where_each_token_lies(name: str) -> None:
    """A changed cell of the image changes its tokens, and its places in the attention weights."""
    model = shaken(tiny(name)).eval()
    layout = model.attention_layout(32, 32)
    firsts = {layer.level: layer for layer in reversed(layout.layers)}.values()
    for layer, place in product(firsts, (0, layout.layers[0].columns // 2 + 1, -1)):
        images = torch.randn(1, 3, 32, 32)
        row, column = divmod(place % (layer.rows * layer.columns), layer.columns)
        high, wide = 32 // layer.rows, 32 // layer.columns
        other = images.clone()
        other[..., row * high : (row + 1) * high, column * wide : (column + 1) * wide] += 1
        (tokens, weights), (tokens2, weights2) = (
            at_the_door(model, layout, layer, x) for x in (images, other)
        )
        changed = on_the_map(tokens2 - tokens, layer).abs().sum(-1) > 1e-4  # (rows, columns)
        assert changed[row, column]
        # Words read beyond their cell, and in the legacy layout beyond their patch.
        alone = layer.level == "patches" and "legacy" not in name
        assert not alone or changed.sum() == 1
        if layer.windows is None:
            places = torch.cat([torch.zeros(len(layer.prefix)), changed.flatten()]).bool()[None]
        else:
            padded = torch.cat([changed.flatten(), torch.zeros(1, dtype=torch.bool)])
            places = padded[layer.windows.order].view(len(weights), -1)  # (windows, n)
        touched = (weights2 - weights).abs().flatten(1).amax(1) > 1e-6
        assert torch.equal(touched, places.any(1))
        if alone:
            # The ratio of two weights of a row knows of no third token, so that only the column of
            # the changed one moves against the others; in its own row all do.
            ratio = (weights2 / weights).log()
            moved = (ratio - ratio.median(-1, keepdim=True).values).abs() > 1e-5
            assert torch.equal(moved.float().mean((1, 2)) > 0.6, places)


def at_the_door(
    model: ImageClassifier, layout: AttentionLayout, layer: AttentionLayer, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what goes into a layer's attention, and its weights."""
    inputs: list[torch.Tensor] = []
    weights: dict[str, torch.Tensor] = {}
    modules = {one.module: model.get_submodule(one.module) for one in layout.layers}
    handle = modules[layer.module].register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    with torch.no_grad(), probed(modules, weights.__setitem__):
        model.forward_features(images)
    handle.remove()
    return inputs[0], weights[layer.module]


def on_the_map(x: torch.Tensor, layer: AttentionLayer) -> torch.Tensor:
    """Lay the input of an attention module of one image out as (rows, columns, channels)."""
    if layer.level == "words":  # (N, m, c): patch by patch, and in each word by word
        side = layer.windows.side
        grid = layer.rows // side
        return x.view(grid, -1, side, side, x.shape[-1]).transpose(1, 2).flatten(0, 1).flatten(1, 2)
    if x.dim() == 4:
        return x[0]
    return x[0, len(layer.prefix) :].view(layer.rows, layer.columns, -1)
