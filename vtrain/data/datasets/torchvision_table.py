"""The table of torchvision's classification datasets: their splits, classes and statistics.

`mean` and `std` are those in common use for a set, and ImageNet's for sets of photographs:
normalisation only has to be the same in training and in use.
"""

import os
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vtrain.data.datasets.samples import GREY, IMAGENET_MEAN, IMAGENET_STD, SplitName, Triple

Listing: TypeAlias = tuple[Sequence[str | os.PathLike[str]], Sequence[int]]
"""Image files and their classes."""


@dataclass(frozen=True)
class Split:
    """One official split: the arguments by which torchvision knows it, and how many images it has.

    The number is checked, because an extraction that was interrupted leaves a folder that
    torchvision takes for the dataset.
    """

    images: int
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One row of the table.

    Args:
        kind: The class in `torchvision.datasets`.
        folder: What must be below `root` if the dataset is there.
        splits: The official splits with labels.
        classes: Their names; empty where they are read from the dataset's own files.
        read: Takes the images, or the files, and the classes out of torchvision's object.
    """

    kind: str
    folder: str
    splits: dict[SplitName, Split]
    classes: tuple[str, ...] = ()
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    notes: tuple[str, ...] = ()
    read: Callable[[Any], "Listing | tuple[Tensor, Tensor]"] = field(kw_only=True)


# How torchvision's objects hold what they list.


def _array(found: Any) -> tuple[Tensor, Tensor]:
    """The images as one array: grey or colour, channels first or last."""
    array = torch.as_tensor(found.data)
    if array.ndim == 3:  # (N, H, W)
        array = array[:, None].expand(-1, 3, -1, -1)
    elif array.shape[1] != 3:
        array = array.permute(0, 3, 1, 2)
    labels = found.targets if hasattr(found, "targets") else found.labels
    return array.contiguous(), torch.as_tensor(labels).long()


def _emnist(found: Any) -> tuple[Tensor, Tensor]:
    """EMNIST's files hold images with rows and columns exchanged, and letters count from 1."""
    array, targets = _array(found)
    return array.transpose(2, 3).contiguous(), targets - int(found.split == "letters")


def _pairs(name: str) -> Callable[[Any], Listing]:
    def read(found: Any) -> Listing:
        paths, targets = zip(*getattr(found, name), strict=True)
        return paths, targets

    return read


def _lists(paths: str, targets: str) -> Callable[[Any], Listing]:
    return lambda found: (getattr(found, paths), getattr(found, targets))


def _caltech(folder: str, pattern: str) -> Callable[[Any], Listing]:
    def read(found: Any) -> Listing:
        paths = [
            Path(found.root, folder, found.categories[y], pattern.format(y + 1, index))
            for y, index in zip(found.y, found.index, strict=True)
        ]
        return paths, found.y

    return read


def _inaturalist(found: Any) -> Listing:
    categories, names = zip(*found.index, strict=True)
    folders = [Path(found.root, found.all_categories[c]) for c in categories]
    return [folder / name for folder, name in zip(folders, names, strict=True)], categories


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _train_flag(train: int, val: int) -> dict[SplitName, Split]:
    return {"train": Split(train, {"train": True}), "val": Split(val, {"train": False})}


def _named(**splits: tuple[str, int]) -> dict[SplitName, Split]:
    """Splits that torchvision calls by a name: `train=("trainval", 3680)`."""
    return {key: Split(n, {"split": name}) for key, (name, n) in splits.items()}  # type: ignore[misc]


DIGITS = tuple(string.digits)
MERGED_LETTERS = _words("A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b d e f g h n q r t")

CIFAR10 = Spec(
    "CIFAR10",
    "cifar-10-batches-py",
    _train_flag(50_000, 10_000),
    _words("airplane automobile bird cat deer dog frog horse ship truck"),
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
    read=_array,
)


def _emnist_spec(split: str, train: int, test: int, classes: tuple[str, ...]) -> Spec:
    splits: dict[SplitName, Split] = {
        "train": Split(train, {"split": split, "train": True}),
        "val": Split(test, {"split": split, "train": False}),
    }
    mean, std = (0.1722,) * 3, (0.3309,) * 3
    notes = (GREY, "EMNIST stores images transposed: they are turned upright")
    return Spec("EMNIST", "EMNIST", splits, classes, mean, std, notes, read=_emnist)


TABLE = {
    "cifar10": CIFAR10,
    "cifar100": Spec(
        "CIFAR100",
        "cifar-100-python",
        _train_flag(50_000, 10_000),
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
        read=_array,
    ),
    "mnist": Spec(
        "MNIST",
        "MNIST",
        _train_flag(60_000, 10_000),
        DIGITS,
        (0.1307,) * 3,
        (0.3081,) * 3,
        (GREY,),
        read=_array,
    ),
    "fashion_mnist": Spec(
        "FashionMNIST",
        "FashionMNIST",
        _train_flag(60_000, 10_000),
        (*_words("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"), "Ankle boot"),
        (0.2860,) * 3,
        (0.3530,) * 3,
        (GREY,),
        read=_array,
    ),
    "kmnist": Spec(
        "KMNIST",
        "KMNIST",
        _train_flag(60_000, 10_000),
        _words("o ki su tsu na ha ma ya re wo"),
        (0.1918,) * 3,
        (0.3483,) * 3,
        (GREY,),
        read=_array,
    ),
    "emnist_byclass": _emnist_spec(
        "byclass", 697_932, 116_323, tuple(sorted(string.digits + string.ascii_letters))
    ),
    "emnist_bymerge": _emnist_spec("bymerge", 697_932, 116_323, DIGITS + MERGED_LETTERS),
    "emnist_balanced": _emnist_spec("balanced", 112_800, 18_800, DIGITS + MERGED_LETTERS),
    "emnist_letters": _emnist_spec("letters", 124_800, 20_800, tuple(string.ascii_lowercase)),
    "emnist_digits": _emnist_spec("digits", 240_000, 40_000, DIGITS),
    "svhn": Spec(
        "SVHN",
        "",
        _named(train=("train", 73_257), val=("test", 26_032)),
        DIGITS,
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
        read=_array,
    ),
    "stl10": Spec(
        "STL10",
        "stl10_binary",
        _named(train=("train", 5000), val=("test", 8000)),
        _words("airplane bird car cat deer dog horse monkey ship truck"),
        (0.4467, 0.4398, 0.4066),
        (0.2603, 0.2566, 0.2713),
        read=_array,
    ),
    "flowers102": Spec(
        "Flowers102",
        "flowers-102",
        _named(train=("train", 1020), val=("val", 1020), test=("test", 6149)),
        read=_lists("_image_files", "_labels"),
    ),
    "oxford_pets": Spec(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        _named(train=("trainval", 3680), val=("test", 3669)),
        read=_lists("_images", "_labels"),
    ),
    "food101": Spec(
        "Food101",
        "food-101",
        _named(train=("train", 75_750), val=("test", 25_250)),
        read=_lists("_image_files", "_labels"),
    ),
    "eurosat": Spec(
        "EuroSAT",
        "eurosat",
        {"train": Split(27_000)},
        _words("AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop")
        + _words("Residential River SeaLake"),
        read=_pairs("samples"),
    ),
    "gtsrb": Spec(
        "GTSRB",
        "gtsrb",
        _named(train=("train", 26_640), val=("test", 12_630)),
        (
            *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
            *("end of speed limit 80", "speed limit 100", "speed limit 120", "no passing"),
            *("no passing over 3.5 t", "right of way at next intersection", "priority road"),
            *("yield", "stop", "no vehicles", "no vehicles over 3.5 t", "no entry"),
            *("general caution", "dangerous curve left", "dangerous curve right", "double curve"),
            *("bumpy road", "slippery road", "road narrows on the right", "road work"),
            *("traffic signals", "pedestrians", "children crossing", "bicycles crossing"),
            *("beware of ice or snow", "wild animals crossing", "end of all limits"),
            *("turn right ahead", "turn left ahead", "ahead only", "straight or right"),
            *("straight or left", "keep right", "keep left", "roundabout", "end of no passing"),
            "end of no passing over 3.5 t",
        ),
        read=_pairs("_samples"),
    ),
    "dtd": Spec(
        "DTD",
        "dtd",
        _named(train=("train", 1880), val=("val", 1880), test=("test", 1880)),
        read=_lists("_image_files", "_labels"),
    ),
    "country211": Spec(
        "Country211",
        "country211",
        _named(train=("train", 31_650), val=("valid", 10_550), test=("test", 21_100)),
        read=_pairs("samples"),
    ),
    "stanford_cars": Spec(
        "StanfordCars",
        "stanford_cars",
        _named(train=("train", 8144), val=("test", 8041)),
        read=_pairs("_samples"),
    ),
    "fgvc_aircraft": Spec(
        "FGVCAircraft",
        "fgvc-aircraft-2013b",
        _named(train=("train", 3334), val=("val", 3333), test=("test", 3333)),
        read=_lists("_image_files", "_labels"),
    ),
    "caltech101": Spec(
        "Caltech101",
        "caltech101/101_ObjectCategories",
        {"train": Split(8677)},
        read=_caltech("101_ObjectCategories", "image_{1:04d}.jpg"),
    ),
    "caltech256": Spec(
        "Caltech256",
        "caltech256/256_ObjectCategories",
        {"train": Split(30_607)},
        read=_caltech("256_ObjectCategories", "{0:03d}_{1:04d}.jpg"),
    ),
    "imagenette": Spec(
        "Imagenette",
        "imagenette2",
        _named(train=("train", 9469), val=("val", 3925)),
        (
            *("tench", "English springer", "cassette player", "chain saw", "church"),
            *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
        ),
        read=_pairs("_samples"),
    ),
    "imagenet": Spec(
        "ImageNet",
        "",
        _named(train=("train", 1_281_167), val=("val", 50_000)),
        read=_pairs("samples"),
    ),
    "inaturalist": Spec(
        "INaturalist",
        "",
        {
            "train": Split(2_686_843, {"version": "2021_train"}),
            "val": Split(100_000, {"version": "2021_valid"}),
        },
        read=_inaturalist,
    ),
    "inaturalist_mini": Spec(
        "INaturalist",
        "",
        {
            "train": Split(500_000, {"version": "2021_train_mini"}),
            "val": Split(100_000, {"version": "2021_valid"}),
        },
        read=_inaturalist,
    ),
    "places365": Spec(
        "Places365",
        "",
        {
            "train": Split(1_803_460, {"split": "train-standard", "small": True}),
            "val": Split(36_500, {"split": "val", "small": True}),
        },
        read=_pairs("imgs"),
    ),
}
