"""How images are decoded, in this process or in a worker: from a job to bytes in a ring buffer."""

import signal
import traceback
from dataclasses import dataclass
from typing import Protocol

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vtrain.data.datasets.samples import Samples
from vtrain.data.unused import Unused
from vtrain.errors import DataError, VtrainError
from vtrain.files.surplus import Surplus, surplus_of
from vtrain.interrupt import ending_with_parent

PIECE = 64
"""Images that a worker decodes in one go: enough to hide the cost of a message, few enough that
the pieces under way take little memory and the first ones of an epoch are there soon."""


class Transform(Protocol):
    """Makes one image the model's size: a function of the image, its index and the epoch alone.

    Shape: a decoded image -> (C, S, S) uint8.
    """

    @property
    def varies(self) -> bool:
        """Whether the result depends on the epoch, and so must not be kept."""

    def kept(self, image: Image.Image) -> Image.Image | None:
        """Return what may be kept of an image for all epochs, or None if it must be read again."""

    def __call__(self, image: Image.Image, index: int, epoch: int) -> Tensor: ...


@dataclass(frozen=True)
class Job:
    """Images that are decoded in one go, and where in the ring they go.

    An index may exceed the N samples: modulo N it is the sample, and all of it is what its random
    crop depends on.
    """

    indices: list[int]
    epoch: int
    slot: int = 0


@dataclass(frozen=True)
class Piece:
    """The outcome of a job: which images could be read, and what was wrong with the others."""

    slot: int
    indices: list[int]
    errors: list[tuple[int, VtrainError]]
    surplus: dict[int, Surplus]
    """What the images have beyond what is used, of those that have anything."""


@dataclass(frozen=True)
class JobDecoder(Dataset[Piece]):
    """Does jobs. Errors travel as values: an exception may not survive between processes.

    Shape: `ring` (slots, PIECE, C, S, S) uint8; a piece of n images fills the first n of its slot.
    """

    samples: Samples
    transform: Transform
    ring: Tensor

    def __getitem__(self, job: Job) -> Piece:
        images = self.ring[job.slot]  # (PIECE, C, S, S)
        kept: list[int] = []
        errors: list[tuple[int, VtrainError]] = []
        unused = Unused()
        for index in job.indices:
            try:
                # A bad image leaves no gap: the next good one takes its row.
                images[len(kept)] = decode(self.samples, self.transform, index, job.epoch, unused)
                kept.append(index)
            except VtrainError as error:
                errors.append((index, error))
        return Piece(job.slot, kept, errors, unused.found)


def decode(
    samples: Samples, transform: Transform, index: int, epoch: int, unused: Unused | None = None
) -> Tensor:
    """Read and transform one image, and note what is not used of it. Shape: (C, S, S) uint8.

    Raises:
        DataError: It cannot be read or transformed.
    """
    number = index % len(samples)
    try:
        image = samples.image(number)
        pixels = transform(image, index, epoch)
    except VtrainError as error:
        if error.where is None:  # of what is in memory, or was opened without its name
            error.where = samples.name(number)
        raise
    except Exception as error:  # a class that does not pickle would hang the parent
        what = f"{type(error).__name__} while an image was prepared: {error}"
        wrapped = DataError(what, samples.name(number))
        wrapped.add_note(traceback.format_exc())
        raise wrapped from error
    if unused is not None:
        unused.note(number, surplus_of(image, len(pixels)))
    return pixels


def init_worker(parent: int, worker: int) -> None:
    """Leave signals to the trainer, the process `parent`, and end with it."""
    # A terminal and a scheduler signal the whole group; the trainer stops the workers itself, after
    # it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ending_with_parent(signal.SIGKILL, parent)()
