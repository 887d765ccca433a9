"""Read what a run folder says, as the plain data that a report is made from."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from vtrain.config import Config, load_config
from vtrain.data.datasets.samples import SplitName
from vtrain.data.inspect.fingerprint import fingerprint
from vtrain.errors import CheckpointError, DataError, VtrainError
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.images import read_image
from vtrain.files.runs import RunFolder
from vtrain.models.profile import count_macs, count_parameters
from vtrain.report.comparison import Run
from vtrain.report.facts import Change, RunFacts
from vtrain.report.predictions import Predictions
from vtrain.report.thumbnails import ReadImage
from vtrain.run.build.data import build_source
from vtrain.run.build.model import build_model
from vtrain.run.text.command import at_step

log = logging.getLogger(__name__)
NAMED_BY = 2
"""Parts of its path: the config's name and the date, as `runs/` holds them."""


def read_run(path: Path) -> Run:
    """Return a run's facts and, where they were kept, its predictions.

    Raises:
        CheckpointError: There is no run in the folder, or its predictions are damaged.
        ConfigError: Its config is not valid.
    """
    folder = RunFolder(path)
    if not folder.is_started:
        of_file = path.is_file() and RunFolder(path.parent).is_started
        what = "there is no run in this folder" if path.is_dir() else "this is no run folder"
        hint = f"name the folder of its run: {path.parent}" if of_file else folder.instead
        raise CheckpointError(what, path, hint or "name a run folder")
    config = load_config(folder.config)
    predictions = Predictions.load(folder.predictions) if folder.predictions.exists() else None
    checkpoint = _checkpoint(folder)
    facts = RunFacts(
        name="/".join(path.resolve().parts[-NAMED_BY:]),  # a date alone names no experiment
        folder=str(path),
        config=config.model_dump(mode="json"),
        changes=list(changes_of(config)),
        rows=folder.read_metrics(),
        summary=folder.read_summary(),
        environment=folder.read_environment(),
        status=folder.read_status(),
        train_counts=None if checkpoint is None else train_counts(checkpoint),
        model={} if checkpoint is None else _model_figures(folder, config, checkpoint),
        notes=[] if checkpoint is None else _notes(predictions, checkpoint),
    )
    return Run(facts, predictions, {} if checkpoint is None else checkpoint.dataset)


def changes_of(section: BaseModel, prefix: str = "") -> Iterator[Change]:
    """Yield the keys of a config whose values are not the defaults, and those without one."""
    data = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        default = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from changes_of(value, f"{prefix}{name}.")
        elif default is PydanticUndefined:
            yield Change(f"{prefix}{name}", data[name], None)
        elif value != default:
            plain = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            yield Change(f"{prefix}{name}", data[name], plain)


def train_counts(checkpoint: Checkpoint) -> dict[str, int] | None:
    """Return how many images of each class were trained on, if the checkpoint says."""
    try:
        counts = [int(count) for count in checkpoint.dataset["train"]["per_class"]]
    except (KeyError, TypeError, ValueError):
        return None
    # The list ends with the last class that has an image.
    counts += [0] * (len(checkpoint.classes) - len(counts))
    return dict(zip(checkpoint.classes, counts, strict=True))


def images_changed(run: Run) -> bool:
    """Whether the images that predictions are of are other ones by now; of none at hand False."""
    assert run.predictions is not None
    split: Any = run.predictions.about.get("split")
    if split not in get_args(SplitName):
        return False
    try:
        now = fingerprint(build_source(_offline_config(run.facts), dict(run.dataset)).split(split))
    except VtrainError:
        return False
    return now != run.predictions.about.get("images")


def image_reader(facts: RunFacts, predictions: Predictions) -> ReadImage | None:
    """Return what reads the images of predictions, or None where they are not at hand."""
    places: dict[str, int] = {}
    try:
        source, split = build_source(_offline_config(facts)), predictions.about.get("split")
        # Of all images, however they were split: they are looked up by name.
        whole = replace(source, val_fraction=0.0, fold=None, fraction=1.0, limit=None)
        samples = whole.split("train" if source.holds_out or split == "train" else "val")
        places = {samples.name(index): index for index in range(len(samples))}
    except VtrainError as error:
        log.info("the run's dataset is not at hand: %s", error)

    def read(index: int) -> Image.Image:
        name = predictions.ids[index]
        if name in places:
            return samples.image(places[name])
        if Path(name).is_file():  # evaluated on another dataset
            return read_image(name)
        raise DataError("no such image", name)

    known = (name in places or Path(name).is_file() for name in predictions.ids)
    return read if any(known) else None


def _offline_config(facts: RunFacts) -> Config:
    """Return a run's config, changed so that a report fetches no dataset."""
    overrides = ["data.download=false"] if "download" in facts.config["data"] else []
    return load_config(RunFolder(Path(facts.folder)).config, overrides)


def _checkpoint(folder: RunFolder) -> Checkpoint | None:
    try:
        return Checkpoint.load(folder.checkpoint)
    except CheckpointError as error:  # half-finished, or cleaned up: the rest can be told
        log.warning("%s", error)
        return None


def _model_figures(folder: RunFolder, config: Config, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the size of the model and of its file."""
    with torch.device("meta"):  # shapes alone
        model = build_model(config, len(checkpoint.classes))
    return {
        "checkpoint": folder.checkpoint.name,
        "step": checkpoint.state.get("step"),
        "checkpoint_bytes": folder.checkpoint.stat().st_size,
        "parameters": count_parameters(model),
        "gmacs": count_macs(model) / 1e9,
    }


def _notes(predictions: Predictions | None, checkpoint: Checkpoint) -> list[str]:
    """Say where the predictions are not what one would take them for."""
    if predictions is None:
        return []
    notes = []
    step, split = predictions.about.get("step"), str(predictions.about.get("split"))
    now = checkpoint.state.get("step")
    if step != now:
        notes.append(
            f"The predictions are of {at_step(step)}, the checkpoint is of {at_step(now)}."
        )
    if predictions.about.get("images") != checkpoint.dataset.get(split):
        notes.append("The predictions are of other images than the run was begun with.")
    return notes
