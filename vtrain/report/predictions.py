"""`predictions.npz`: what a model said of every image of a split, to be reported on later."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtrain.data.datasets.class_names import places
from vtrain.errors import CheckpointError, DataError, printable
from vtrain.files.arrays import read_arrays, write_arrays
from vtrain.report.label_scores import LabelScores
from vtrain.report.scores import Array, Scores


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's logits on the images of one split.

    Shape: `logits` (N, K) float32, `targets` (N,) int64, or (N, K) float32 of several labels an
    image.

    Raises:
        DataError: There is no image, or lengths or values do not fit.
    """

    logits: Array
    targets: Array
    ids: tuple[str, ...]
    """What tells an image from the others: its path, or its number in the dataset. Length N."""
    classes: tuple[str, ...]
    """The names of the logits, in order. Length K."""
    about: dict[str, Any]
    """Plain data: `split`, the split's fingerprint under `images`, the checkpoint's `step`."""
    thresholds: tuple[float, ...] = ()
    """Of several labels an image: the probability from which on each class is named."""

    def __post_init__(self) -> None:
        self.label_scores() if self.has_several else self.scores()  # checks the arrays
        if len(self.ids) != len(self.targets) or len(self.classes) != self.logits.shape[1]:
            raise DataError(
                f"{len(self.ids)} images and {len(self.classes)} classes have names, but the "
                f"logits are of {self.logits.shape[0]} and {self.logits.shape[1]}"
            )
        if len(set(self.classes)) != len(self.classes):
            raise DataError("two classes have the same name")

    @property
    def is_in_sample(self) -> bool:
        """Whether the model was trained on these images."""
        return self.about.get("split") == "train"

    @property
    def has_several(self) -> bool:
        """Whether each image may have several labels."""
        return self.targets.ndim == 2

    def scores(self) -> Scores:
        """Return what the figures of images of one class each are computed from.

        Raises:
            DataError: Images may have several labels.
        """
        if self.has_several:
            what = "this is for images of one class each, and the run's have several labels"
            raise DataError(what, hint="`vtrain report RUN` and `vtrain eval` know them")
        return Scores(self.logits, self.targets)

    def label_scores(self) -> LabelScores:
        """Return what the figures of images of several labels are computed from."""
        return LabelScores(self.logits, self.targets, np.array(self.thresholds, np.float64))

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: It cannot be written; what was at `path` is untouched.
        """
        arrays: dict[str, Array] = {
            "logits": np.ascontiguousarray(self.logits, np.float32),
            "targets": np.ascontiguousarray(
                self.targets, np.float32 if self.has_several else np.int64
            ),
            # Bytes, not text: a file's name need not be valid text, and NumPy's takes 4 x as much.
            "ids": np.array([os.fsencode(name) for name in self.ids], np.bytes_),
            "classes": np.array([name.encode() for name in self.classes], np.bytes_),
            "about": np.frombuffer(json.dumps(self.about).encode(), np.uint8),
        }
        if self.has_several:
            arrays["thresholds"] = np.array(self.thresholds, np.float64)
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read a file that `save` wrote, and trust nothing.

        Raises:
            CheckpointError: It is absent, damaged, or something else.
        """
        run = printable(shlex.quote(str(path.parent)))
        hint = f"write it again with `vtrain eval --ckpt {run}`"
        arrays = read_arrays(path, hint)
        try:
            logits, targets = arrays["logits"], arrays["targets"]
            kind = "f" if targets.ndim == 2 else "i"
            if logits.dtype.kind != "f" or targets.dtype.kind != kind:
                raise ValueError(f"logits of {logits.dtype} and targets of {targets.dtype}")
            for name in ("ids", "classes"):
                if arrays[name].dtype.kind != "S" or arrays[name].ndim != 1:
                    raise ValueError(f"{name} that are no list of bytes")
            about = json.loads(arrays["about"].tobytes())
            if not isinstance(about, dict):
                raise ValueError("'about' is no mapping")
            return cls(
                np.ascontiguousarray(logits, np.float32),
                targets.astype(np.float32 if kind == "f" else np.int64),
                tuple(os.fsdecode(name) for name in arrays["ids"].tolist()),
                tuple(name.decode() for name in arrays["classes"].tolist()),
                about,
                tuple(arrays["thresholds"].tolist()) if kind == "f" else (),
            )
        except KeyError as error:
            raise CheckpointError(f"the predictions have no {error}", path, hint) from None
        except (ValueError, TypeError, RecursionError, DataError) as error:
            reason = error.what if isinstance(error, DataError) else str(error)
            raise CheckpointError(f"not predictions: {reason:.100}", path, hint) from None


def joined(parts: list[Predictions]) -> Predictions:
    """Join the out-of-sample predictions of several folds to one set.

    Raises:
        DataError: Their classes differ, or an image is in two of them.
    """
    first = parts[0]
    for part in parts:
        part.scores()  # of several labels each fold has thresholds of its own
    if any(part.classes != first.classes for part in parts):
        raise DataError("the folds do not have the same classes")
    ids = tuple(name for part in parts for name in part.ids)
    # Not counted in all of them: a list may name an image twice, and both are in one fold.
    if len(set(ids)) != sum(len(set(part.ids)) for part in parts):
        raise DataError("the folds share images, so they are not folds of one dataset")
    return Predictions(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.targets for part in parts]),
        ids,
        first.classes,
        # Without a step: the checkpoint of each fold has its own.
        {"split": first.about.get("split"), "folds": len(parts)},
    )


def aligned(
    a: Predictions, b: Predictions
) -> tuple[Scores, Scores] | tuple[LabelScores, LabelScores]:
    """Return the scores of two sets of predictions of the same images, in the order of `a`.

    Classes are matched by name and images by what `ids` says.

    Raises:
        DataError: They are not of the same images with the same classes.
    """
    if sorted(a.classes) != sorted(b.classes):
        raise DataError("the two runs do not have the same classes")
    keys = list(_numbered(a.ids))
    rows = {key: row for row, key in enumerate(_numbered(b.ids))}
    if set(keys) != rows.keys():
        raise DataError(
            f"the predictions are not of the same images ({len(a.ids):,} and {len(b.ids):,})",
            hint="evaluate both checkpoints on the same split",
        )
    order = np.array([rows[key] for key in keys])
    columns = np.array(places(a.classes, b.classes)[0])
    logits, targets = b.logits[order][:, columns], b.targets[order]
    # Columns in the order of a's, or class number in b -> class number in a.
    targets = targets[:, columns] if b.has_several else np.argsort(columns)[targets]
    if not np.array_equal(targets, a.targets):
        raise DataError("the same images have other labels in the two runs")
    if a.has_several:
        return a.label_scores(), LabelScores(logits, targets, np.array(b.thresholds)[columns])
    return a.scores(), Scores(logits, targets)


def _numbered(ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield each name with how often it came before: a list may name an image twice."""
    seen: Counter[str] = Counter()
    for name in ids:
        yield name, seen[name]
        seen[name] += 1
