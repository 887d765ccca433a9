"""Whatever kind the samples are of, the rest of the program asks all of them the same questions."""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.pictures import plant
from vtrain.data.datasets.samples import ArraySamples, FileSamples, Paths, Samples, subset
from vtrain.data.datasets.tar_shards import TarSamples
from vtrain.data.inspect.fingerprint import fingerprint
from vtrain.data.inspect.scan import scan

NAMES = [f"{number}.png" for number in range(6)]
TARGETS = torch.tensor([0, 1, 1, 0, 2, 2])


def in_a_shard(root: Path) -> TarSamples:
    with tarfile.open(root / "x.tar", "w") as archive:
        for name in NAMES:
            archive.add(root / name, name)
    with tarfile.open(root / "x.tar") as archive:
        places = [(0, member.offset_data, member.size) for member in archive]
    return TarSamples((root / "x.tar",), Paths(NAMES), torch.tensor(places), TARGETS)


@pytest.fixture(params=["array", "files", "shard", "subset of files", "subset of a shard"])
def samples(request: pytest.FixtureRequest, tmp_path: Path) -> Samples:
    files = FileSamples(plant(tmp_path, *NAMES), Paths(NAMES), TARGETS)
    pixels = [
        torch.frombuffer(bytearray(files.image(i).tobytes()), dtype=torch.uint8) for i in range(6)
    ]
    array = torch.stack(pixels).view(6, 4, 4, 3).permute(0, 3, 1, 2).contiguous()
    backwards = torch.arange(5, -1, -1)
    return {
        "array": lambda: ArraySamples(array, TARGETS, "array"),
        "files": lambda: files,
        "shard": lambda: in_a_shard(tmp_path),
        "subset of files": lambda: subset(subset(files, backwards), backwards),
        "subset of a shard": lambda: subset(in_a_shard(tmp_path), torch.arange(6)),
    }[request.param]()


def content(samples: Samples) -> list[tuple[str, bytes]]:
    return [(samples.name(i), samples.image(i).tobytes()) for i in range(len(samples))]


def test_other_targets_change_nothing_but_the_targets(samples: Samples) -> None:
    before = content(samples)
    other = samples.with_targets(2 - TARGETS)
    assert type(other) is type(samples)
    assert other.targets.tolist() == (2 - TARGETS).tolist()
    assert samples.targets.tolist() == TARGETS.tolist()
    assert content(other) == before


def test_stamps_of_some_are_those_of_a_subset_and_each_image_has_its_own(samples: Samples) -> None:
    some = torch.tensor([4, 1, 3])
    assert b"".join(samples.stamps(some)) == b"".join(subset(samples, some).stamps())
    each = {b"".join(samples.stamps(torch.tensor([i]))) for i in range(6)}
    assert len(each) == 6
    assert b"".join(samples.stamps()) == b"".join(samples.stamps(torch.arange(6)))


def test_a_sample_with_a_file_of_its_own_names_it(samples: Samples) -> None:
    for index in range(len(samples)):
        if path := samples.file(index):
            with Image.open(path) as image:
                assert image.convert("RGB").tobytes() == samples.image(index).tobytes()


@dataclass(frozen=True)
class Letters:
    """A kind of samples that nothing in the program knows: files named by letters."""

    root: Path
    letters: str
    targets: Tensor
    ignored: ClassVar[dict[str, int]] = {".txt": 3}

    def __len__(self) -> int:
        return len(self.letters)

    def image(self, index: int) -> Image.Image:
        return Image.open(self.file(index))

    def name(self, index: int) -> str:
        return f"letter {self.letters[index]}"

    def file(self, index: int) -> str:
        return f"{self.root}/{self.letters[index]}.png"

    def stamps(self, indices: Tensor | None = None) -> Iterator[bytes]:
        for index in range(len(self)) if indices is None else indices.tolist():
            yield self.letters[index].encode()

    def with_targets(self, targets: Tensor) -> "Letters":
        return replace(self, targets=targets)


@dataclass(frozen=True)
class Alphabet:
    root: Path
    classes: tuple[str, ...] = ("vowel", "consonant")
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.5,) * 3
    notes: tuple[str, ...] = ("letters",)

    def split(self, name: str) -> Letters:
        letters = "abcde" if name == "train" else "io"
        return Letters(
            self.root, letters, torch.tensor(["aeiou".find(c) < 0 for c in letters]).long()
        )


def test_a_new_kind_of_samples_is_scanned_by_its_files_and_known_by_its_stamps(
    tmp_path: Path,
) -> None:
    plant(tmp_path, *(f"{letter}.png" for letter in "abcdio"))
    (tmp_path / "i.png").write_bytes((tmp_path / "a.png").read_bytes())
    report = scan(Alphabet(tmp_path))
    assert [copy.name for copy in report.leaks[0]] == ["letter a", "letter i"]
    (bad,) = report.splits["train"].bad
    assert (bad.name, bad.label, bad.what) == ("letter e", "vowel", "no such image file")
    assert report.splits["train"].ignored == {".txt": 3}
    train = Alphabet(tmp_path).split("train")
    independent = hashlib.sha256(train.targets.numpy().tobytes() + b"abcde").hexdigest()
    assert fingerprint(train)["sha256"] == independent
    half = subset(train, torch.tensor([2, 0]))
    independent = hashlib.sha256(half.targets.numpy().tobytes() + b"ca").hexdigest()
    assert fingerprint(half)["sha256"] == independent
