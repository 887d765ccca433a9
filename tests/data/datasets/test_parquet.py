"""Parquet in the layout of Hugging Face, written by pyarrow and by `datasets` itself."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.files.test_images import encoded, gradient
from tests.harness import Vtrain
from vtrain.data.datasets.parquet import Parquet, ParquetSamples
from vtrain.data.datasets.splits import Split
from vtrain.data.inspect.fingerprint import dataset_fingerprint
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.preprocess import Preprocess
from vtrain.data.train_geometry import TrainGeometry
from vtrain.errors import DataError
from vtrain.files import parquet as files

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NAMES = ["cat", "dog", "owl"]


def picture(number: int) -> bytes:
    """An image of its own colour."""
    return encoded(Image.new("RGB", (9, 8), (number, 255 - number, 7)))


def write(
    path: Path,
    numbers: range,
    *,
    names: list[str] | None = NAMES,
    labels: list[Any] | None = None,
    columns: tuple[str, str] = ("image", "label"),
    rows: int = 4,
    pictures: list[Any] | None = None,
) -> None:
    """Write images in groups of `rows`, as `datasets` does; the label of an image is its rest."""
    image, label = columns
    labels = [n % 3 for n in numbers] if labels is None else labels
    cells = [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers]
    table = pa.table({image: pictures or cells, label: labels})
    feature = {"_type": "ClassLabel"} if names is None else {"_type": "ClassLabel", "names": names}
    features = {image: {"_type": "Image"}, label: feature}
    if names is not None:
        said = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({b"huggingface": said.encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training shards of 10 and 7 images, and one of validation."""
    write(tmp_path / "train-00000-of-00002.parquet", range(10))
    write(tmp_path / "train-00001-of-00002.parquet", range(10, 17))
    write(tmp_path / "validation-00000-of-00001.parquet", range(17, 26))
    return tmp_path


def colours(samples: ParquetSamples, indices: range | None = None) -> list[int]:
    """The number that each image was made from."""
    pixels = (np.asarray(samples.image(i)) for i in indices or range(len(samples)))
    return [int(p[0, 0, 0]) for p in pixels]


def test_images_classes_and_splits_are_those_that_were_written(root: Path) -> None:
    source = Parquet(root=root)
    assert (source.classes, source.splits) == (tuple(NAMES), ("train", "val"))
    train, val = source.split("train"), source.split("val")
    assert colours(train) == list(range(17))
    assert train.targets.tolist() == [n % 3 for n in range(17)]
    assert colours(val) == list(range(17, 26))
    assert train.name(12) == f"{root}/train-00001-of-00002.parquet:2"
    assert source.notes == ()


def test_any_order_reads_each_group_of_rows_and_few_are_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = Parquet(root=root).split("train")
    monkeypatch.setattr(files, "KEPT", 0)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0)).tolist()
    assert [int(np.asarray(samples.image(i))[0, 0, 0]) for i in order] == order
    assert len(samples.groups._groups) == 1
    monkeypatch.setattr(files, "KEPT", 2**20)
    assert colours(samples) == list(range(17))
    assert len(samples.groups._groups) == 5  # of 4, 4, 2 and 4, 3 rows


def test_another_process_opens_the_files_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Parquet(root=root).split("train")
    assert colours(samples, range(3)) == [0, 1, 2]
    other = pickle.loads(pickle.dumps(samples))
    assert other.groups._groups == {}
    assert colours(other, range(3)) == [0, 1, 2]
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a fork
    samples.image(12)
    assert len(samples.groups._groups) == 1


def test_loaders_with_workers_and_without_see_the_same(root: Path) -> None:
    samples = Parquet(root=root).split("train")
    geometry = TrainGeometry(Preprocess(8), 0, (0.5, 1.0), (1.0, 1.0))
    batches = []
    for workers in (0, 2):
        loader = TrainLoader(samples, geometry, 5, 3, num_workers=workers, cache="none")
        batches.append([(b.images.clone(), b.targets.clone()) for b in loader.batches(epoch=1)])
        loader.close()
    for one, two in zip(*batches, strict=True):
        assert all(map(torch.equal, one, two))


def test_a_new_shard_moves_no_image_between_training_and_validation(root: Path) -> None:
    def held_out() -> set[str]:
        val = Split(Parquet(root=root), val_fraction=0.3).split("val")
        return {str(val.key(i)) for i in range(len(val))}

    before = held_out()
    write(root / "train-00002-of-00003.parquet", range(30, 50))
    after = held_out()
    assert before
    assert {key for key in after if "00002-of-00003" not in key} == before


def test_the_fingerprint_knows_other_images_and_not_another_place(root: Path) -> None:
    def fingerprint(folder: Path) -> object:
        source = Split(Parquet(root=folder))
        return dataset_fingerprint(
            source.classes, source.split("train"), source.split("val"), source
        )

    before = fingerprint(root)
    moved = root.rename(root.parent / "moved")
    assert fingerprint(moved) == before
    others = [{"bytes": encoded(gradient()), "path": ""}] * 7  # a shard is known by its size
    write(moved / "train-00001-of-00002.parquet", range(10, 17), pictures=others)
    assert fingerprint(moved) != before


@pytest.mark.parametrize("folder", ["data", "plain_text"])
def test_files_may_lie_in_a_folder_below(root: Path, folder: str) -> None:
    below = root / folder
    below.mkdir()
    for path in root.glob("*.parquet"):
        path.rename(below / path.name)
    assert len(Parquet(root=root).split("train")) == 17
    write(root / "other" / "train-00000-of-00001.parquet", range(3))
    with pytest.raises(DataError, match=r"several folders have files .*name one, as data\.root"):
        Parquet(root=root).split("train")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([10, 2, 2, 10], ("2", "10")), (["b", "a", "a", "b"], ("a", "b"))],
)
def test_labels_without_names_are_sorted(
    tmp_path: Path, labels: list[Any], classes: tuple[str, ...]
) -> None:
    write(tmp_path / "train.parquet", range(4), names=None, labels=labels)
    source = Parquet(root=tmp_path)
    assert source.classes == classes
    assert [classes[k] for k in source.split("train").targets.tolist()] == list(map(str, labels))


def test_without_training_files_the_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    for name, labels in (("val", [2, 2]), ("test", [10, 2])):
        write(tmp_path / f"{name}.parquet", range(2), names=None, labels=labels)
    source = Parquet(root=tmp_path)
    assert source.classes == ("2", "10")
    assert [source.split(name).targets.tolist() for name in ("val", "test")] == [[0, 0], [1, 0]]


def test_images_may_be_bytes_alone_and_columns_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write(path, range(3), columns=("img", "fine"), pictures=[picture(n) for n in range(3)])
    assert colours(Parquet(root=tmp_path).split("train")) == [0, 1, 2]
    table = pq.read_table(path)
    pq.write_table(
        table.append_column("coarse", pa.array([0, 0, 1])).replace_schema_metadata(), path
    )
    with pytest.raises(DataError, match=r"2 columns of labels: fine, coarse.*data\.label"):
        Parquet(root=tmp_path).split("train")
    assert Parquet(root=tmp_path, label="coarse").split("train").targets.tolist() == [0, 0, 1]
    with pytest.raises(DataError, match="no column 'colour' of labels"):
        Parquet(root=tmp_path, label="colour").split("train")


@pytest.mark.parametrize("form", ["none", "list", "Sequence"])
def test_a_list_is_several_labels(tmp_path: Path, form: str) -> None:
    path, rows = tmp_path / "train.parquet", [[0, 2], [1], [], [2, 1, 0]]
    words = [[NAMES[k] for k in row] for row in rows]
    write(path, range(4), names=None, labels=words if form == "none" else rows)
    if form != "none":
        feature: Any = {"_type": "ClassLabel", "names": NAMES}
        feature = [feature] if form == "list" else {"feature": feature, "_type": form}
        said = json.dumps({"info": {"features": {"label": feature}}})
        table = pq.read_table(path).replace_schema_metadata({b"huggingface": said.encode()})
        pq.write_table(table, path)
    source = Parquet(root=tmp_path, allow_empty=True)
    assert source.classes == tuple(NAMES)
    samples = source.split("train")
    assert samples.targets.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert (samples.targets.dtype, colours(samples)) == (torch.float32, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no parquet", "not a readable Parquet file"),
        ("cut", "not a readable Parquet file"),
        ("no images", "no column of images .*there are label"),
        ("an empty list", r"row 1 has no label .*data\.allow_empty=true"),
        ("no list", r"row 1 has no label"),
        ("twice", r"row 0 has a label twice: \[1, 1\]"),
        ("beyond in a list", "class '5' is not one of the 3"),
        ("null in a list", "images without a label"),
        ("unlabelled", "images without a label"),
        ("null", "images without a label"),
        ("beyond", "class '5' is not one of the 3"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / "train.parquet"
    labels: dict[str, list[Any]] = {
        "an empty list": [[0, 1], [], [1]],
        "no list": [[0, 1], None, [1]],
        "twice": [[1, 1], [0], [1]],
        "beyond in a list": [[0, 5], [0], [1]],
        "null in a list": [[0, None], [0], [1]],
        "unlabelled": [0, -1, 1],
        "null": [0, None, 1],
        "beyond": [0, 1, 5],
    }
    write(path, range(3), labels=labels.get(kind))
    if kind == "no parquet":
        path.write_text("a web page")
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    if kind == "no images":
        pq.write_table(pa.table({"label": [0, 1]}), path)
    with pytest.raises(DataError, match=said) as caught:
        Parquet(root=tmp_path).split("train")
    assert len(caught.value.lines()) == 1
    assert "train.parquet" in str(caught.value)


def test_a_row_without_its_image_or_with_a_damaged_one_is_named(tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "0.png"}, None, {"bytes": b"no image", "path": "2.png"}]
    write(tmp_path / "train.parquet", range(3), pictures=cells)
    samples = Parquet(root=tmp_path).split("train")
    for index, said in ((0, "its path alone"), (1, "its path alone"), (2, "not a readable image")):
        with pytest.raises(DataError, match=f"{said}.*train.parquet:{index}"):
            samples.image(index)


def test_shards_of_another_layout_and_absent_ones_are_named(root: Path) -> None:
    write(root / "train-00002-of-00003.parquet", range(3), names=["cat", "dog", "cow"])
    with pytest.raises(DataError, match=r"other columns or class names.*00002-of-00003"):
        Parquet(root=root).split("train")
    with pytest.raises(DataError, match=r"no files 'test\*\.parquet'.*there is train-00000"):
        Parquet(root=root).split("test")


def test_large_groups_of_rows_are_a_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vtrain.data.datasets.parquet.LARGE_GROUP", 10)
    source = Parquet(root=root)
    source.split("train")
    assert "row_group_size=100" in source.notes[0]


def test_a_run_goes_on_exactly(root: Path, monkeypatch: pytest.MonkeyPatch, vtrain: Vtrain) -> None:
    monkeypatch.chdir(root)
    Path("c.yaml").write_text(
        "model: {name: vit_ti, patch_size: 4, embed_dim: 16, depth: 1, num_heads: 1}\n"
        "data: {name: parquet, root: ., image_size: 8}\n"
        "augment: {crop: resized}\n"
        "optimizer: {name: adamw, lr: 1e-3}\n"
        "train: {epochs: 2, batch_size: 4, precision: fp32, device: cpu}\n"
        "logging: {tensorboard: false}\n"
    )
    assert vtrain("fit", "c.yaml", "--run-dir", "whole").code == 0
    done = vtrain("fit", "c.yaml", "--run-dir", "parts", "train.max_steps=3")
    assert done.code == 0, done.err
    assert vtrain("fit", "c.yaml", "--run-dir", "parts", "--resume").code == 0
    one, two = (torch.load(f"{run}/last.pt", weights_only=True) for run in ("whole", "parts"))
    for name, tensor in one["state"]["model"].items():
        assert torch.equal(tensor, two["state"]["model"][name])
    done = vtrain("eval", "--ckpt", "whole")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_files_of_the_program_itself_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    pictures = [Image.new("RGB", (9, 8), (n, 255 - n, 7)) for n in range(12)]
    given = datasets.Dataset.from_dict(
        {"image": pictures, "label": [n % 3 for n in range(12)]}, features
    )
    for number in range(2):
        shard = given.shard(2, number, contiguous=True)
        shard.to_parquet(tmp_path / f"train-{number:05d}-of-00002.parquet")
    source = Parquet(root=tmp_path)
    samples = source.split("train")
    assert source.classes == tuple(NAMES)
    assert colours(samples) == list(range(12))
    assert samples.targets.tolist() == given["label"][:]
