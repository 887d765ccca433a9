"""Images in one NumPy archive, in the layout of MedMNIST: `train_images` beside `train_labels`.

Reference: Yang et al., arXiv:2110.14795.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtrain.data.datasets.class_names import class_notes, read_names
from vtrain.data.datasets.folder_names import absent_classes
from vtrain.data.datasets.samples import GREY, ArraySamples, Photographs, SplitName
from vtrain.errors import CheckpointError, DataError
from vtrain.files.arrays import array_shapes, read_arrays
from vtrain.registry import CHANGEABLE_ON_RESUME, SOURCES
from vtrain.resources import free_memory

LAYOUT = (
    "expected train_images (N, H, W) or (N, H, W, 3) beside train_labels (N, 1), and val_ and test_"
)


@SOURCES.register("medmnist")
class MedMNIST(Photographs):
    """Images in one `.npz` file, in the layout of MedMNIST: `train_images` beside `train_labels`.

    Labels are numbers, one of each image; or, of several labels an image as in ChestMNIST, a row of
    0 and 1 for each, a column for each class. The arrays of a split are read into memory whole.

    Args:
        file: The archive. It may be compressed.
        classes: A text file with one class name per line, for the numbers from 0 on; without it
            classes are called by the numbers that occur, or by those of their columns.

    Raises:
        DataError: The file is absent, damaged or of another layout, or too large for the memory.
    """

    def __init__(
        self,
        *,
        file: Annotated[Path, CHANGEABLE_ON_RESUME],
        classes: Annotated[Path | None, CHANGEABLE_ON_RESUME] = None,
    ) -> None:
        self.file, self.origin, self.names = file, file, classes
        try:
            self._shapes = array_shapes(file)
        except CheckpointError as error:
            raise _of_data(error) from None
        if not self.splits:
            found = ", ".join(sorted(self._shapes))[:100] or "nothing"
            raise DataError(f"no images of a split in this archive, but {found}", file, LAYOUT)
        self._labels: dict[SplitName, NDArray[Any]] = {}

    @property
    def splits(self) -> tuple[SplitName, ...]:
        return tuple(n for n in get_args(SplitName) if f"{n}_images" in self._shapes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What looks odd about the labels."""
        absent = [
            note
            for name in self.splits
            for note in absent_classes(name, self.classes, self._present(name))
        ]
        grey = (GREY,) if len(self._shapes[f"{self.splits[0]}_images"]) == 3 else ()
        return (*class_notes(self.classes), *grey, *absent)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        names = None if self.names is None else tuple(read_names(self.names))
        if self._columns == 1:
            return names or tuple(map(str, self._numbers(self.splits[0])))
        if names is not None and len(names) != self._columns:
            what = f"there are {len(names)} names for {self._columns} columns of labels"
            raise DataError(what, self.names, "give every column a line in data.classes")
        return names or tuple(map(str, range(self._columns)))

    @cached_property
    def _columns(self) -> int:
        """Numbers that each image has as its label: one, or of several labels one a class."""
        return _columns_of(self._shapes.get(f"{self.splits[0]}_labels", ()))

    @cached_property
    def _places(self) -> dict[int, int]:
        """The number of a label -> that of its class."""
        if self.names is not None:
            return {k: k for k in range(len(self.classes))}
        return {label: k for k, label in enumerate(self._numbers(self.splits[0]))}

    def split(self, name: SplitName) -> ArraySamples:
        """Return the images of one split.

        Raises:
            DataError: There are none, or an image has a class that training has not.
        """
        if name not in self.splits:
            hint = "set data.val_fraction, e.g. 0.1" if name == "val" else LAYOUT
            raise DataError(f"there are no {name}_images", self.file, hint)
        self._check(name)
        if self._columns > 1:
            assert len(self.classes) == self._columns, "names of another number are refused"
            return self._samples(name, torch.from_numpy(self._read_labels(name).astype(np.float32)))
        unknown = [k for k in self._numbers(name) if k not in self._places]
        if unknown:
            what = f"class {unknown[0]} of the {name} images is not one of {len(self.classes)}"
            hint = "give every number a line in data.classes" if self.names else LAYOUT
            raise DataError(what, self.file, hint)
        labels = self._read_labels(name)[:, 0]
        return self._samples(name, torch.tensor([self._places[k] for k in labels.tolist()]))

    def _samples(self, name: SplitName, targets: Tensor) -> ArraySamples:
        pixels = torch.from_numpy(self._read(f"{name}_images"))
        if pixels.ndim == 3:  # a view: the one channel is not copied
            return ArraySamples(pixels[:, None].expand(-1, 3, -1, -1), targets, str(self.file))
        return ArraySamples(pixels.permute(0, 3, 1, 2), targets, str(self.file))

    def _check(self, name: SplitName) -> None:
        """Refuse arrays of another layout before they are read."""
        shape, labels = self._shapes[f"{name}_images"], self._shapes.get(f"{name}_labels", ())
        if (len(shape) == 4 and shape[-1] == shape[-2]) or len(shape) == 5:
            raise DataError(f"{name}_images has volumes {shape}", self.file, "vtrain takes images")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[-1] != 3) or 0 in shape:
            raise DataError(f"{name}_images has shape {shape}", self.file, LAYOUT)
        if labels[:1] != shape[:1]:
            raise DataError(
                f"{name}_labels has shape {labels}, not ({shape[0]}, 1)", self.file, LAYOUT
            )
        if _columns_of(labels) != self._columns:
            what = f"{name}_labels has {_columns_of(labels)} numbers for each image"
            first = f"{self.splits[0]}_labels has {self._columns}"
            raise DataError(f"{what}, and {first}", self.file, LAYOUT)

    def _numbers(self, name: SplitName) -> list[int]:
        """Return the labels that occur in a split, sorted."""
        numbers: list[int] = np.unique(self._read_labels(name)).tolist()
        return numbers

    def _present(self, name: SplitName) -> set[str]:
        """Return the names of the classes that any image of a split has."""
        if self._columns == 1:
            return {self.classes[self._places[k]] for k in self._numbers(name)}
        return {self.classes[k] for k in np.flatnonzero(self._read_labels(name).any(0))}

    def _read_labels(self, name: SplitName) -> NDArray[Any]:
        if name not in self._labels:
            self._check(name)
            labels = self._read(f"{name}_labels")
            if labels.dtype.kind not in "ui":
                raise DataError(f"{name}_labels are {labels.dtype}, no whole numbers", self.file)
            if self._columns > 1 and len(wrong := labels[(labels != 0) & (labels != 1)]):
                what = f"{name}_labels has a {wrong[0]} for one of {self._columns} classes"
                raise DataError(what, self.file, "write 1 for a class that is there, and else 0")
            self._labels[name] = labels.reshape(len(labels), -1)
        return self._labels[name]

    def _read(self, key: str) -> NDArray[Any]:
        try:
            array = read_arrays(self.file, names={key}, unpacked=max(1, free_memory() // 2))[key]
        except CheckpointError as error:
            raise _of_data(error) from None
        if key.endswith("_images") and array.dtype != np.uint8:
            raise DataError(f"{key} are {array.dtype}, not uint8", self.file, LAYOUT)
        return np.array(array)  # a copy that is the tensor's own


def _columns_of(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1


def _of_data(error: CheckpointError) -> DataError:
    return DataError(error.what, error.where, error.hint)
