"""Each dataset is laid out on disk in miniature, as its authors publish it, and read back."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets

from tests.data.pictures import plant
from vtrain.data.datasets.samples import ArraySamples, FileSamples
from vtrain.data.datasets.splits import TEST_CHOOSES, Split
from vtrain.data.datasets.torchvision import TorchvisionSource
from vtrain.data.datasets.torchvision_table import TABLE, Spec
from vtrain.errors import DataError
from vtrain.registry import SOURCES

Build = Callable[[Path, pytest.MonkeyPatch], dict[str, list[int]]]
MINIATURES: dict[str, Build] = {}
"""Dataset -> a function that writes a few images and returns the classes of each split."""


def miniature(*names: str) -> Callable[[Build], Build]:
    def decorate(build: Build) -> Build:
        MINIATURES.update(dict.fromkeys(names, build))
        return build

    return decorate


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def color(i: int) -> np.ndarray:
    """Image number i is of one colour, so that it can be known again."""
    return np.full((32, 32, 3), i * 40 % 256, dtype=np.uint8)


@miniature("cifar10", "cifar100")
def cifar(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    classes = {"train": [3, 0, 9], "test": [1, 2]}
    for kind, key in ((datasets.CIFAR10, "labels"), (datasets.CIFAR100, "fine_labels")):
        folder = root / kind.base_folder
        listed = {}
        for split, labels in classes.items():
            data = np.stack([color(i).transpose(2, 0, 1).reshape(-1) for i in range(len(labels))])
            path = write(folder / split, pickle.dumps({"data": data, key: labels}))
            listed[split] = [[split, md5(path)]]
        names_key = kind.meta["key"]
        meta = write(folder / "meta", pickle.dumps({names_key: ["a"] * 10}))
        patch.setattr(kind, "train_list", listed["train"])
        patch.setattr(kind, "test_list", listed["test"])
        patch.setattr(kind, "meta", {"filename": "meta", "key": names_key, "md5": md5(meta)})
    return classes


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files: magic number, sizes, bytes."""
    head = bytes([0, 0, 8, array.ndim])
    return head + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_idx(folder: Path, prefix: str, labels: list[int]) -> None:
    images = np.stack([color(i)[:28, :28, 0] for i in range(len(labels))])
    images[:, 0, :] = 255  # the top row
    write(folder / f"{prefix}-images-idx3-ubyte", idx(images))
    write(folder / f"{prefix}-labels-idx1-ubyte", idx(np.array(labels, dtype=np.uint8)))


@miniature("mnist", "fashion_mnist", "kmnist")
def mnist(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    for kind in ("MNIST", "FashionMNIST", "KMNIST"):
        write_idx(root / kind / "raw", "train", [7, 0, 9])
        write_idx(root / kind / "raw", "t10k", [1])
    return {"train": [7, 0, 9], "test": [1]}


EMNIST = {"byclass": 61, "bymerge": 46, "balanced": 46, "letters": 25, "digits": 9}


@miniature(*(f"emnist_{split}" for split in EMNIST))
def emnist(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    for split in EMNIST:
        first = int(split == "letters")
        for part in ("train", "test"):
            write_idx(root / "EMNIST/raw", f"emnist-{split}-{part}", [first, first + 2])
    return {"train": [0, 2], "test": [0, 2]}


@miniature("svhn")
def svhn(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    listed = {}
    for split, labels in {"train": [10, 3], "test": [9, 10]}.items():
        images = np.stack([color(i) for i in range(len(labels))], axis=-1)
        path = root / f"{split}.mat"
        scipy.io.savemat(path, {"X": images, "y": np.array(labels)[:, None]})
        listed[split] = ["", path.name, md5(path)]
    patch.setattr(datasets.SVHN, "split_list", listed)
    return {"train": [0, 3], "test": [9, 0]}  # the files say 10 for the digit 0


@miniature("stl10")
def stl10(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "stl10_binary"
    for split, labels in {"train": [1, 10], "test": [5]}.items():
        images = np.stack([np.full((3, 96, 96), i * 40, np.uint8) for i in range(len(labels))])
        paths = [write(folder / f"{split}_X.bin", images.tobytes())]
        paths.append(write(folder / f"{split}_y.bin", bytes(labels)))
        patch.setattr(datasets.STL10, f"{split}_list", [[p.name, md5(p)] for p in paths])
    patch.setattr(datasets.STL10, "train_list", [*datasets.STL10.train_list, ["", ""]])
    patch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    return {"train": [0, 9], "test": [4]}


def photos(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(color(i)).save(path, "PPM" if name.endswith("ppm") else "JPEG")


@miniature("flowers102")
def flowers(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "flowers-102"
    photos(folder / "jpg", *(f"image_{i:05d}.jpg" for i in range(1, 5)))
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": [1, 102, 5, 6]})
    scipy.io.savemat(folder / "setid.mat", {"trnid": [1, 2], "valid": [[3, 3]], "tstid": [[4, 4]]})
    files = {"label": "imagelabels.mat", "setid": "setid.mat"}
    patch.setattr(
        datasets.Flowers102, "_file_dict", {k: (v, md5(folder / v)) for k, v in files.items()}
    )
    return {"train": [0, 101], "val": [4, 4], "test": [5, 5]}


@miniature("oxford_pets")
def pets(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "oxford-iiit-pet"
    photos(folder / "images", "Abyssinian_1.jpg", "great_pyrenees_2.jpg", "Abyssinian_3.jpg")
    write(folder / "annotations/trainval.txt", "Abyssinian_1 1 1 1\ngreat_pyrenees_2 2 2 1\n")
    write(folder / "annotations/test.txt", "Abyssinian_3 1 1 1\n")
    return {"train": [0, 1], "test": [0]}


@miniature("food101")
def food(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "food-101"
    photos(folder / "images", "waffles/1.jpg", "apple_pie/2.jpg", "waffles/3.jpg")
    for split, ids in {"train": ["apple_pie/2", "waffles/1"], "test": ["waffles/3"]}.items():
        content = {"waffles": [i for i in ids if "waf" in i], "apple_pie": []}
        content["apple_pie"] = [i for i in ids if "pie" in i]
        write(folder / f"meta/{split}.json", json.dumps(content))
    return {"train": [1, 0], "test": [1]}


@miniature("eurosat")
def eurosat(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    photos(root / "eurosat/2750", *(f"{name}/1.jpg" for name in TABLE["eurosat"].classes))
    return {"train": list(range(10))}


@miniature("gtsrb")
def gtsrb(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "gtsrb"
    photos(folder / "GTSRB/Training", *(f"{i:05d}/0.ppm" for i in range(43)))
    photos(folder / "GTSRB/Final_Test/Images", "00000.ppm")
    write(folder / "GT-final_test.csv", "Filename;Width;ClassId\n00000.ppm;32;14\n")
    return {"train": list(range(43)), "test": [14]}


@miniature("dtd")
def dtd(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "dtd/dtd"
    photos(folder / "images", "banded/1.jpg", "zigzagged/2.jpg")
    for split in ("train", "val", "test"):
        write(folder / f"labels/{split}1.txt", "zigzagged/2.jpg\nbanded/1.jpg\n")
    return {"train": [1, 0], "val": [1, 0], "test": [1, 0]}


@miniature("country211")
def country(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    for split in ("train", "valid", "test"):
        photos(root / "country211" / split, "AD/1.jpg", "ZW/2.jpg")
    return {"train": [0, 1], "val": [0, 1], "test": [0, 1]}


@miniature("stanford_cars")
def cars(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "stanford_cars"
    photos(folder / "cars_train", "1.jpg", "2.jpg")
    photos(folder / "cars_test", "1.jpg", "2.jpg")
    (folder / "devkit").mkdir()
    annotations = np.array([("1.jpg", 2), ("2.jpg", 1)], dtype=[("fname", "O"), ("class", "i4")])
    for name in ("devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"):
        scipy.io.savemat(folder / name, {"annotations": annotations})
    names = np.array(["AM General Hummer", "Acura RL"], dtype=object)
    scipy.io.savemat(folder / "devkit/cars_meta.mat", {"class_names": names})
    return {"train": [1, 0], "test": [1, 0]}


@miniature("fgvc_aircraft")
def aircraft(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    folder = root / "fgvc-aircraft-2013b/data"
    photos(folder / "images", "1.jpg", "2.jpg")
    write(folder / "variants.txt", "707-320\nA340-200\n")
    for split in ("train", "val", "test"):
        write(folder / f"images_variant_{split}.txt", "2 A340-200\n1 707-320\n")
    return {"train": [1, 0], "val": [1, 0], "test": [1, 0]}


@miniature("caltech101", "caltech256")
def caltech(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    small = root / "caltech101/101_ObjectCategories"
    photos(small, "ant/image_0001.jpg", "BACKGROUND_Google/image_0001.jpg")
    photos(small, "bass/image_0001.jpg", "bass/image_0002.jpg")
    large = root / "caltech256/256_ObjectCategories"
    photos(large, "001.ak47/001_0001.jpg", "002.flag/002_0001.jpg", "002.flag/002_0002.jpg")
    return {"train": [0, 1, 1]}


@miniature("imagenette")
def imagenette(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    wnids = sorted(datasets.Imagenette._WNID_TO_CLASS)
    for split in ("train", "val"):
        photos(root / "imagenette2" / split, *(f"{wnid}/1.jpeg" for wnid in wnids))
    return {"train": list(range(10)), "val": list(range(10))}


@miniature("imagenet")
def imagenet(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    names = {"n01": ("tench", "Tinca tinca"), "n02": ("crane",), "n03": ("crane",)}
    torch.save((names, ["n01"]), root / "meta.bin")
    for split in ("train", "val"):
        photos(root / split, *(f"{wnid}/1.JPEG" for wnid in names))
    return {"train": [0, 1, 2], "val": [0, 1, 2]}


@miniature("inaturalist", "inaturalist_mini")
def inaturalist(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    kinds = [f"0000{i}_Animalia_Chordata_Aves_Order_Family_Genus_s{i}" for i in range(2)]
    for version in ("2021_train", "2021_train_mini", "2021_valid"):
        photos(root / version, *(f"{kind}/a.jpg" for kind in kinds))
    return {"train": [0, 1], "val": [0, 1]}


@miniature("places365")
def places(root: Path, patch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    photos(root / "data_256_standard", "a/airfield/1.jpg", "z/zoo/2.jpg")
    photos(root / "val_256", "3.jpg")
    categories = write(root / "categories_places365.txt", "/a/airfield 0\n/z/zoo 1\n")
    train = write(root / "places365_train_standard.txt", "/z/zoo/2.jpg 1\n/a/airfield/1.jpg 0\n")
    val = write(root / "places365_val.txt", "3.jpg 1\n")
    kind = datasets.Places365
    patch.setattr(kind, "_CATEGORIES_META", (categories.name, md5(categories)))
    lists = {"train-standard": (train.name, md5(train)), "val": (val.name, md5(val))}
    patch.setattr(kind, "_FILE_LIST_META", lists)
    return {"train": [1, 0], "val": [1]}


def counted(name: str, classes: dict[str, list[int]]) -> Spec:
    """The table's row, told that the miniature is the whole dataset."""
    splits = {k: replace(s, images=len(classes[k])) for k, s in TABLE[name].splits.items()}
    return replace(TABLE[name], splits=splits)


def test_every_dataset_of_the_table_has_a_miniature() -> None:
    assert set(MINIATURES) == set(TABLE)
    assert set(TABLE) <= set(SOURCES.names())


@pytest.mark.parametrize("name", TABLE)
def test_a_dataset_is_read_as_published(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = MINIATURES[name](tmp_path, monkeypatch)
    source = TorchvisionSource(counted(name, expected), root=tmp_path)
    assert set(TABLE[name].splits) == set(expected)
    for split, classes in expected.items():
        samples = source.split(split)
        assert samples.targets.tolist() == classes
        assert samples.targets.dtype == torch.int64
        for i in range(len(samples)):
            image = samples.image(i)
            assert image.mode == "RGB"
            assert samples.name(i)
        if isinstance(samples, ArraySamples):
            assert samples.array.dtype == torch.uint8
            assert samples.array.shape[1] == 3
            bottom = samples.array[:, :, -1, -1].tolist()
            assert bottom == [[40 * i] * 3 for i in range(len(samples))]
        else:
            assert isinstance(samples, FileSamples)
            assert (tmp_path / samples.paths[0]).is_file()
    assert len(set(source.classes)) == len(source.classes)
    assert max(max(c) for c in expected.values()) < len(source.classes)


def test_declared_classes_are_torchvisions(tmp_path: Path) -> None:
    for split, last in EMNIST.items():
        theirs = datasets.EMNIST.classes_split_dict[split]
        assert TABLE[f"emnist_{split}"].classes == tuple(theirs)[-last - 1 :]
    kinds = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}
    assert TABLE["fashion_mnist"].classes == tuple(kinds["fashion_mnist"].classes)
    assert len(TABLE["mnist"].classes) == len(kinds["mnist"].classes)
    assert TABLE["kmnist"].classes == tuple(datasets.KMNIST.classes)
    names = [
        datasets.Imagenette._WNID_TO_CLASS[w][0] for w in sorted(datasets.Imagenette._WNID_TO_CLASS)
    ]
    assert TABLE["imagenette"].classes == tuple(names)
    assert [len(TABLE[n].classes) for n in ("cifar100", "gtsrb", "emnist_byclass")] == [100, 43, 62]


def test_emnist_is_turned_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MINIATURES["emnist_digits"](tmp_path, monkeypatch)
    source = TorchvisionSource(counted("emnist_digits", expected), root=tmp_path)
    array = source.split("train").array
    assert (array[:, :, :, 0] == 255).all()  # the files' top row is the images' left column
    assert any("upright" in note for note in source.notes)


def test_two_imagenet_classes_of_one_name_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = MINIATURES["imagenet"](tmp_path, monkeypatch)
    source = TorchvisionSource(counted("imagenet", expected), root=tmp_path)
    assert source.classes == ("tench, Tinca tinca", "crane (n02)", "crane (n03)")


def test_test_images_validate_where_there_are_no_others_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = MINIATURES["svhn"](tmp_path, monkeypatch)
    source = TorchvisionSource(counted("svhn", expected), root=tmp_path)
    assert source.splits == ("train", "test")
    assert Split(source).split("val").targets.tolist() == expected["test"]
    assert Split(source).notes[-1] == TEST_CHOOSES
    with pytest.raises(DataError, match="no official val split"):
        source.split("val")


def test_a_dataset_without_official_validation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = MINIATURES["eurosat"](tmp_path, monkeypatch)
    source = TorchvisionSource(counted("eurosat", expected), root=tmp_path)
    with pytest.raises(DataError, match=r"no official val split: set data\.val_fraction"):
        source.split("val")


# What is refused


@pytest.mark.parametrize("name", TABLE)
def test_an_absent_dataset_is_one_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](root=tmp_path)
    with pytest.raises(DataError) as caught:
        source.split("train")
    (line,) = caught.value.lines()
    assert caught.value.exit_code == 3
    assert "is not there" in line or "present in the root" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10", "mnist", "flowers102", "eurosat"])
def test_a_download_without_network_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise URLError(OSError(101, "Network is unreachable\nmore"))

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    source = SOURCES[name](root=tmp_path / "new", download=True)
    reason = "Error downloading [a-z0-9.-]+" if name == "mnist" else "Network is unreachable"
    with pytest.raises(DataError, match=rf"could not be downloaded: {reason} \(") as caught:
        source.split("train")
    assert len(caught.value.lines()) == 1
    assert capfd.readouterr().out == ""  # torchvision's remarks are no results


def test_a_half_extracted_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("eurosat", "food101"):
        MINIATURES[name](tmp_path, monkeypatch)
        with pytest.raises(DataError, match=r"is not complete: \d+ of [\d,]+ images are there"):
            SOURCES[name](root=tmp_path).split("train")


def test_a_listed_file_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = MINIATURES["food101"](tmp_path, monkeypatch)
    (tmp_path / "food-101/images/waffles/1.jpg").unlink()
    source = TorchvisionSource(counted("food101", expected), root=tmp_path)
    with pytest.raises(DataError, match=r"1 file is missing, the first .*waffles/1\.jpg"):
        source.split("train")


def test_a_hostile_pickle_in_place_of_a_cifar_batch_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar(tmp_path, monkeypatch)
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {canary}",)

    write(tmp_path / "cifar-10-batches-py/train", pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="not complete"):
        SOURCES["cifar10"](root=tmp_path).split("train")
    assert not canary.exists()


def test_a_class_out_of_range_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mnist(tmp_path, monkeypatch)
    write_idx(tmp_path / "MNIST/raw", "train", [7, 10, 255])
    source = TorchvisionSource(counted("mnist", expected), root=tmp_path)
    with pytest.raises(DataError, match=r"class 10 of an image is not in 0 \.\. 9 \(2 images\)"):
        source.split("train")


DOWNLOAD = """
import sys, time
from pathlib import Path
from torchvision import datasets
from vtrain.registry import SOURCES

class Slow(datasets.MNIST):
    def __init__(self, root, train, download):
        busy = Path(root, "busy")
        busy.touch(exist_ok=False)  # fails if another process is here
        time.sleep(0.5)
        busy.unlink()
        self.data, self.targets = __import__("torch").zeros(2, 28, 28).byte(), [0, 1]

datasets.MNIST = Slow
source = SOURCES["mnist"](root=Path(sys.argv[1]), download=True)
try:
    source.split("train")
except Exception as error:
    print(error)
"""


@pytest.mark.slow
def test_two_downloads_take_turns(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DOWNLOAD, str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for run in runs:
        assert "2 of 60,000 images" in run.communicate()[0]


def test_planted_pictures_differ(tmp_path: Path) -> None:
    root = plant(tmp_path, "1.png", "2.png")
    assert (root / "1.png").read_bytes() != (root / "2.png").read_bytes()


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_what_no_program_can_download_is_not_advised_to_be(
    tmp_path: Path, download: bool, exists: bool
) -> None:
    root = tmp_path / "imagenet"
    if exists:
        root.mkdir()
    source = SOURCES["imagenet"](root=root, download=download)
    with pytest.raises(DataError, match=r"ImageNet is not there") as caught:
        source.split("train")
    text = str(caught.value)
    assert f"({root}" in text
    assert "put ILSVRC2012_devkit_t12.tar.gz" in text
    assert "download=true" not in text
    assert "network" not in text
