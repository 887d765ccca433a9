"""`vtrain explain`: where on images the evidence for a class is, as pictures and numbers."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vtrain.data.loading.batches import Batch
from vtrain.data.progress import Progress
from vtrain.device import choose_device
from vtrain.errors import DataError, StorageError
from vtrain.explain.draw import Panel, Subject, flatness, picture, sheets
from vtrain.explain.methods import (
    METHODS,
    Map,
    Request,
    images_at_once,
)
from vtrain.files.arrays import write_arrays
from vtrain.files.atomic import make_folder, write_bytes, write_json
from vtrain.files.images import read_image
from vtrain.files.runs import RunFolder
from vtrain.inference.files import Prediction
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.inference.outputs import batches_of_files
from vtrain.run.explain_question import Question, finite_logits, method_of, targets_of
from vtrain.run.find_images import find_images
from vtrain.run.predict import TOP_K, newest_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explained:
    """What was found on one image, or why there is nothing."""

    prediction: Prediction
    maps: list[dict[str, Any]] = field(default_factory=list)
    picture: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        record = self.prediction.to_dict()
        return record if self.picture is None else {**record, "maps": self.maps} | self._files()

    def _files(self) -> dict[str, Any]:
        assert self.picture is not None
        return {"picture": self.picture, "arrays": str(Path(self.picture).with_suffix(".npz"))}


@dataclass(frozen=True)
class Answer:
    """What `vtrain explain` found on all images, and where it is."""

    folder: Path
    method: str
    checkpoint: Path
    question: Question
    images: list[Explained]

    def to_dict(self) -> dict[str, Any]:
        """Return what `explain.json` holds."""
        return {
            "method": self.method,
            "layer": self.question.layer,
            "head": self.question.head,
            "checkpoint": str(self.checkpoint),
            "images": [one.to_dict() for one in self.images],
        }

    @property
    def predictions(self) -> list[Prediction]:
        """The classes of every image, or why there are none."""
        return [one.prediction for one in self.images]


def explain_images(
    patterns: list[str],
    ckpt: Path | None,
    question: Question,
    output: Path | None = None,
    force: bool = False,
) -> Answer:
    """Draw where the evidence is on every image that the patterns name.

    Without an `output` the folder is `explain/<date_time>`. In it are, for each image, a picture
    and the maps as numbers (`.npz`), `sheet_1.png` and on for several images, and `explain.json`.

    Raises:
        DataError: A pattern names nothing. An unreadable image is no exception but a result.
        CheckpointError: There is no usable checkpoint.
        ConfigError: A class, a block or a head does not exist, or the method does not look at it.
        StorageError: The folder holds something already, and `force` is not given.
    """
    paths = find_images(patterns)
    loaded = load_model(ckpt or newest_checkpoint(), choose_device("auto"))
    method = method_of(loaded, question)
    with opened_folder(output, force) as folder:
        work = _Work(loaded, paths, folder, method, question)
        answer = Answer(folder, method, loaded.path, question, list(work.explained()))
        if len(work.subjects) > 1:
            for number, content in enumerate(sheets(work.subjects), start=1):
                write_bytes(folder / f"sheet_{number}.png", content)
        write_json(folder / "explain.json", answer.to_dict())
    return answer


def open_folder(output: Path | None, force: bool) -> Path:
    """Return an empty folder to write to, or with `force` any.

    Raises:
        StorageError: There is something already, or the folder cannot be made.
    """
    if output is None:
        return RunFolder.new("explain", Path()).path
    if output.exists() and not output.is_dir():
        raise StorageError("a file where a folder should be", output, "choose another name")
    if not force and output.is_dir() and any(output.iterdir()):
        hint = "choose another name or --force"
        raise StorageError("this folder holds something already", output, hint)
    make_folder(output)
    return output


@contextmanager
def opened_folder(output: Path | None, force: bool) -> Iterator[Path]:
    """Yield what `open_folder` returns; a block that fails before it has written leaves none.

    Raises:
        StorageError: See there.
    """
    wanted = Path("explain") if output is None else output
    absent = [folder for folder in (wanted, *wanted.parents) if not folder.exists()]
    folder = open_folder(output, force)
    try:
        yield folder
    except BaseException:
        # From the inside; one that something is in refuses to go.
        for made in dict.fromkeys([folder, *absent] if output is None else absent):
            with suppress(OSError):
                made.rmdir()
        raise


class _Work:
    """Images on their way from files to pictures, a batch at a time."""

    def __init__(
        self,
        loaded: LoadedModel,
        paths: list[Path],
        folder: Path,
        method: str,
        question: Question,
    ) -> None:
        self.loaded, self.paths, self.folder = loaded, paths, folder
        self.method, self.question = method, question
        self.errors: dict[int, str] = {}
        self.subjects: list[Subject] = []
        """Small, for the contact sheet."""

    def explained(self) -> Iterator[Explained]:
        """Yield what was found on each image, in the order of the paths."""
        size = self.loaded.geometry.image_size
        batches = batches_of_files(
            self.paths,
            self.loaded.geometry,
            self.loaded.device,
            lambda number, error: self.errors.update({number: error.what}),
            images_at_once(self.loaded.model, size, size),
        )
        found: dict[int, Explained] = {}
        with Progress("explaining", "images", len(self.paths)) as bar:
            for batch in batches:
                for number, one in self.explain_batch(batch):
                    found[number] = one
                    bar.add(1)
        # Files that could not be read are in no batch: they get their places here.
        for number, path in enumerate(self.paths):
            failed = Prediction(str(path), [], self.errors.get(number))
            yield found.get(number) or Explained(failed)

    def explain_batch(self, batch: Batch) -> Iterator[tuple[int, Explained]]:
        """Yield the number of each image of a batch and what was found on it."""
        images = self.loaded.geometry.normalise(batch.images)
        logits = finite_logits(self.loaded, images)
        targets = targets_of(self.loaded, logits, self.question.targets)
        request = Request(targets, self.question.layer, self.question.head)
        maps = METHODS[self.method].function(self.loaded.model, images, request)
        top = self.loaded.task.probabilities(logits).topk(min(TOP_K, logits.shape[1]))
        names = self.loaded.classes
        for row, number in enumerate(batch.indices.tolist()):
            classes = [
                (names[k], p)
                for k, p in zip(top.indices[row].tolist(), top.values[row].tolist(), strict=True)
            ]
            try:
                yield number, self.write(number, row, classes, maps, request.targets[row])
            except DataError as error:  # the file has changed meanwhile
                self.errors[number] = error.what

    def write(
        self,
        number: int,
        row: int,
        classes: list[tuple[str, float]],
        maps: list[Map],
        targets: Tensor,
    ) -> Explained:
        """Draw one image's maps and save them."""
        path = self.paths[number]
        image = read_image(path)  # again, in full: the batch holds what the model saw
        box = self.loaded.geometry.seen_box(image.size)
        panels: list[Panel] = []
        records: list[dict[str, Any]] = []
        for one in maps:
            target = None if one.target is None else self.loaded.classes[int(targets[one.target])]
            values = one.values[row].float().cpu().numpy()
            said = [self.question.named(self.method), target, one.name]
            panels.append(Panel(": ".join(part for part in said if part), values))
            records.append({"name": one.name, "class": target} | described(values, box))
        subject = Subject(path.name, image, box, classes, panels)
        file = self.folder / file_name(number, len(self.paths), path)
        write_bytes(file, picture(subject))
        arrays = {f"map_{i}": panel.values for i, panel in enumerate(panels)}
        write_arrays(file.with_suffix(".npz"), arrays)
        self.subjects.append(subject.small())
        return Explained(Prediction(str(path), classes), records, str(file))


def described(values: Any, box: tuple[float, float, float, float]) -> dict[str, Any]:
    """Return a map's facts; places are pixels of the upright image. Shape: (rows, columns)."""
    rows, columns = values.shape
    row, column = divmod(int(values.argmax()), columns)
    left, top, right, bottom = box
    x = left + (column + 0.5) * (right - left) / columns
    y = top + (row + 0.5) * (bottom - top) / rows
    return {
        "shape": [rows, columns],
        "box": list(box),
        "min": float(values.min()),
        "max": float(values.max()),
        "hottest": [x, y],
        "flat": flatness(values) or None,
    }


def file_name(number: int, count: int, path: Path) -> str:
    """Return a name that no other image of the folder has, whatever the image's own is."""
    stem = re.sub(r"[^\w.-]+", "_", path.stem, flags=re.ASCII)[:60]
    return f"{number + 1:0{len(str(count))}d}_{stem}.png"
