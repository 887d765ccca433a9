"""The loop that asks a model for logits, and the batches that files become."""

import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vtrain.data.loading.batches import Batch
from vtrain.data.preprocess import Preprocess
from vtrain.device import autocast
from vtrain.errors import DataError
from vtrain.files.images import read_image
from vtrain.inference import files as inference_files
from vtrain.inference import outputs
from vtrain.inference.outputs import batches_of_files, outputs_of

PREPROCESS = Preprocess(6, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
CPU = torch.device("cpu")


class Linear(nn.Module):
    """A model with dropout, so that a forgotten evaluation mode shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 4), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def batch(count: int, first: int = 0) -> Batch:
    pixels = torch.randint(256, (count, 3, 6, 6), dtype=torch.uint8)
    numbers = torch.arange(first, first + count)
    return Batch(pixels, numbers % 4, numbers, 0, count)


def asked(model: nn.Module, batches: list[Batch]) -> list[outputs.Outputs]:
    return list(outputs_of(model, batches, PREPROCESS.normalise, nullcontext))


def test_each_batch_gives_the_logits_of_the_model_in_evaluation_mode() -> None:
    model, batches = Linear().train(), [batch(3), batch(2, first=3)]
    found = asked(model, batches)
    assert model.training  # as before
    model.eval()
    for output, given in zip(found, batches, strict=True):
        with torch.no_grad():
            expected = model(PREPROCESS.normalise(given.images))
        assert torch.equal(output.logits, expected)
        assert not output.logits.requires_grad
        assert output.targets is given.targets
        assert output.indices is given.indices


def test_logits_are_fp32_whatever_the_precision() -> None:
    loop = outputs_of(Linear(), [batch(2)], PREPROCESS.normalise, lambda: autocast(CPU, "bf16"))
    assert next(loop).logits.dtype == torch.float32


def test_it_streams_and_leaves_the_callers_gradients_on() -> None:
    taken: list[int] = []

    def batches():
        for number in range(3):
            taken.append(number)
            yield batch(1)

    model = Linear().train()
    loop = outputs_of(model, batches(), PREPROCESS.normalise, nullcontext)
    next(loop)
    assert taken == [0]
    assert torch.is_grad_enabled()
    loop.close()  # whoever stops early gets the model back as it was
    assert model.training


def test_the_training_mode_comes_back_after_an_error() -> None:
    model = Linear().train()
    broken = batch(1)
    with pytest.raises(RuntimeError):
        asked(model, [batch(1), replace(broken, images=broken.images[:, :1])])
    assert model.training


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten pictures of several sizes, of which 3, 8 and 9 cannot be read, and one named twice."""
    draw = np.random.default_rng(0)
    for number in range(10):
        height, width = draw.integers(4, 30, 2)
        pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for number in (3, 8, 9):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    return [*(tmp_path / f"{number}.png" for number in range(10)), tmp_path / "0.png"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 32])
def test_files_come_in_order_as_evaluation_prepares_them(
    files: list[Path], batch_size: int
) -> None:
    errors: dict[int, DataError] = {}
    batches = list(batches_of_files(files, PREPROCESS, CPU, errors.__setitem__, batch_size))
    numbers = [number for number in range(11) if number not in (3, 8, 9)]
    assert torch.cat([batch.indices for batch in batches]).tolist() == numbers
    assert sorted(errors) == [3, 8, 9]
    assert all("not a readable image" in error.what for error in errors.values())
    expected = torch.stack([PREPROCESS(read_image(files[number])) for number in numbers])
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected)
    for given in batches:  # a batch is so many paths, less the unreadable ones
        assert len({int(number) // batch_size for number in given.indices}) == 1
        assert given.targets.tolist() == [outputs.NO_TARGET] * len(given.images)


def test_no_more_than_one_batch_is_decoded_ahead(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> Image.Image:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr(inference_files, "read_image", counted)
    batches = batches_of_files(files, PREPROCESS, CPU, lambda *_: None, 2)
    next(batches)
    batches.close()
    assert len(read) <= 4
    assert set(read) <= set(files[:4])


def test_any_other_error_is_raised_and_no_thread_stays(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> Image.Image:
        raise ZeroDivisionError

    monkeypatch.setattr(inference_files, "read_image", broken)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(batches_of_files(files, PREPROCESS, CPU, lambda *_: None))
    assert threading.active_count() == before


def test_without_files_there_is_no_batch() -> None:
    assert list(batches_of_files([], PREPROCESS, CPU, lambda *_: None)) == []
