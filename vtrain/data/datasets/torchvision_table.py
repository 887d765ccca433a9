"""Torchvision's classification datasets: their splits, classes, statistics, and what they list.

`mean` and `std` are those in common use for a set, and ImageNet's for sets of photographs:
normalisation only has to be the same in training and in use.
"""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vtrain.data.datasets.samples import GREY, IMAGENET_MEAN, IMAGENET_STD, SplitName, Triple

Listing: TypeAlias = tuple[Sequence[str | Path], Sequence[int]]
"""Image files and their classes."""
Reader: TypeAlias = Callable[[Any], Listing | tuple[Tensor, Tensor]]
"""Takes the images, or the files, and the classes out of torchvision's object."""

# Torchvision's objects have no common way to say what they list: each reader below knows one.


def read_array(dataset: Any) -> tuple[Tensor, Tensor]:
    """Return the images as one array. Shape: images (N, 3, H, W) uint8, classes (N,) int64."""
    array = torch.as_tensor(dataset.data)
    if array.ndim == 3:  # (N, H, W) -> (N, 3, H, W)
        array = array[:, None].expand(-1, 3, -1, -1)
    elif array.shape[1] != 3:  # (N, H, W, 3) -> (N, 3, H, W)
        array = array.permute(0, 3, 1, 2)
    # SVHN and STL10 call them `labels`.
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return array.contiguous(), torch.as_tensor(labels).long()


def read_emnist(dataset: Any) -> tuple[Tensor, Tensor]:
    """Read an array of EMNIST, whose files exchange rows and columns and count letters from 1."""
    array, targets = read_array(dataset)
    return array.transpose(2, 3).contiguous(), targets - int(dataset.split == "letters")


def read_pairs(name: str, dataset: Any) -> Listing:
    """Read an attribute that holds (path, class) pairs."""
    paths, targets = zip(*getattr(dataset, name), strict=True)
    return paths, targets


def read_lists(paths: str, targets: str, dataset: Any) -> Listing:
    """Read two attributes, one of paths and one of classes."""
    return getattr(dataset, paths), getattr(dataset, targets)


def read_caltech(folder: str, pattern: str, dataset: Any) -> Listing:
    """Read Caltech's numbered files: `pattern` makes a name of a class from 1 and a number."""
    paths = [
        Path(dataset.root, folder, dataset.categories[y], pattern.format(y + 1, index))
        for y, index in zip(dataset.y, dataset.index, strict=True)
    ]
    return paths, dataset.y


def read_inaturalist(dataset: Any) -> Listing:
    """Read (category, file name) pairs; a category has a folder."""
    categories, names = zip(*dataset.index, strict=True)
    folders = [Path(dataset.root, dataset.all_categories[c]) for c in categories]
    return [folder / name for folder, name in zip(folders, names, strict=True)], categories


@dataclass(frozen=True)
class OfficialSplit:
    """One official split: how many images it has, and by which arguments torchvision knows it."""

    images: int
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One row of the table: a class of `torchvision.datasets`, its `kind`."""

    kind: str
    folder: str  # what must be below `root` if the dataset is there
    splits: dict[SplitName, OfficialSplit]  # those with labels
    classes: tuple[str, ...] = ()  # empty where they are read from the dataset's own files
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    notes: tuple[str, ...] = ()
    read: Reader = field(default=read_array, kw_only=True)
    by_hand: str = field(default="", kw_only=True)
    """What to fetch where no program may download it."""


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(text.split(separator))


def _by_flag(train: int, test: int, **others: str) -> dict[SplitName, OfficialSplit]:
    return {
        "train": OfficialSplit(train, {**others, "train": True}),
        "test": OfficialSplit(test, {**others, "train": False}),
    }


def _by_name(**splits: int | tuple[str, int]) -> dict[SplitName, OfficialSplit]:
    """Return splits that torchvision calls by a name, if another: `train=("trainval", 3680)`."""
    named = {key: n if isinstance(n, tuple) else (key, n) for key, n in splits.items()}
    return {key: OfficialSplit(n, {"split": name}) for key, (name, n) in named.items()}  # type: ignore[misc]


def _photographs(kind: str, folder: str, read: Reader, **splits: int | tuple[str, int]) -> Spec:
    """Describe a set of files that torchvision lists, its classes too."""
    return Spec(kind, folder, _by_name(**splits), read=read)


def _grey(kind: str, classes: tuple[str, ...], mean: float, std: float) -> Spec:
    """Describe a set of grey images with the splits of MNIST."""
    return Spec(kind, kind, _by_flag(60_000, 10_000), classes, (mean,) * 3, (std,) * 3, (GREY,))


IMAGE_FILES = partial(read_lists, "_image_files", "_labels")
# Where classes are written down here, they are known without opening the set.
DIGITS = tuple(string.digits)
# EMNIST's merged sets have no classes for the lower-case letters that look like upper-case ones.
MERGED_LETTERS = _words("A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b d e f g h n q r t")


def _emnist_spec(split: str, train: int, test: int, classes: tuple[str, ...]) -> Spec:
    splits, mean, std = _by_flag(train, test, split=split), (0.1722,) * 3, (0.3309,) * 3
    notes = (GREY, "EMNIST stores images transposed: they are turned upright")
    return Spec("EMNIST", "EMNIST", splits, classes, mean, std, notes, read=read_emnist)


def _caltech_spec(number: str, images: int, pattern: str) -> Spec:
    folder = f"{number}_ObjectCategories"  # without Caltech101's "BACKGROUND_Google", no object
    splits: dict[SplitName, OfficialSplit] = {"train": OfficialSplit(images)}
    read = partial(read_caltech, folder, pattern)
    return Spec(f"Caltech{number}", f"caltech{number}/{folder}", splits, read=read)


def _inaturalist_spec(version: str, images: int) -> Spec:
    # The test images have no public labels.
    splits: dict[SplitName, OfficialSplit] = {
        "train": OfficialSplit(images, {"version": version}),
        "val": OfficialSplit(100_000, {"version": "2021_valid"}),
    }
    return Spec("INaturalist", "", splits, read=read_inaturalist)


TABLE = {
    "cifar10": Spec(
        "CIFAR10",
        "cifar-10-batches-py",
        _by_flag(50_000, 10_000),
        _words("airplane automobile bird cat deer dog frog horse ship truck"),
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Spec(
        "CIFAR100",
        "cifar-100-python",
        _by_flag(50_000, 10_000),
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
    ),
    "mnist": _grey("MNIST", DIGITS, 0.1307, 0.3081),
    "fashion_mnist": _grey(
        "FashionMNIST",
        _words(
            "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot",
            ", ",
        ),
        0.2860,
        0.3530,
    ),
    "kmnist": _grey("KMNIST", _words("o ki su tsu na ha ma ya re wo"), 0.1918, 0.3483),
    "emnist_byclass": _emnist_spec(
        "byclass", 697_932, 116_323, tuple(sorted(string.digits + string.ascii_letters))
    ),
    "emnist_bymerge": _emnist_spec("bymerge", 697_932, 116_323, DIGITS + MERGED_LETTERS),
    "emnist_balanced": _emnist_spec("balanced", 112_800, 18_800, DIGITS + MERGED_LETTERS),
    "emnist_letters": _emnist_spec("letters", 124_800, 20_800, tuple(string.ascii_lowercase)),
    "emnist_digits": _emnist_spec("digits", 240_000, 40_000, DIGITS),
    "svhn": Spec(
        "SVHN",
        "",  # its files lie in `root` itself
        _by_name(train=73_257, test=26_032),
        DIGITS,
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
    ),
    "stl10": Spec(
        "STL10",
        "stl10_binary",
        _by_name(train=5000, test=8000),
        _words("airplane bird car cat deer dog horse monkey ship truck"),
        (0.4467, 0.4398, 0.4066),
        (0.2603, 0.2566, 0.2713),
    ),
    "flowers102": _photographs(
        "Flowers102", "flowers-102", IMAGE_FILES, train=1020, val=1020, test=6149
    ),
    "oxford_pets": _photographs(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        partial(read_lists, "_images", "_labels"),
        train=("trainval", 3680),
        test=3669,
    ),
    "food101": _photographs("Food101", "food-101", IMAGE_FILES, train=75_750, test=25_250),
    # No official split: `val_fraction` or `fold` makes one.
    "eurosat": Spec(
        "EuroSAT",
        "eurosat",
        {"train": OfficialSplit(27_000)},
        _words(
            "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop "
            "Residential River SeaLake"
        ),
        read=partial(read_pairs, "samples"),
    ),
    "gtsrb": Spec(
        "GTSRB",
        "gtsrb",
        _by_name(train=26_640, test=12_630),
        # Named after the meaning of the signs, which the set itself only numbers.
        _words(
            "speed limit 20, speed limit 30, speed limit 50, speed limit 60, speed limit 70, "
            "speed limit 80, end of speed limit 80, speed limit 100, speed limit 120, no passing, "
            "no passing over 3.5 t, right of way at next intersection, priority road, yield, stop, "
            "no vehicles, no vehicles over 3.5 t, no entry, general caution, dangerous curve left, "
            "dangerous curve right, double curve, bumpy road, slippery road, "
            "road narrows on the right, road work, traffic signals, pedestrians, "
            "children crossing, bicycles crossing, beware of ice or snow, wild animals crossing, "
            "end of all limits, turn right ahead, turn left ahead, ahead only, straight or right, "
            "straight or left, keep right, keep left, roundabout, end of no passing, "
            "end of no passing over 3.5 t",
            ", ",
        ),
        read=partial(read_pairs, "_samples"),
    ),
    "dtd": _photographs("DTD", "dtd", IMAGE_FILES, train=1880, val=1880, test=1880),
    "country211": _photographs(
        "Country211",
        "country211",
        partial(read_pairs, "samples"),
        train=31_650,
        val=("valid", 10_550),
        test=21_100,
    ),
    "stanford_cars": _photographs(
        "StanfordCars",
        "stanford_cars",
        partial(read_pairs, "_samples"),
        train=8144,
        test=8041,
    ),
    "fgvc_aircraft": _photographs(
        "FGVCAircraft", "fgvc-aircraft-2013b", IMAGE_FILES, train=3334, val=3333, test=3333
    ),
    "caltech101": _caltech_spec("101", 8677, "image_{1:04d}.jpg"),
    "caltech256": _caltech_spec("256", 30_607, "{0:03d}_{1:04d}.jpg"),
    "imagenette": Spec(
        "Imagenette",
        "imagenette2",
        _by_name(train=9469, val=3925),
        _words(
            "tench, English springer, cassette player, chain saw, church, French horn, "
            "garbage truck, gas pump, golf ball, parachute",
            ", ",
        ),
        read=partial(read_pairs, "_samples"),
    ),
    "imagenet": replace(
        _photographs("ImageNet", "", partial(read_pairs, "samples"), train=1_281_167, val=50_000),
        by_hand="put ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and "
        "ILSVRC2012_img_val.tar there, which image-net.org gives to those who register; folders "
        "of its classes alone are data.name=image_folder",
    ),
    "inaturalist": _inaturalist_spec("2021_train", 2_686_843),
    "inaturalist_mini": _inaturalist_spec("2021_train_mini", 500_000),
    "places365": Spec(
        "Places365",
        "",
        {
            # `small`: images of 256 x 256 pixels.
            "train": OfficialSplit(1_803_460, {"split": "train-standard", "small": True}),
            "val": OfficialSplit(36_500, {"split": "val", "small": True}),
        },
        read=partial(read_pairs, "imgs"),
    ),
}
