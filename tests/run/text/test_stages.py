"""The table of a model's stages says who attends to whom, and what is padded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.harness import Vtrain
from vtrain.layers.windows import Windows
from vtrain.models.profile import profile
from vtrain.models.swin import PatchMerging
from vtrain.registry import MODELS
from vtrain.run.text.stages import padding_notes, stages_text


def swin(image_size: int, window_size: int) -> nn.Module:
    sizes = {"depths": (2, 2), "num_heads": (1, 2), "embed_dim": 8, "patch_size": 1}
    return MODELS["swin_t"](10, image_size, window_size=window_size, **sizes)  # type: ignore[no-any-return]


@pytest.mark.parametrize("side", [3, 4, 7, 9, 16])
@pytest.mark.parametrize("window", [2, 3, 5])
def test_padding_is_said_where_the_layers_pad_and_nowhere_else(side: int, window: int) -> None:
    """Against what the layers themselves do with a map."""
    with torch.device("meta"):
        notes = list(padding_notes(profile(swin(side, window)).stages))
    wanted = []
    for name, rows in (("layers.0", side), ("layers.1", -(-side // 2))):
        cut = Windows(rows, rows, min(window, rows))
        tokens = cut.split(torch.ones(1, rows, rows, 1))
        if tokens.numel() > rows**2:  # with zeros beside the map's own
            whole = round(tokens.numel() ** 0.5)
            wanted.append((name, f"map of {rows} x {rows}, which is padded to {whole} x {whole}"))
    if F.pad(torch.ones(side), (0, side % 2)).numel() > side:
        assert PatchMerging(1)(torch.ones(1, side, side, 1)).shape[1] == (side + 1) // 2
        wanted.append(("layers.0", f"padded to {side + 1} x {side + 1} before it is halved"))
    assert len(notes) == len(wanted)
    for note, (name, text) in zip(notes, wanted, strict=True):
        assert note.startswith(f"{name}: ")
        assert text in note


def test_the_parameters_of_the_lines_are_all_there_are() -> None:
    for name in ("vit_ti", "tnt_s", "swin_t", "deit_s"):
        with torch.device("meta"):
            cost = profile(MODELS[name]())
        header, *lines = stages_text(cost).splitlines()
        end = header.index("parameters") + len("parameters")
        shown = [int(line[:end].split()[-1].replace(",", "")) for line in lines]
        assert sum(shown) == cost.parameters


def test_check_says_heads_windows_shift_and_padding(small_run: object, vtrain: Vtrain) -> None:
    model = "model={name: swin_t, patch_size: 1, depths: [2, 2], num_heads: [1, 2], embed_dim: 8, "
    done = vtrain("check", small_run, model + "window_size: 3}", "optimizer.weight_decay=0")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    first = next(line for line in lines if line[:1] == ["layers.0"])
    assert " ".join(first).endswith("1 3 x 3 of 16 x 16 0, 1")
    assert "note" in done.out
    assert "windows of 3 x 3 do not fit the map of 16 x 16, which is padded to 18 x 18" in done.out
