"""`vtrain explain --features`: what heads read of validation images, drawn and measured."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtrain.data.labels import refuse_several
from vtrain.data.progress import said_if_long
from vtrain.device import choose_device
from vtrain.errors import StorageError
from vtrain.explain.features import FEWEST, plane
from vtrain.explain.learnt import Drawn, Section, page
from vtrain.explain.portraits import scatter_figure
from vtrain.explain.separation import FOLDS, LEVEL, NEIGHBOURS, Figure, separation
from vtrain.files.atomic import write_json, write_text
from vtrain.inference.feature_file import FeatureFile, model_hash
from vtrain.inference.features import features_of, gathered
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.run.evaluate import prepare
from vtrain.run.explain import opened_folder
from vtrain.run.explain_model import Findings, refuse_other_channels
from vtrain.run.predict import newest_checkpoint

IMAGES = 1000
"""Of the validation images, an equal share of each class."""
SAID = {
    "silhouette": "silhouette (cosine)",
    "knn_accuracy": f"accuracy of {NEIGHBOURS} nearest neighbours (cosine)",
    "fisher_ratio": "Fisher ratio, between classes / within",
    "effective_rank": "effective rank",
    "linear_probe": f"accuracy of a linear probe ({FOLDS} parts)",
}
HONESTY = (
    "Distances on a t-SNE mean nothing, and two of them cannot be compared: what counts "
    "are the figures, which are of the features themselves. Brackets are {level:.0%} bootstrap "
    "intervals over images; no image is its own neighbour, nor judged by a probe that has seen it."
)


@dataclass(frozen=True)
class Features:
    """What a model's heads read of N images, (N, D), what they are of, (N,), and their names."""

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]


def explain_features(
    ckpt: Path | None,
    against: Path | None = None,
    output: Path | None = None,
    save: Path | None = None,
    force: bool = False,
) -> Findings:
    """Write `features.html` and `features.json` of up to `IMAGES` validation images of the run.

    Another model is shown the same images, as it sees them. With `save` the features are written
    there, for other programs.

    Raises:
        CheckpointError: There is no usable checkpoint, or its features are not finite.
        StorageError: There is something already at `output` or `save`, and `force` is not given.
    """
    if save is not None and save.exists() and (save.is_dir() or not force):
        raise StorageError("there is something already", save, "choose another name or --force")
    loaded = load_model(ckpt or newest_checkpoint(), choose_device("auto"))
    models = [loaded]
    if against is not None:
        models.append(load_model(against, choose_device("auto")))
        refuse_other_channels(*models)
    with opened_folder(output, force) as folder:
        found = [read_features(one, loaded) for one in models]
        if save is not None:
            keep(save, found, loaded)
        names = [str(one.path) for one in models]
        with said_if_long("measuring the features"):
            figures = [separation(one.values, one.labels) for one in found]
        with said_if_long("drawing the features"):
            drawn = drawings(found, loaded.classes, names)
        rows = table(figures)
        guess = guessing(found[0].labels)
        text = f"{HONESTY.format(level=LEVEL)} {guess}."
        if not drawn:
            text += f" There is no picture: it needs {FEWEST} images that differ."
        data = facts(models, found, figures)
        about = f"{len(found[0].labels)} validation images of the run of {names[0]}"
        if against is not None:
            about += f"; the other model is {names[1]}"
        section = Section(
            "features", "How well features tell classes apart", text, drawn, data, rows
        )
        title = f"What the heads of {names[0]} read"
        write_text(folder / "features.html", page(title, about, [section]))
        write_json(folder / "features.json", data)
        return Findings(folder, data, [*lines(rows), guess])


def read_features(loaded: LoadedModel, source: LoadedModel) -> Features:
    """Return the features of validation images of the run of `source`, in its precision.

    Raises:
        CheckpointError: They are not finite.
    """
    # The images of one run, prepared and judged as the other model was trained to see them.
    looked_at = replace(source, geometry=loaded.geometry)
    subject = prepare(looked_at, ("train.device=auto",), "val")
    refuse_several(subject.samples.targets, "what features tell classes apart by")
    samples = subject.sampled(IMAGES)
    batches = subject.loader_of(samples).batches("computing features")
    loaded.model.to(subject.device)
    read = gathered(features_of(loaded, batches, subject.autocast), len(samples))
    names = tuple(samples.name(index) for index in read.indices.tolist())
    return Features(read.features.numpy(), read.targets.numpy(), names)


def guessing(labels: NDArray[np.int64]) -> str:
    """Say what an accuracy is to be compared with: what is right by chance. Shape: (N,)."""
    share = np.unique(labels, return_counts=True)[1].max() / len(labels)
    return f"by chance, naming the most frequent class alone, an accuracy is {share:.3f}"


def keep(path: Path, found: list[Features], loaded: LoadedModel) -> None:
    """Write what `--save` asks for: the features, and those of the other model beside them."""
    first, *others = found
    file = FeatureFile(first.values, first.ids, model_hash(loaded), loaded.classes, first.labels)
    file.save(path, **({"features_against": others[0].values} if others else {}))


def drawings(found: list[Features], classes: tuple[str, ...], names: list[str]) -> list[Drawn]:
    """Return the planes side by side, or nothing where one of them cannot be drawn."""
    planes = [points for one in found if (points := plane(one.values)) is not None]
    if len(planes) < len(found):
        return []
    caption = "t-SNE, the same images with the same colours and marks; axes have no unit."
    return [Drawn(caption, scatter_figure(planes, found[0].labels, classes, names))]


def facts(
    models: list[LoadedModel], found: list[Features], figures: list[dict[str, Figure]]
) -> dict[str, Any]:
    """Return every number."""
    data: dict[str, Any] = {
        "images": len(found[0].labels),
        "classes": len(np.unique(found[0].labels)),
        "models": [
            {"checkpoint": str(model.path), "dimensions": one.values.shape[1]}
            | {name: plain(figure) for name, figure in measured.items()}
            for model, one, measured in zip(models, found, figures, strict=True)
        ],
    }
    if len(figures) == 2:
        data["difference"] = {n: plain(f.minus(figures[1][n])) for n, f in figures[0].items()}
    return data


def plain(figure: Figure) -> dict[str, Any]:
    """Return a figure as JSON holds it."""
    interval = None if figure.interval is None else list(figure.interval)
    reason = {"reason": figure.reason} if figure.reason else {}
    return {"value": figure.value, "interval": interval, **reason}


def table(figures: list[dict[str, Figure]]) -> list[list[str]]:
    """Return the figures as rows of text, the head first."""
    two = len(figures) == 2
    rows = [["measure", "this model", *(["the other", "difference", ""] if two else [])]]
    for name in figures[0]:
        row = [SAID[name], *(said(one[name]) for one in figures)]
        if two:
            difference = figures[0][name].minus(figures[1][name])
            row += [said(difference), verdict(difference)]
        rows.append(row)
    return rows


def said(figure: Figure) -> str:
    """Return a figure with its interval, or why there is none."""
    if figure.value is None:
        return f"cannot be told: {figure.reason}"
    if figure.interval is None:
        return f"{figure.value:.3f} ({figure.reason})"
    low, high = figure.interval
    return f"{figure.value:.3f} [{low:.3f}, {high:.3f}]"


def verdict(difference: Figure) -> str:
    """Say whether a difference is more than chance."""
    if difference.interval is None:
        return ""
    low, high = difference.interval
    if low <= 0 <= high:
        return "not shown to differ"
    return "higher" if low > 0 else "lower"


def lines(rows: list[list[str]]) -> list[str]:
    """Return rows of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
