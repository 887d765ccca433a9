"""The table of torchvision's classification datasets: their splits, classes and statistics.

`mean` and `std` are those in common use for a set, and ImageNet's for sets of photographs:
normalisation only has to be the same in training and in use.
"""

import string

from vtrain.data.datasets.samples import GREY, SplitName
from vtrain.data.datasets.torchvision_spec import (
    OfficialSplit,
    Spec,
    read_array,
    read_caltech,
    read_emnist,
    read_inaturalist,
    read_lists,
    read_pairs,
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _by_flag(train: int, val: int) -> dict[SplitName, OfficialSplit]:
    return {
        "train": OfficialSplit(train, {"train": True}),
        "val": OfficialSplit(val, {"train": False}),
    }


def _by_name(**splits: tuple[str, int]) -> dict[SplitName, OfficialSplit]:
    """Return splits that torchvision calls by a name: `train=("trainval", 3680)`."""
    return {key: OfficialSplit(n, {"split": name}) for key, (name, n) in splits.items()}  # type: ignore[misc]


# Where classes are written down here, they are known without opening the set.
DIGITS = tuple(string.digits)
# EMNIST's merged sets have no classes for the lower-case letters that look like upper-case ones.
MERGED_LETTERS = _words("A B C D E F G H I J K L M N O P Q R S T U V W X Y Z a b d e f g h n q r t")

CIFAR10 = Spec(
    "CIFAR10",
    "cifar-10-batches-py",
    _by_flag(50_000, 10_000),
    _words("airplane automobile bird cat deer dog frog horse ship truck"),
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
    read=read_array,
)


def _emnist_spec(split: str, train: int, test: int, classes: tuple[str, ...]) -> Spec:
    splits: dict[SplitName, OfficialSplit] = {
        "train": OfficialSplit(train, {"split": split, "train": True}),
        "val": OfficialSplit(test, {"split": split, "train": False}),
    }
    mean, std = (0.1722,) * 3, (0.3309,) * 3
    notes = (GREY, "EMNIST stores images transposed: they are turned upright")
    return Spec("EMNIST", "EMNIST", splits, classes, mean, std, notes, read=read_emnist)


TABLE = {
    "cifar10": CIFAR10,
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
        read=read_array,
    ),
    "mnist": Spec(
        "MNIST",
        "MNIST",
        _by_flag(60_000, 10_000),
        DIGITS,
        (0.1307,) * 3,
        (0.3081,) * 3,
        (GREY,),
        read=read_array,
    ),
    "fashion_mnist": Spec(
        "FashionMNIST",
        "FashionMNIST",
        _by_flag(60_000, 10_000),
        (*_words("T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag"), "Ankle boot"),
        (0.2860,) * 3,
        (0.3530,) * 3,
        (GREY,),
        read=read_array,
    ),
    "kmnist": Spec(
        "KMNIST",
        "KMNIST",
        _by_flag(60_000, 10_000),
        _words("o ki su tsu na ha ma ya re wo"),
        (0.1918,) * 3,
        (0.3483,) * 3,
        (GREY,),
        read=read_array,
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
        "",  # its files lie in `root` itself
        _by_name(train=("train", 73_257), val=("test", 26_032)),
        DIGITS,
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
        read=read_array,
    ),
    "stl10": Spec(
        "STL10",
        "stl10_binary",
        _by_name(train=("train", 5000), val=("test", 8000)),
        _words("airplane bird car cat deer dog horse monkey ship truck"),
        (0.4467, 0.4398, 0.4066),
        (0.2603, 0.2566, 0.2713),
        read=read_array,
    ),
    "flowers102": Spec(
        "Flowers102",
        "flowers-102",
        _by_name(train=("train", 1020), val=("val", 1020), test=("test", 6149)),
        read=read_lists("_image_files", "_labels"),
    ),
    "oxford_pets": Spec(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        _by_name(train=("trainval", 3680), val=("test", 3669)),
        read=read_lists("_images", "_labels"),
    ),
    "food101": Spec(
        "Food101",
        "food-101",
        _by_name(train=("train", 75_750), val=("test", 25_250)),
        read=read_lists("_image_files", "_labels"),
    ),
    # No official split: `val_fraction` or `fold` makes one.
    "eurosat": Spec(
        "EuroSAT",
        "eurosat",
        {"train": OfficialSplit(27_000)},
        _words("AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop")
        + _words("Residential River SeaLake"),
        read=read_pairs("samples"),
    ),
    "gtsrb": Spec(
        "GTSRB",
        "gtsrb",
        _by_name(train=("train", 26_640), val=("test", 12_630)),
        # Named after the meaning of the signs, which the set itself only numbers.
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
        read=read_pairs("_samples"),
    ),
    "dtd": Spec(
        "DTD",
        "dtd",
        _by_name(train=("train", 1880), val=("val", 1880), test=("test", 1880)),
        read=read_lists("_image_files", "_labels"),
    ),
    "country211": Spec(
        "Country211",
        "country211",
        _by_name(train=("train", 31_650), val=("valid", 10_550), test=("test", 21_100)),
        read=read_pairs("samples"),
    ),
    "stanford_cars": Spec(
        "StanfordCars",
        "stanford_cars",
        _by_name(train=("train", 8144), val=("test", 8041)),
        read=read_pairs("_samples"),
    ),
    "fgvc_aircraft": Spec(
        "FGVCAircraft",
        "fgvc-aircraft-2013b",
        _by_name(train=("train", 3334), val=("val", 3333), test=("test", 3333)),
        read=read_lists("_image_files", "_labels"),
    ),
    "caltech101": Spec(
        "Caltech101",
        "caltech101/101_ObjectCategories",  # without "BACKGROUND_Google", which is no object
        {"train": OfficialSplit(8677)},
        read=read_caltech("101_ObjectCategories", "image_{1:04d}.jpg"),
    ),
    "caltech256": Spec(
        "Caltech256",
        "caltech256/256_ObjectCategories",
        {"train": OfficialSplit(30_607)},
        read=read_caltech("256_ObjectCategories", "{0:03d}_{1:04d}.jpg"),
    ),
    "imagenette": Spec(
        "Imagenette",
        "imagenette2",
        _by_name(train=("train", 9469), val=("val", 3925)),
        (
            *("tench", "English springer", "cassette player", "chain saw", "church"),
            *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
        ),
        read=read_pairs("_samples"),
    ),
    "imagenet": Spec(
        "ImageNet",
        "",
        _by_name(train=("train", 1_281_167), val=("val", 50_000)),
        read=read_pairs("samples"),
    ),
    "inaturalist": Spec(
        "INaturalist",
        "",
        {
            # The test images have no public labels.
            "train": OfficialSplit(2_686_843, {"version": "2021_train"}),
            "val": OfficialSplit(100_000, {"version": "2021_valid"}),
        },
        read=read_inaturalist,
    ),
    "inaturalist_mini": Spec(
        "INaturalist",
        "",
        {
            "train": OfficialSplit(500_000, {"version": "2021_train_mini"}),
            "val": OfficialSplit(100_000, {"version": "2021_valid"}),
        },
        read=read_inaturalist,
    ),
    "places365": Spec(
        "Places365",
        "",
        {
            # `small`: images of 256 x 256 pixels.
            "train": OfficialSplit(1_803_460, {"split": "train-standard", "small": True}),
            "val": OfficialSplit(36_500, {"split": "val", "small": True}),
        },
        read=read_pairs("imgs"),
    ),
}
