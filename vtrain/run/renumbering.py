"""The classes of images by the names and the numbers that a model has for them."""

import torch
from torch import Tensor

from vtrain.data.datasets.class_names import places
from vtrain.data.labels import classes_present, has_several
from vtrain.errors import DataError
from vtrain.inference.loaded import LoadedModel


def names_in_data(loaded: LoadedModel, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return a model's classes as the folders call them, which `vtrain rename` leaves alone."""
    before = tuple(loaded.checkpoint.dataset.get("classes", ()))
    renamed = len(before) == len(loaded.classes) and before != loaded.classes
    return before if renamed and not places(classes, before)[1] else loaded.classes


def refuse_other_labels(loaded: LoadedModel, targets: Tensor) -> None:
    """Refuse images of several labels for a model of one class each, and the other way round.

    Raises:
        DataError: They do not fit.
    """
    if has_several(targets) and not loaded.task.thresholds:
        what = "the images have several labels each, and the model names one class"
        raise DataError(what, hint="evaluate on images of one class each")
    if loaded.task.thresholds and not has_several(targets):
        what = "the images have one class each, and the model names several labels"
        raise DataError(what, hint="set data.label_separator or data.label_columns of a list")


def renumbered(targets: Tensor, classes: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Give targets the numbers that a model's classes have, by name.

    Shape: (N,) -> (N,), or (N, K) -> (N, number of the model's classes).

    Raises:
        DataError: A class of the images is not among the model's.
    """
    present = classes_present(targets)  # one without images, such as an empty folder, does no harm
    numbers, unknown = places([classes[label] for label in present.tolist()], known)
    if unknown:
        raise DataError(
            f"the model does not know class '{unknown[0]}' ({len(unknown)} of {len(classes)} "
            f"classes are unknown; the model has {len(known)})",
            hint="evaluate on a dataset with the classes that the model was trained for",
        )
    if has_several(targets):
        absent = set(places(classes, known)[1])
        there = [k for k, name in enumerate(classes) if name not in absent]
        columns = targets.new_zeros(len(targets), len(known))
        columns[:, places([classes[k] for k in there], known)[0]] = targets[:, there]
        return columns
    order = torch.full((len(classes),), -1)
    order[present] = torch.tensor(numbers, dtype=torch.int64)
    return order[targets]
