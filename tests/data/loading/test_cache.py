from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.data.loading.numbered import Same
from tests.data.pictures import plant
from vtrain.data.datasets.builtin import Fake
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.datasets.samples import ArraySamples, FileSamples
from vtrain.data.loading import cache
from vtrain.data.loading.cache import as_array, choose, fill
from vtrain.data.loading.loader import EvalLoader
from vtrain.data.unused import Unused
from vtrain.errors import DataError, DeviceError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_takes_a_quarter_of_the_free_memory_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 1000)
    assert choose("auto", 250, CPU) == "ram"
    assert choose("auto", 251, CPU) == "none"


def test_auto_prefers_the_device_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 10_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert choose("auto", 250, CUDA) == "device"
    assert choose("auto", 251, CUDA) == "ram"


def test_a_mode_that_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 1000)
    assert choose("none", 1, CPU) == "none"
    assert choose("ram", 1000, CUDA) == "ram"
    assert choose("device", 10**15, CUDA) == "device"
    assert choose("device", 1000, CPU) == "ram"  # the same thing there


@pytest.mark.parametrize("mode", ["ram", "device"])
def test_a_cache_that_does_not_fit_is_refused_by_its_name(
    mode: cache.CacheMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 2**30)
    what = rf"cache of 3\.0 GiB does not fit into 1\.0 GiB.*data\.cache={mode}.*data\.cache=none"
    with pytest.raises(DeviceError, match=what):
        choose(mode, 3 * 2**30, CPU)


def test_memory_that_is_refused_for_a_cache_is_not_blamed_on_the_batch() -> None:
    shape = torch.Size((3, 2**20, 2**20))  # 3 TiB an image
    with pytest.raises(
        DeviceError, match=r"out of memory at data\.cache \(.* GiB for 9,999 images\)"
    ):
        fill(9999, lambda index: torch.zeros(shape), shape, threads=1)


@pytest.mark.parametrize("threads", [1, 3])
def test_filling_keeps_every_image_in_its_place_and_names_the_bad_ones(threads: int) -> None:
    def read(index: int) -> Tensor:
        if index % 100 == 7:
            raise DataError("a damaged image", index)
        return torch.full((3, 2, 2), index % 251, dtype=torch.uint8)

    cached = fill(1000, read, torch.Size([3, 2, 2]), threads=threads)
    good = [i for i in range(1000) if i % 100 != 7]
    assert (cached.images[good, 0, 0, 0] == torch.tensor(good) % 251).all()
    assert list(cached.errors) == list(range(7, 1000, 100))


def test_an_interrupt_ends_the_filling_at_once() -> None:
    read_after = []

    def read(index: int) -> Tensor:
        if index == 0:
            raise KeyboardInterrupt
        read_after.append(index)
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    with pytest.raises(KeyboardInterrupt):
        fill(1_000_000, read, torch.Size([3, 1, 1]), threads=1)
    assert len(read_after) < 100_000


def test_files_of_one_size_become_an_array(tmp_path: Path) -> None:
    samples = ImageFolder(root=plant(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(9))))
    train = samples.split("train")
    array = as_array(train, "auto", Same(), Unused())
    assert isinstance(array, ArraySamples)
    for i in range(len(train)):
        assert (np.asarray(array.image(i)) == np.asarray(train.image(i))).all()
        assert array.name(i) == train.name(i)
    assert torch.equal(array.targets, train.targets)


@pytest.mark.parametrize("mode", ["auto", "ram"])
def test_files_of_several_sizes_stay_files(
    tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant(tmp_path, *(f"a/{i}.png" for i in range(40)), "b/0.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "a/33.png")
    samples = ImageFolder(root=tmp_path).split("train")
    assert as_array(samples, mode, Same(), Unused()) is samples
    assert ("their sizes differ" in caplog.text) == (mode == "ram")


def test_a_bad_file_leaves_files_to_the_policy_on_bad_images(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(20)))
    (tmp_path / "a/13.png").write_bytes(b"spoilt")
    samples = ImageFolder(root=tmp_path).split("train")
    assert as_array(samples, "ram", Same(), Unused()) is samples


def test_nothing_is_decoded_beforehand_when_caching_is_off(tmp_path: Path) -> None:
    samples = FileSamples(tmp_path, ["none.png"], torch.zeros(1).long())  # reading would fail
    assert as_array(samples, "none", Same(), Unused()) is samples


def test_a_cached_evaluation_decodes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = []

    def preprocess(image: Image.Image) -> Tensor:
        prepared.append(image)
        return torch.zeros(3, 2, 2, dtype=torch.uint8)

    loader = EvalLoader(
        Fake(num_images=40).split("val"),
        preprocess,
        batch_size=4,
        on_bad_image="error",
        num_workers="auto",
        cache="auto",
    )
    for _ in range(3):
        assert sum(len(batch.images) for batch in loader.batches()) == 10
    assert len(prepared) == 10 + 1  # the first one also told the size


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["none", "ram", "device"])
def test_batches_on_a_gpu_have_the_bits_of_batches_in_memory(mode: str) -> None:
    def preprocess(image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

    samples = Fake(num_images=1000).split("train")
    on_gpu, in_memory = (
        EvalLoader(
            samples,
            preprocess,
            batch_size=64,
            device=device,
            on_bad_image="error",
            num_workers="auto",
            cache=mode,
        )
        for device in ("cuda", "cpu")
    )
    for there, here in zip(on_gpu.batches(), in_memory.batches(), strict=True):
        assert there.images.device.type == "cuda"
        assert torch.equal(there.images.cpu(), here.images)
        assert torch.equal(there.targets.cpu(), here.targets)
        assert torch.equal(there.indices.cpu(), here.indices)
