"""Know a dataset again: a run goes on only with the images that it began with."""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from vtrain.data.datasets.class_names import tidy
from vtrain.data.datasets.samples import Samples
from vtrain.data.datasets.splits import Split
from vtrain.data.labels import images_per_class
from vtrain.data.progress import Progress
from vtrain.errors import DataError

log = logging.getLogger(__name__)
STEP = 1000
"""Images between two steps of the progress bar."""


def dataset_fingerprint(
    classes: Iterable[str], train: Samples, val: Samples, split: Split | None = None
) -> dict[str, Any]:
    """Return plain data that changes when a class or an image of either split changes.

    Of how they were split it has what `split_of` needs.
    """
    with Progress("reading the sizes of images", "images", len(train) + len(val)) as progress:
        parts = {"train": fingerprint(train, progress), "val": fingerprint(val, progress)}
    by_position = split is not None and split.by_position
    kept = {} if by_position else {"kept": list(split.kept_names) if split else []}
    return {"classes": list(classes), **parts, **kept}


def split_of(run: Mapping[str, Any] | None) -> tuple[tuple[str, ...], bool]:
    """Return what makes a run's split again: `kept` and `by_position` of `Split`.

    `run` is the fingerprint of the run's dataset; None or empty of a new run.
    """
    # Versions before splits by name wrote no such key.
    kept = run.get("kept") if run else []
    return tuple(map(str, kept)) if isinstance(kept, list) else (), kept is None


def fingerprint(samples: Samples, progress: Progress | None = None) -> dict[str, Any]:
    """Return plain data that changes when an image is added, removed, resized or relabelled.

    Of files, path below the root and size count, not the content: reading it all would take long.
    """
    # The order of the updates is a part of the format: fingerprints lie in checkpoints.
    digest = hashlib.sha256(samples.targets.contiguous().numpy().data)
    for number, stamp in enumerate(samples.stamps(), start=1):
        digest.update(stamp)
        if progress is not None and number % STEP == 0:
            progress.add(STEP)
    return {
        "images": len(samples),
        "per_class": images_per_class(samples.targets).tolist(),
        "sha256": digest.hexdigest(),
    }


def check_unchanged(
    before: dict[str, Any], after: dict[str, Any], where: object, *, accept: bool = False
) -> bool:
    """Refuse a dataset that is not the one of `before`; both are dataset fingerprints.

    If `accept`, it only warns of other images, and returns whether there are any; other classes
    would be other outputs of the model. `where` is the checkpoint, for the message.

    Raises:
        DataError: Classes or images were added, removed, changed or relabelled.
    """
    # Versions before this one kept a name in the Unicode form of its folder.
    if list(map(tidy, after["classes"])) != list(map(tidy, before["classes"])):
        raise DataError(
            f"the classes are not those the run began with: {_classes_change(before, after)}",
            where,
            "put back what they were, or start a new run with model.pretrained",
        )
    # Splits apart, so that the message says where to look.
    changes = [
        f"{split}: {_change(before[split], after[split])}"
        for split in ("train", "val")
        if after[split] != before[split]
    ]
    if not changes:
        return False
    what = f"the images are not those the run began with: {'; '.join(changes)}"
    if not accept:
        hint = "put them back, start a new run, or go on with --accept-data-change"
        raise DataError(what, where, hint)
    log.warning("%s; going on", what)
    return True


def _classes_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    gone = [name for name in before["classes"] if name not in after["classes"]]
    new = [name for name in after["classes"] if name not in before["classes"]]
    if not gone and not new:
        return "they are in another order"
    changes = [(gone, "missing"), (new, "new")]
    return ", ".join(f"{len(names)} {word} ('{names[0]}')" for names, word in changes if names)


def _change(before: dict[str, Any], after: dict[str, Any]) -> str:
    # The most telling difference first; only a digest is left of names, sizes and labels.
    if after["images"] != before["images"]:
        return f"{before['images']:,} then, {after['images']:,} now"
    if after["per_class"] != before["per_class"]:
        return "other numbers of images per class"
    return "other names, sizes or labels"
