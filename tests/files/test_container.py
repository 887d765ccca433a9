"""Checkpoint files: what goes in comes out, and nothing else does."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vtrain.errors import CheckpointError, StorageError
from vtrain.files import manifest
from vtrain.files.container import (
    FORMAT,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    verify_file,
)
from vtrain.files.manifest import Entry, Manifest


def payload() -> dict[str, Any]:
    """Everything that a checkpoint may hold."""
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "model": {"name": "vit", "arguments": {"patch_size": 4, "mlp_ratio": 4.0}},
        "state": {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": None},
        "classes": ["cat", "dog \N{DOG FACE}"],
        "numbers": [0, -1, 2**100, 0.1, float("inf"), True, (1, 2)],
        "random": torch.get_rng_state(),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "step-00000001.pt"
    save_checkpoint(path, payload())
    return path


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    content = payload()
    save_checkpoint(tmp_path / "x.pt", content)
    assert_same(load_checkpoint(tmp_path / "x.pt"), {"format": FORMAT, **content})


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.uint8,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.uint16,
        torch.float8_e4m3fn,
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_tensors_of_every_kind_survive(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    tensor = torch.ones(shape).to(dtype)
    save_checkpoint(tmp_path / "x.pt", {"model": {"w": tensor}})
    loaded = load_checkpoint(tmp_path / "x.pt")["model"]["w"]
    assert (loaded.dtype, loaded.shape) == (dtype, tensor.shape)
    assert torch.equal(loaded.to(torch.complex128), tensor.to(torch.complex128))


def test_views_and_shared_weights_stay_what_they_are(tmp_path: Path) -> None:
    weight = torch.randn(4, 6)
    save_checkpoint(tmp_path / "x.pt", {"model": [weight, weight, weight.T, weight[1:3, ::2]]})
    a, b, transposed, part = load_checkpoint(tmp_path / "x.pt")["model"]
    assert a.data_ptr() == b.data_ptr()
    assert torch.equal(transposed, weight.T)
    assert torch.equal(part, weight[1:3, ::2])


@pytest.mark.parametrize(
    "value",
    [
        Path("x"),
        {1, 2},
        b"x",
        nn.Linear(1, 1),
        torch.float32,
        torch.device("cpu"),
        1 + 2j,
        torch.zeros(1).expand(4, 4),
        torch.eye(3).to_sparse(),
        {(1, 2): 3},
        {None: 1},
    ],
    ids=repr,
)
def test_other_than_plain_data_is_not_saved(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "x.pt", {"model": [value]})
    assert list(tmp_path.iterdir()) == []


def test_the_size_and_checksum_of_a_saved_file_are_the_systems(saved: Path) -> None:
    content = payload()
    written = save_checkpoint(saved, content)
    expected = subprocess.check_output(["sha256sum", saved], text=True).split()[0]
    assert (written.size, written.sha256) == (saved.stat().st_size, expected)
    assert verify_file(saved) == written


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    content = payload()
    names = ("a.pt", "another name.pt")
    assert len({save_checkpoint(tmp_path / name, content).sha256 for name in names}) == 1


def test_verifying_needs_no_torch(saved: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from vtrain.files.container import verify_file
verify_file(Path({str(saved)!r}))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_without_space_the_old_checkpoint_stays(saved: Path, share: float) -> None:
    # torch hides the system's error in the context of an error of its own.
    size, before = saved.stat().st_size, verify_file(saved)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), hard))
    try:
        with pytest.raises(StorageError, match="no space"):
            save_checkpoint(saved, payload())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert verify_file(saved) == before
    assert list(saved.parent.iterdir()) == [saved]


def test_what_cannot_be_read_back_is_not_published(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.save

    def forgetful(content: object, file: Any) -> None:
        real(content, file)
        file.seek(500)
        file.write(b"lost")

    before = saved.read_bytes()
    monkeypatch.setattr(torch, "save", forgetful)
    with pytest.raises(StorageError, match=r"could not be read back \(truncated or corrupt"):
        save_checkpoint(saved, payload())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_every_truncation_is_found(saved: Path) -> None:
    whole = saved.read_bytes()
    lengths = random.Random(0).sample(range(len(whole)), 200)
    for length in lengths:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)


def test_every_flipped_bit_that_matters_is_found(saved: Path) -> None:
    whole, expected = saved.read_bytes(), load_checkpoint(saved)
    draw = random.Random(0)
    found = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        try:
            loaded = load_checkpoint(saved)
        except CheckpointError:
            found += 1
        else:  # a bit of the padding between two records
            assert_same(loaded, expected)
    assert found > 100


def test_with_a_manifest_beside_it_every_flipped_bit_is_found(saved: Path) -> None:
    written = verify_file(saved)
    manifest.write(saved.parent, Manifest((Entry(saved.name, 1, written.size, written.sha256),)))
    whole, draw = saved.read_bytes(), random.Random(1)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is not the one that was written"):
            load_checkpoint(saved)


def test_lost_and_swapped_pages_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, {"model": {"w": torch.randn(100_000)}})
    whole = path.read_bytes()
    for page in range(4096, 200_000, 16_384):
        first, second = whole[page : page + 4096], whole[page + 4096 : page + 8192]
        for damage in (bytes(4096) + second, second + first):
            path.write_bytes(whole[:page] + damage + whole[page + 8192 :])
            with pytest.raises(CheckpointError, match="truncated or corrupt"):
                load_checkpoint(path)


@pytest.mark.parametrize("extra", [b"\0", b"0123456789", b"PK\x05\x06" + bytes(18)])
def test_bytes_after_the_end_or_before_the_start_are_found(saved: Path, extra: bytes) -> None:
    whole = saved.read_bytes()
    for damaged in (whole + extra, extra + whole):
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_no_crash(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.load

    def cut_first(*arguments: Any, **options: Any) -> Any:
        os.truncate(saved, 100)
        return real(*arguments, **options)

    monkeypatch.setattr(torch, "load", cut_first)
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.onnx", "x", "x.pt2"])
def test_the_content_decides_and_not_the_name(saved: Path, name: str) -> None:
    renamed = saved.with_name(name)
    shutil.copy(saved, renamed)
    assert load_checkpoint(renamed)["format"] == FORMAT


def test_special_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    wrong = {
        "pipe": "not a checkpoint file",
        ".": "not a checkpoint file",
        "/dev/zero": "not a checkpoint file",
        "nowhere": "no such checkpoint",
        "loop": "cannot open",
        "x" * 300: "cannot open",
    }
    for name, says in wrong.items():
        with pytest.raises(CheckpointError, match=says):
            load_checkpoint(tmp_path / name)


def test_a_sparse_file_of_any_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(CheckpointError, match="larger than any"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"format": FORMAT + 1, "model": {}}, "made by a newer vtrain.*upgrade"),
        ({"format": 0, "model": {}}, "not a checkpoint of vtrain"),
        ({"format": "1", "model": {}}, "not a checkpoint of vtrain"),
        ({"format": True, "model": {}}, "not a checkpoint of vtrain"),
        ({"format": FORMAT}, "not a checkpoint of vtrain"),
        ({"head.weight": torch.ones(2)}, "not a checkpoint of vtrain.*model.pretrained"),
        ([1, 2], "not a mapping"),
    ],
)
def test_another_schema_is_refused_with_what_to_do(
    tmp_path: Path, content: object, says: str
) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(tmp_path / "x.pt")


def test_weights_from_elsewhere_are_read_with_the_same_care(tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    torch.save(state, tmp_path / "x.pth")
    loaded = load_weights(tmp_path / "x.pth")
    assert isinstance(loaded, OrderedDict)
    assert list(loaded) == list(state)
    torch.save({"state_dict": state, "args": sys.modules["random"].Random()}, tmp_path / "y.pth")
    with pytest.raises(CheckpointError, match="holds code"):
        load_weights(tmp_path / "y.pth")


def test_the_environment_cannot_switch_the_care_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"format": FORMAT, "model": nn.Linear(1, 1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="is not built"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.gpu
def test_a_checkpoint_of_a_gpu_loads_on_the_cpu(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pt", {"model": {"w": torch.arange(5, device="cuda")}})
    assert_same(load_checkpoint(tmp_path / "x.pt")["model"]["w"], torch.arange(5))


def test_a_checkpoint_that_says_cuda_loads_where_there_is_none(saved: Path) -> None:
    # The tag is in the program, so its checksum has to be made anew.
    import io
    import zipfile

    content, changed = zipfile.ZipFile(saved), io.BytesIO()
    with zipfile.ZipFile(changed, "w") as packed:
        for record in content.infolist():
            was = content.read(record)
            packed.writestr(record.filename, was.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:7"))
    saved.write_bytes(changed.getvalue())
    assert b"cuda:7" in saved.read_bytes()
    assert load_checkpoint(saved)["state"]["model"]["0.weight"].device.type == "cpu"


class TestManifest:
    def rows(self, **changes: object) -> str:
        row = {"name": "a.pt", "step": 1, "size": 2, "sha256": "0" * 64, "metric": None, **changes}
        return json.dumps({"best": None, "checkpoints": [row]})

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        entries = (Entry("a.pt", 1, 2, "0" * 64), Entry("b.pt", 3, 4, "f" * 64, 0.5))
        manifest.write(tmp_path, Manifest(entries, "b.pt"))
        assert manifest.read(tmp_path) == Manifest(entries, "b.pt")

    def test_without_one_it_is_empty(self, tmp_path: Path) -> None:
        assert manifest.read(tmp_path) == Manifest()

    @pytest.mark.parametrize(
        "name", ["../../etc/x", "/etc/x", "a/b", "..", ".", "", ".lock", "a\n", "a\0", 7, None]
    )
    def test_only_plain_names_are_accepted(self, tmp_path: Path, name: object) -> None:
        (tmp_path / manifest.NAME).write_text(self.rows(name=name))
        with pytest.raises(CheckpointError, match="manifest is damaged"):
            manifest.read(tmp_path)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "7",
            "{}",
            '{"best": null}',
            '{"checkpoints": 1, "best": null}',
            '{"checkpoints": [7], "best": null}',
            '{"checkpoints": [], "best": "a.pt"}',
            "[" * 100000,
            "\x00",
            '{"checkpoints": [{"x": 1}], "best": null}',
        ],
    )
    def test_damage_is_reported_and_not_guessed_around(self, tmp_path: Path, text: str) -> None:
        (tmp_path / manifest.NAME).write_text(text)
        with pytest.raises(CheckpointError, match="manifest is damaged"):
            manifest.read(tmp_path)

    @pytest.mark.parametrize(
        "change",
        [
            {"step": -1},
            {"step": True},
            {"step": "1"},
            {"size": 1.5},
            {"sha256": "0" * 63},
            {"sha256": None},
            {"sha256": "G" * 64},
            {"metric": "x"},
            {"metric": [1]},
            {"more": 1},
        ],
    )
    def test_a_row_with_a_wrong_value_is_damage(
        self, tmp_path: Path, change: dict[str, object]
    ) -> None:
        (tmp_path / manifest.NAME).write_text(self.rows(**change))
        with pytest.raises(CheckpointError, match="manifest is damaged"):
            manifest.read(tmp_path)

    def test_a_checkpoint_that_differs_from_it_is_refused_with_both_checksums(
        self, saved: Path
    ) -> None:
        written = verify_file(saved)
        row = {"name": saved.name, "size": written.size, "sha256": "a" * 64}
        (saved.parent / manifest.NAME).write_text(self.rows(**row))
        with pytest.raises(CheckpointError, match=f"{written.sha256[:12]}.*aaaaaaaaaaaa"):
            load_checkpoint(saved)

    def test_a_checkpoint_of_another_size_is_refused_with_both_sizes(self, saved: Path) -> None:
        written = verify_file(saved)
        (saved.parent / manifest.NAME).write_text(self.rows(name=saved.name, sha256="a" * 64))
        with pytest.raises(CheckpointError, match=f"has {written.size:,} bytes.* says 2 "):
            load_checkpoint(saved)
