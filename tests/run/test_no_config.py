"""What is no config, in a config's place: one line that says what it is and what to type."""

import io
import re
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import plant_photographs
from tests.harness import Vtrain

COMMANDS = ("fit", "check", "bench")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with photographs, and lists and shards of them."""
    monkeypatch.chdir(tmp_path)
    plant_photographs({"train": {"cat": 40, "dog": 40}})
    images = sorted(Path("photos").rglob("*.png"))
    rows = [f"{path},{path.parent.name}" for path in images]
    Path("my list.csv").write_text("\n".join(["path,label", *rows]))
    Path("table.csv").write_text("name;diagnosis\n" * 5000)
    for folder in ("my shards", "pairs"):
        Path(folder).mkdir()
    _pack("my shards/all.tar", images)
    _pack("pairs/train-0.tar", images[::2])
    _pack("pairs/val-0.tar", images[1::2])
    return tmp_path


def _pack(shard: str, images: list[Path]) -> None:
    with tarfile.open(shard, "w") as tar:
        for number, image in enumerate(images):
            tar.add(image, f"{number:03}.png")
            label = image.parent.name.encode()
            info = tarfile.TarInfo(f"{number:03}.cls")
            info.size = len(label)
            tar.addfile(info, io.BytesIO(label))


def answer(vtrain: Vtrain, *typed: str) -> str:
    """Return the line that a command answers with; of all commands it is the same."""
    lines = set()
    for command in COMMANDS:
        done = vtrain(command, *typed)
        assert done.code == 2
        (line,) = done.err.splitlines()
        lines.add(line)
    (line,) = lines
    return line


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("my list.csv", "this is a table"),
        ("my shards/all.tar", "this is a tar file"),
        ("pairs/train-0.tar", "this is a tar file"),
        ("pairs/val-0.tar", "this is a tar file"),
    ],
)
def test_a_list_or_a_shard_is_answered_with_a_command_that_works(
    here: Path, vtrain: Vtrain, name: str, kind: str
) -> None:
    line = answer(vtrain, name)
    assert f"{kind}, not a config ({name})" in line
    advised = re.search("type for example: vtrain fit (.*)", line)
    assert advised is not None, line
    checked = vtrain("check", *shlex.split(advised[1]))
    assert checked.code == 0, checked.err
    assert re.search(r"^classes +2$", checked.out, re.M)
    found = dict(re.findall(r"^(\w+) images +(\d+)$", checked.out, re.M))
    assert sum(map(int, found.values())) == 80


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.txt", b"patient 3; diagnosis x\n" * 2000, "has none of the sections of a config"),
        ("log.json", b'{"secret": 1}', "has none of the sections of a config"),
        ("x.py", b"import secret\n", "has none of the sections of a config"),
        ("table.csv", b"name;secret\n" * 5000, "a list of images has the columns path and label"),
        ("x.npz", b"PK\3\4\0\0secret", "this is no text"),
        ("x.csv.gz", b"\x1f\x8bsecret", "this is a packed file"),
        ("x.ckpt", b"PK\3\4", "vtrain fit RECIPE model.pretrained=x.ckpt"),
        ("x.onnx", b"\0\1", "vtrain predict IMAGE --ckpt x.onnx"),
        ("x.yaml", b"\x89PNG\r\n", "this is an image"),
        ("x.jpg", b"no image", "vtrain predict x.jpg"),
    ],
)
def test_any_other_file_is_one_short_line_without_its_content(
    here: Path, vtrain: Vtrain, name: str, content: bytes, said: str
) -> None:
    Path(name).write_bytes(content)
    line = answer(vtrain, name, "model=vit_s", "train.epochs=3")
    assert said in line
    assert len(line) < 300
    assert "secret" not in line
    assert "patient" not in line


def test_a_file_of_a_run_is_answered_with_its_folder(trained: Path, vtrain: Vtrain) -> None:
    for name in ("summary.json", "metrics.jsonl", "vtrain.log", "best.pt"):
        done = vtrain("check", trained / name)
        assert done.err.endswith(f"name the folder of its run: {trained}\n")


def test_a_config_may_have_any_ending_and_lie_anywhere(small_run: Path, vtrain: Vtrain) -> None:
    for name in ("config.yaml", "a.txt", "b.conf", "c", "run.yaml"):
        shutil.copy(small_run, name)
    for name in ("a.txt", "b.conf", "c", "run.yaml", "config.yaml"):
        assert vtrain("check", f"./{name}").code == 0


def test_an_image_can_be_told_where_it_is_named(here: Path, vtrain: Vtrain) -> None:
    Image.new("RGB", (4, 4)).save("my photo.png")
    assert "vtrain predict 'my photo.png'" in answer(vtrain, "my photo.png")
