"""What a model learnt, as sections of a page: text, figures, and every number behind them."""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtrain.explain import portraits
from vtrain.explain.reach import attention_reach
from vtrain.explain.similarity import cka, features_of
from vtrain.explain.weights import (
    filters,
    nearness,
    positions,
    regions,
    relative_biases,
    similarity,
    window_of,
)
from vtrain.files.plain import plain
from vtrain.models.base import ImageClassifier

Batches = Callable[[], Iterable[Tensor]]
"""Gives the same normalised images again, (B, C, height, width), at least four in each batch."""


@dataclass(frozen=True)
class Drawn:
    """A figure, a PNG, with what it shows."""

    caption: str
    png: bytes

    @property
    def uri(self) -> str:
        """An address that holds it, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Section:
    """A part of the page; `data` is what its figures are drawn of."""

    key: str
    title: str
    text: str
    figures: Sequence[Drawn] = ()
    data: Any = field(default_factory=dict)
    table: Sequence[Sequence[str]] = ()
    """Rows of text, the head of the table first."""


def sections_of(
    model: ImageClassifier, batches: Batches, photograph: NDArray[np.uint8]
) -> list[Section]:
    """Return what one model learnt; `photograph` (rows, columns, 3) lies under its windows."""
    found = [reach_section(model, batches), filters_section(model), positions_section(model)]
    if any(layer.windows is not None for layer in model_layers(model)):
        found.append(windows_section(model, photograph))
    if biases := relative_biases(model):
        found.append(biases_section(biases))
    return found


def model_layers(model: ImageClassifier) -> Sequence[Any]:
    """Return the layers among patches at the model's own size."""
    return model.attention_layout(model.image_size, model.image_size).patches


def reach_section(model: ImageClassifier, batches: Batches) -> Section:
    """Return how far attention reaches by depth."""
    layers = attention_reach(model, batches())
    figures = []
    for level in ("patches", "words"):
        chosen = [layer for layer in layers if layer.level == level]
        if chosen:
            caption = f"A dot is a head, the line is what uniform attention would be ({level})."
            figures.append(Drawn(caption, portraits.reach_figure(chosen, f"among {level}")))
    among_patches = [layer for layer in layers if layer.level == "patches"]
    caption = "Entropy (1: looks at all alike, 0: at one token), and where the mass is."
    figures.append(Drawn(caption, portraits.entropy_figure(among_patches)))
    text = (
        "The mean distance between a patch and what it attends to, in pixels. \u201cAs "
        "published\u201d drops the attention to the class token, leaves the rest as it is, and so "
        "makes deep layers look more local than they are; \u201crenormalised\u201d scales the rest "
        "up to 1. In windows reach is bounded by construction: compare with the dashed line."
    )
    data = [{name: plain(value) for name, value in vars(layer).items()} for layer in layers]
    return Section("attention_reach", "How far attention reaches", text, figures, data)


def filters_section(model: ImageClassifier) -> Section:
    """Return the principal components of the first filters."""
    components, shares = filters(model)
    shown = components if components.shape[-1] == 3 else components.mean(-1)
    caption = f"{len(shown)} components, largest first; each on its own scale."
    drawn = Drawn(caption, portraits.tiles_figure(shown, "principal components of the filters"))
    text = f"Together these components hold {shares.sum():.0%} of the filters' variance."
    data = {"components": plain(components), "share_of_variance": plain(shares)}
    return Section("filters", "What the first layer looks for", text, [drawn], data)


def positions_section(model: ImageClassifier) -> Section:
    """Return how alike the embeddings of positions are."""
    title, table = "What positions are alike", positions(model)
    if table is None:
        text = "This model adds no position embedding to its patches."
        return Section("positions", title, text, data=None)
    first = model_layers(model)[0]
    cosines = similarity(table)
    near = nearness(cosines, first.rows, first.columns)
    drawn = portraits.positions_figure(cosines, first.rows, first.columns)
    text = (
        "Each tile is one position's cosine with all others. The correlation of the cosine with "
        f"nearness is {near:.3f}: 1 if near positions are alike, 0 for a table that knows nothing."
    )
    data = {"rows": first.rows, "columns": first.columns, "nearness": near,
            "cosines": plain(cosines)}  # fmt: skip
    figure = Drawn("A tile lies where its position does.", drawn)
    return Section("positions", title, text, [figure], data)


def windows_section(model: ImageClassifier, photograph: NDArray[np.uint8]) -> Section:
    """Return the windows of every stage over a photograph, plain and shifted, and their masks."""
    shown: dict[tuple[int, int], Any] = {}
    for layer in model_layers(model):
        shown[layer.rows, layer.windows.shift] = layer
    numbers = [window_of(layer.windows) for layer in shown.values()]
    groups = [regions(layer.windows) for layer in shown.values()]
    titles = [
        f"{layer.rows} x {layer.columns} tokens, windows of {layer.windows.side}, "
        f"{f'shifted by {layer.windows.shift}' if layer.windows.shift else 'not shifted'}"
        for layer in shown.values()
    ]
    drawn = portraits.windows_figure(photograph, numbers, groups, titles)
    text = (
        "Lines are the borders of windows. Where windows are shifted, those at the border hold "
        "tokens of opposite sides; the mask keeps them apart, and each such part has a shade."
    )
    data = [
        {"title": title, "window": plain(number), "region": plain(group)}
        for title, number, group in zip(titles, numbers, groups, strict=True)
    ]
    caption = "The windows of each stage."
    return Section("windows", "Windows and shifts", text, [Drawn(caption, drawn)], data)


def biases_section(biases: dict[str, NDArray[np.float64]]) -> Section:
    """Return the relative-position biases of each block."""
    figures = [
        Drawn(name, portraits.tiles_figure(table, name, signed=True))
        for name, table in biases.items()
    ]
    text = "What is added to the score of two tokens, by the offset between them: a tile a head."
    data = {name: plain(table) for name, table in biases.items()}
    return Section("relative_biases", "Relative positions", text, figures, data)


def similarity_section(
    one: tuple[str, ImageClassifier, Batches], other: tuple[str, ImageClassifier, Batches]
) -> Section:
    """Return how alike the layers of two models are, or of one with itself."""
    (name, model, batches), (other_name, other_model, other_batches) = one, other
    with torch.no_grad():
        matrix = cka(features_of(model, batches), features_of(other_model, other_batches)).numpy()
    drawn = portraits.matrix_figure(matrix, f"block of {other_name}", f"block of {name}")
    text = "Linear CKA, unbiased: 1 if two layers know the same of the images, 0 if nothing alike."
    itself = model is other_model
    key = "cka" if itself else "cka_against"
    title = "Layers beside each other" if itself else "Layers of both models"
    caption = f"{name} beside itself" if itself else f"{name} and {other_name}"
    return Section(key, title, text, [Drawn(caption, drawn)], plain(matrix))


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """Return the sections as one HTML file without any address outside of it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vtrain.explain", "templates"),
        autoescape=True,  # names of runs are a stranger's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    template = environment.get_template("learnt.html")
    return template.render(title=title, about=about, sections=sections)
