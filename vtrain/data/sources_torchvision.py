"""Torchvision's classification datasets with their official splits."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vtrain.data.samples import ArraySamples, Samples, SplitName, Triple
from vtrain.errors import DataError
from vtrain.registry import SOURCES

GREY = "grey images: the one channel is repeated three times"


@dataclass(frozen=True)
class Spec:
    """One row of the table: what torchvision calls a dataset, and what it holds."""

    kind: str
    """The class in `torchvision.datasets`."""
    splits: Callable[[SplitName], dict[str, Any]]
    """The arguments that choose a split."""
    classes: tuple[str, ...]
    mean: Triple
    std: Triple
    notes: tuple[str, ...] = ()


def _train_flag(name: SplitName) -> dict[str, Any]:
    return {"train": name == "train"}


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CIFAR10 = Spec(
    "CIFAR10",
    _train_flag,
    _words("airplane automobile bird cat deer dog frog horse ship truck"),
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
)
CIFAR100 = Spec(
    "CIFAR100",
    _train_flag,
    _words(
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge "
        "bus butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud "
        "cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl "
        "hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
        "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
        "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray "
        "road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel "
        "streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
        "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
    (0.5071, 0.4865, 0.4409),
    (0.2673, 0.2564, 0.2762),
)
MNIST = Spec("MNIST", _train_flag, tuple("0123456789"), (0.1307,) * 3, (0.3081,) * 3, (GREY,))
FASHION_MNIST = Spec(
    "FashionMNIST",
    _train_flag,
    (*_words("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"), "Ankle boot"),
    (0.2860,) * 3,
    (0.3530,) * 3,
    (GREY,),
)


@SOURCES.register("cifar10", spec=CIFAR10)
@SOURCES.register("cifar100", spec=CIFAR100)
@SOURCES.register("mnist", spec=MNIST)
@SOURCES.register("fashion_mnist", spec=FASHION_MNIST)
class TorchvisionSource:
    """A dataset of torchvision; `val` is the official test or validation split."""

    def __init__(
        self, spec: Spec = CIFAR10, *, root: Path = Path("data"), download: bool = False
    ) -> None:
        self.spec, self.root, self.download = spec, root, download
        self.classes, self.notes = spec.classes, spec.notes
        self.mean, self.std = spec.mean, spec.std

    def split(self, name: SplitName) -> Samples:
        from torchvision import datasets

        kind = getattr(datasets, self.spec.kind)
        try:
            found = kind(root=str(self.root), download=self.download, **self.spec.splits(name))
        except Exception as error:
            raise _absent(self.spec.kind, self.root, self.download, error) from error
        return ArraySamples(
            _as_rgb(found.data), torch.as_tensor(found.targets).long(), f"{self.spec.kind} {name}"
        )


def _absent(kind: str, root: Path, download: bool, error: Exception) -> DataError:
    if download:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return DataError(f"{kind} could not be downloaded: {reason}", root, "check the network")
    return DataError(
        f"{kind} is not there, or not complete", root, "set data.download=true, or data.root"
    )


def _as_rgb(data: np.ndarray | Tensor) -> Tensor:
    """Bring an array of images to (N, 3, H, W) uint8."""
    array = torch.as_tensor(data)
    if array.ndim == 3:  # (N, H, W) grey
        return array[:, None].expand(-1, 3, -1, -1).contiguous()
    return array.permute(0, 3, 1, 2).contiguous()
