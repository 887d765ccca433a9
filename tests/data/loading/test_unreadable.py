"""Images that cannot be read end the run, or are left out and counted."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.loading.numbered import Marked, Same, ids_in, numbered
from vtrain.data.datasets.samples import ArraySamples, FileSamples
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.loading.unreadable import Unreadable
from vtrain.errors import DataError


@dataclass
class Spoilt:
    """Samples of which some cannot be read."""

    good: ArraySamples
    bad: set[int]
    targets: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.targets = self.good.targets

    def __len__(self) -> int:
        return len(self.good)

    def image(self, index: int) -> Image.Image:
        if index in self.bad:
            raise DataError("a damaged image", self.name(index))
        return self.good.image(index)

    def name(self, index: int) -> str:
        return f"file {index}"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_bad_image_is_an_error_that_names_it(
    workers: int, cache: str, close: list[TrainLoader]
) -> None:
    loader = TrainLoader(
        Spoilt(numbered(200), {7}), Same(), batch_size=32, seed=0, num_workers=workers, cache=cache
    )
    close.append(loader)
    with pytest.raises(DataError) as caught:
        list(loader.batches(0))
    assert (caught.value.what, caught.value.where) == ("a damaged image", "file 7")
    assert "data.on_bad_image=skip" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transform", [Same(), Marked()])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_skip_leaves_bad_images_out_and_repeats_no_other(
    workers: int,
    transform: Same,
    cache: str,
    caplog: pytest.LogCaptureFixture,
    close: list[TrainLoader],
) -> None:
    bad = {0, 7, 150}
    loader = TrainLoader(
        Spoilt(numbered(400), bad),
        transform,
        batch_size=32,
        seed=0,
        num_workers=workers,
        cache=cache,
        on_bad_image="skip",
    )
    close.append(loader)
    with caplog.at_level(logging.WARNING):
        for epoch in (0, 1):
            batches = list(loader.batches(epoch))
            seen = [i for b in batches for i in b.indices.tolist()]
            assert sorted(seen) == sorted(set(range(400)) - bad)
            assert [i for b in batches for i in ids_in(b.images)] == seen
            assert len(batches) == len(loader)
    left_out = [message for message in caplog.messages if message.startswith("left out")]
    assert sorted(left_out) == [
        f"left out: a damaged image (file {i})" for i in sorted(bad, key=str)
    ]


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_too_many_bad_images_are_an_error_after_all(cache: str) -> None:
    loader = TrainLoader(
        Spoilt(numbered(100), set(range(11))),
        Same(),
        batch_size=32,
        seed=0,
        cache=cache,
        num_workers=0,
        on_bad_image="skip",
    )
    with pytest.raises(DataError, match="11 of 100 images cannot be read, and 10 may be left out"):
        list(loader.batches(0))


@pytest.mark.parametrize(
    ("count", "most"), [(1, 0), (2, 1), (33, 3), (100, 10), (999, 10), (1001, 11), (50_000, 500)]
)
def test_a_hundredth_may_be_left_out_or_of_few_images_a_tenth(count: int, most: int) -> None:
    unreadable = Unreadable("skip", count)
    for index in range(most):
        unreadable.report(index, DataError("damaged", index))
    with pytest.raises(DataError, match=f"{most + 1} of {count} images"):
        unreadable.report(most, DataError("damaged", most))


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_validation_is_of_the_images_that_can_be_read_and_says_so_once(
    cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = {4, 5, 6, 7, 30}  # a whole batch of four, and one of another
    loader = EvalLoader(
        Spoilt(numbered(60), bad),
        lambda image: Same()(image, 0, 0),
        batch_size=4,
        on_bad_image="skip",
        num_workers=0,
        cache=cache,
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            batches = list(loader.batches())
            assert [i for b in batches for i in b.indices.tolist()] == sorted(set(range(60)) - bad)
            assert all(len(batch.images) for batch in batches)
    assert [m for m in caplog.messages if "evaluation" in m] == [
        "evaluation is on 55 of 60 images: 5 cannot be read"
    ]


def test_a_file_that_vanishes_is_a_bad_image(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    samples = FileSamples(tmp_path, names, torch.zeros(4, dtype=torch.int64))
    (tmp_path / "2.png").unlink()
    loader = TrainLoader(samples, Marked(), batch_size=4, seed=0, cache="none")
    with pytest.raises(DataError, match=r"no such image file \(.*2\.png\)"):
        list(loader.batches(0))
