"""What is said of an image file, and the reading of files for it; nothing here needs torch."""

from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from PIL import Image

from vtrain.data.unused import Unused
from vtrain.errors import DataError
from vtrain.files.images import read_image
from vtrain.files.surplus import surplus_of
from vtrain.resources import cpu_count

T = TypeVar("T", bound=Sized)
"""What is made of an image for a model, the channels first."""
OnError: TypeAlias = Callable[[int, DataError], None]
"""Gets the number of a path that is no readable image."""
BATCH_SIZE = 32
"""Files that are asked about together."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image with their probabilities, or why there are none."""

    image: str
    classes: list[tuple[str, float]]
    """Of a model of several labels those that reach their thresholds: it may be none."""
    error: str | None = None
    unsure: bool | None = None
    """Whether the model had better not be asked; None where that was no question."""
    has_several: bool = False
    """Whether the model names as many classes as the image has."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        ranked = [{"class": name, "probability": p} for name, p in self.classes]
        record = {"image": self.image, "predictions": ranked}
        return record if self.unsure is None else {**record, "unsure": self.unsure}


def decoded(
    paths: Sequence[Path],
    prepare: Callable[[Image.Image], T],
    on_error: OnError,
    batch_size: int = BATCH_SIZE,
    unused: Unused | None = None,
) -> Iterator[tuple[list[int], list[T]]]:
    """Decode files in threads, a batch ahead of the one that is asked for, and yield batches.

    Every `batch_size` paths are one batch, less those that cannot be read: what a batch is made of
    does not depend on timing. A batch is the numbers of its paths and what `prepare` made of them;
    `on_error` is called before the batch that the path would be in, and `unused` is told what is
    not used of an image.
    """
    starts = range(0, len(paths), batch_size)
    # Decoding releases Python's lock, so threads are enough and an error needs no pickling.
    with ThreadPoolExecutor(min(cpu_count(), batch_size)) as pool:

        def begin(start: int) -> list[Future[T]]:
            chunk = enumerate(paths[start : start + batch_size], start)
            return [pool.submit(_prepared, prepare, n, path, unused) for n, path in chunk]

        ahead = begin(0)
        try:
            for start in starts:
                # The next batch is begun before this one is waited for, and none beyond it: memory
                # holds two batches however many paths there are.
                due, ahead = ahead, begin(start + batch_size)
                images: list[T] = []
                kept: list[int] = []
                for number, future in enumerate(due, start):
                    try:
                        images.append(future.result())
                        kept.append(number)
                    except DataError as error:
                        on_error(number, error)
                if images:
                    yield kept, images
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for what is ahead


def _prepared(
    prepare: Callable[[Image.Image], T], number: int, path: Path, unused: Unused | None
) -> T:
    try:
        image = read_image(path)
        result = prepare(image)
    except MemoryError:  # of this image alone: the others have their answers
        raise DataError("too little memory to prepare this image", path) from None
    if unused is not None:
        unused.note(number, surplus_of(image, len(result)))
    return result
