"""The probe against float64 attention that is computed here from the weights."""

import threading

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.layers.attention import SelfAttention, attend
from vtrain.layers.probe import current_probe, probed
from vtrain.layers.windows import relative_position_index
from vtrain.models.layout import AttentionLayer
from vtrain.registry import MODELS


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(rows, n, D) -> (rows, heads, n, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def by_hand(module: nn.Module, x: Tensor, layer: AttentionLayer) -> Tensor:
    """Attention weights from a module's parameters and its input, as the papers write them."""
    if layer.windows is None or layer.level == "words":
        parts = (
            nn.functional.linear(x, module.qkv.weight, module.qkv.bias).chunk(3, -1)[:2]
            if hasattr(module, "qkv")
            else nn.functional.linear(x, module.qk.weight).chunk(2, -1)
        )
        q, k = (heads_of(part, module.num_heads) for part in parts)
        return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
    # Swin: pad, roll, cut, as the official code does, without vtrain's permutation.
    windows, side = layer.windows, layer.windows.side
    H, W = x.shape[1:3]
    x = nn.functional.pad(x, (0, 0, 0, -W % side, 0, -H % side))
    x = x.roll((-windows.shift, -windows.shift), (1, 2))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    x = x.view(len(x), rows, side, columns, side, -1).transpose(2, 3)
    x = x.reshape(-1, side**2, x.shape[-1])  # (B * nW, n, C)
    if hasattr(module, "logit_scale"):
        bias = torch.cat([module.q_bias, torch.zeros_like(module.q_bias), module.v_bias])
        q, k, _ = nn.functional.linear(x, module.qkv.weight, bias).chunk(3, -1)
        q, k = (
            nn.functional.normalize(heads_of(part, module.num_heads), dim=-1) for part in (q, k)
        )
        scores = q @ k.mT * module.logit_scale.clamp(max=torch.tensor(100.0).log()).exp()
        table = 16 * module.cpb_mlp(module.offsets).sigmoid()
    else:
        q, k, _ = module.qkv(x).chunk(3, -1)
        q, k = heads_of(q, module.num_heads), heads_of(k, module.num_heads)
        scores = q @ k.mT * q.shape[-1] ** -0.5
        table = module.relative_position_bias_table
    if table is not None:
        index = relative_position_index(module.bias_of_offsets.side)
        largest = module.bias_of_offsets.side
        index = index.view((largest,) * 4)[:side, :side, :side, :side].reshape(side**2, -1)
        scores = scores + table[index].permute(2, 0, 1)
    if windows.shift:
        regions = torch.zeros(rows * side, columns * side, dtype=torch.long)
        edges = (slice(0, -side), slice(-side, -windows.shift), slice(-windows.shift, None))
        for number, (y, z) in enumerate((y, z) for y in edges for z in edges):
            regions[y, z] = number  # the nine areas of the official code
        regions = regions.view(rows, side, columns, side).transpose(1, 2).reshape(-1, side**2)
        apart = (regions[:, :, None] != regions[:, None, :]).double() * -100.0
        scores = scores.unflatten(0, (-1, len(apart))) + apart[:, None]
        scores = scores.flatten(0, 1)
    return scores.softmax(-1)


CASES = [
    ("vit_ti", {}),
    ("vit_ti", {"pooling": "mean", "num_registers": 2}),
    ("deit_ti_distilled", {}),
    ("tnt_ti", {}),
    ("tnt_ti", {"layout": "legacy"}),
    ("swin_t", {"window_size": 4}),  # 16 x 16 and 8 x 8: shifts, no padding
    ("swin_t", {"window_size": 7}),  # both need padding
    ("swin_t", {"relative_position_bias": False}),
    ("swin_t", {"window_shift": False}),
    ("swinv2_t", {"window_size": 4}),
    ("swinv2_t", {"window_size": 5, "pretrained_window_sizes": (4, 3)}),
]


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_weights_equal_those_computed_from_the_parameters(
    name: str, arguments: dict[str, object], dtype: torch.dtype
) -> None:
    model = shaken(tiny(name, **arguments)).eval().to(dtype)
    images = torch.randn(2, 3, 32, 32, dtype=dtype)
    layers = {layer.module: layer for layer in model.attention_layout(32, 32).layers}
    inputs: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    for module in layers:
        model.get_submodule(module).register_forward_pre_hook(
            lambda _, given, module=module: inputs.__setitem__(module, given[0].double())
        )
    with probed({m: model.get_submodule(m) for m in layers}, seen.__setitem__):
        logits = model.forward_head(model.forward_features(images))
    torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-6)
    assert list(seen) == list(layers)
    assert {weights.dtype for weights in seen.values()} == {dtype}
    error = 1e-12 if dtype == torch.float64 else 1e-6
    if name == "swinv2_t" and dtype == torch.float32:
        error = 2e-6  # scores up to 10 + 16, of which fp32 keeps 24 bits
    model.double()
    for module, layer in layers.items():
        expected = by_hand(model.get_submodule(module), inputs[module], layer)
        torch.testing.assert_close(seen[module].double(), expected, rtol=0, atol=error)


def test_nothing_is_kept_or_different_without_the_probe() -> None:
    layer, x = SelfAttention(8, 2), torch.randn(2, 5, 8)
    before = layer(x)
    with probed({"": layer}, lambda *_: None):
        layer(x)
    assert current_probe() is None
    assert not layer._forward_pre_hooks
    assert torch.equal(before, layer(x))


def test_gradients_reach_the_weights() -> None:
    layer, x = SelfAttention(8, 2), torch.randn(2, 5, 8)
    seen: dict[str, Tensor] = {}
    with probed({"attn": layer}, seen.__setitem__):
        y = layer(x).sum()
    (gradient,) = torch.autograd.grad(y, seen["attn"])
    assert gradient.shape == (2, 2, 5, 5)
    assert gradient.any()


def test_weights_are_fp32_where_the_model_computes_in_bf16() -> None:
    layer, x = SelfAttention(8, 2), torch.randn(2, 5, 8)
    seen: dict[str, Tensor] = {}
    with probed({"attn": layer}, seen.__setitem__), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert seen["attn"].dtype == torch.float32
    torch.testing.assert_close(seen["attn"].sum(-1), torch.ones(2, 2, 5), rtol=0, atol=1e-6)


def test_another_thread_is_not_probed() -> None:
    layer, seen = SelfAttention(8, 2), []
    with probed({"attn": layer}, lambda name, _: seen.append(name)):
        other = threading.Thread(target=layer, args=(torch.randn(2, 5, 8),))
        other.start()
        other.join()
        assert seen == []
        layer(torch.randn(2, 5, 8))
    assert seen == ["attn"]


def test_what_is_compiled_is_refused() -> None:
    layer = SelfAttention(8, 2)
    for compiled in (torch.compile(layer, backend="eager"), nn.Sequential(layer)):
        if compiled is not layer and isinstance(compiled, nn.Sequential):
            layer.compile(backend="eager")
        with pytest.raises(RuntimeError, match="compiled"), probed({"a": compiled}, print):
            pass


def test_attention_that_nobody_saw_is_an_error() -> None:
    with (
        pytest.raises(RuntimeError, match="a was not computed"),
        probed({"a": nn.Identity()}, print),
    ):
        pass


def test_a_captured_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnCuda(Tensor):
        is_cuda = True

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    layer, q = nn.Identity(), torch.randn(1, 1, 2, 4).as_subclass(OnCuda)
    with probed({"a": layer}, lambda *_: None):
        layer(None)
        with pytest.raises(RuntimeError, match="CUDA graph"):
            attend(q, q, q)


def test_a_compiled_step_has_no_probe_in_it() -> None:
    """Traced code asks for no probe, so that it has no guard on one either."""
    asked = []

    def look(x: Tensor) -> Tensor:
        asked.append(current_probe())
        return x + 1

    torch.compiler.reset()
    layer = nn.Identity()
    with probed({"a": layer}, lambda *_: None):
        layer(None)
        torch.compile(look, backend="eager", fullgraph=True)(torch.ones(1))
    torch.compiler.reset()
    assert asked in ([None], [])


def test_every_family_is_here() -> None:
    families = {MODELS[name].constructor for name in MODELS.names()}
    assert {type(tiny(name)) for name, _ in CASES} == families
