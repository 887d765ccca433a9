"""Files of the same name in several class folders, as one image that has all these classes."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from vtrain.errors import DataError


def merged(
    folder: Path, classes: Sequence[str], files: Mapping[str, Sequence[str]]
) -> tuple[list[str], Tensor]:
    """Return one path for each image, and which classes it has.

    Args:
        folder: Of the split.
        classes: In their order; a path is that in the folder of the first that has the image.
        files: The paths of each class, below the folder of the split.

    Shape: n paths, (n, K) float32.

    Raises:
        DataError: Two files of one name are not the same image.
    """
    rows: dict[str, int] = {}
    paths: list[str] = []
    found: list[tuple[int, int]] = []
    for number, name in enumerate(classes):
        for path in files.get(name, ()):
            inner = path.partition("/")[2]  # below the class's folder
            row = rows.setdefault(inner, len(paths))
            if row == len(paths):
                paths.append(path)
            else:
                _check_same(folder, paths[row], path)
            found.append((row, number))
    targets = torch.zeros(len(paths), len(classes))
    targets[tuple(torch.tensor(found).T)] = 1
    return paths, targets


def _check_same(folder: Path, one: str, other: str) -> None:
    with suppress(OSError):  # of a file that cannot be read the loader says so
        if (folder / one).stat().st_size != (folder / other).stat().st_size:
            what = f"this file and {one} have one name, and are not the same image"
            hint = "data.several_labels takes files of one name for one: rename one of them"
            raise DataError(what, folder / other, hint)
