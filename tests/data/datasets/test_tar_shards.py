import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from vtrain.data.datasets.tar_shards import WebDataset, expanded
from vtrain.errors import DataError
from vtrain.registry import SOURCES


def picture(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def sample(number: int, label: str) -> tuple[tuple[str, bytes], ...]:
    return (f"{number:03d}.png", picture(number)), (f"{number:03d}.cls", label.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "train-0.tar", *sample(1, "cat"), *sample(2, "ant"))
    shard(folder / "train-1.tar", *sample(3, "cat"))
    shard(folder / "val-0.tar", *sample(4, "cat\n"))
    return folder


def reds(source: WebDataset, split: str) -> list[int]:
    samples = source.split(split)
    return [samples.image(i).getpixel((0, 0))[0] for i in range(len(samples))]


def test_images_and_classes_are_read_in_the_order_of_the_shards(root: Path) -> None:
    source = WebDataset(root=root)
    assert source.classes == ("ant", "cat")
    assert reds(source, "train") == [1, 2, 3]
    assert source.split("train").targets.tolist() == [1, 0, 1]
    assert (reds(source, "val"), source.split("val").targets.tolist()) == ([4], [1])
    assert source.split("train").name(2) == f"{root}/train-1.tar:003.png"


def test_numbered_classes_may_be_named_by_a_file(root: Path) -> None:
    shard(root / "n.tar", *sample(1, "2"), *sample(2, "0"))
    assert WebDataset(root=root, train="n.tar", val="n.tar").classes == ("0", "1", "2")
    (root / "names.txt").write_text("zero\none\ntwo\n")
    source = WebDataset(root=root, train="n.tar", val="n.tar", classes=root / "names.txt")
    assert source.classes == ("zero", "one", "two")
    assert source.split("train").targets.tolist() == [2, 0]


def test_other_files_are_ignored_and_counted(root: Path) -> None:
    extra = ("001.json", b"{}"), ("README.md", b"text")
    shard(root / "train-0.tar", *sample(1, "cat"), *extra, *sample(2, "ant"))
    source = WebDataset(root=root)
    assert len(source.split("train")) == 3
    assert source.notes == ("ignored 2 files in shards that belong to no image",)


def test_keys_may_be_in_folders_and_have_several_dots(root: Path) -> None:
    first = ("./a.b/x.png", picture(7)), ("./a.b/x.cls", b"cat")
    second = ("b/x.cls", b"ant"), ("b/x.seg.png", picture(9)), ("b/x.png", picture(8))
    shard(root / "train-0.tar", *first, *second)
    assert reds(WebDataset(root=root), "train") == [7, 8, 3]


def test_an_image_without_a_class_is_refused(root: Path) -> None:
    shard(root / "train-0.tar", ("1.png", picture(1)))
    with pytest.raises(DataError, match=r"an image has no class \(.*train-0\.tar:1\)"):
        WebDataset(root=root).split("train")


@pytest.mark.parametrize("length", [2048, 2100, 2600, 4096, 4600])
def test_a_shard_that_is_cut_off_is_refused(root: Path, length: int) -> None:
    path = root / "train-0.tar"  # four files of two blocks of 512 bytes each, then zeros
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"the shard is damaged.*train-0\.tar"):
        WebDataset(root=root).split("train")


def test_a_file_that_is_no_shard_is_refused(root: Path) -> None:
    (root / "train-0.tar").write_bytes(b"<html>" * 1000)
    with pytest.raises(DataError, match="the shard is damaged"):
        WebDataset(root=root).split("train")


def test_links_in_a_shard_lead_nowhere(root: Path, tmp_path: Path) -> None:
    with tarfile.open(root / "train-0.tar", "w") as archive:
        member = tarfile.TarInfo("1.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert reds(WebDataset(root=root), "train") == [3]


def test_a_validation_class_that_training_lacks_is_refused(root: Path) -> None:
    shard(root / "val-0.tar", *sample(4, "emu"))
    with pytest.raises(DataError, match="class 'emu' of the val images is not in train"):
        WebDataset(root=root).split("val")


def test_a_class_number_that_training_lacks_is_refused(root: Path) -> None:
    shard(root / "n.tar", *sample(1, "1"), *sample(2, "0"))
    shard(root / "m.tar", *sample(3, "2"))
    with pytest.raises(DataError, match=r"class 2 of an image is not in 0 \.\. 1"):
        WebDataset(root=root, train="n.tar", val="m.tar").split("val")


def test_absent_shards_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"there are no shards 'x-\*\.tar'"):
        WebDataset(root=root, train="x-*.tar").split("train")


@pytest.mark.parametrize("address", ["pipe:cat train.tar", "file:///etc/x.tar", "s3://a/b.tar"])
def test_no_other_kind_of_address_is_followed(root: Path, address: str) -> None:
    with pytest.raises(DataError, match="not the address of a shard"):
        WebDataset(root=root, train=address, download=True).split("train")


def test_a_row_of_numbers_keeps_its_zeros() -> None:
    assert expanded("{08..10}.tar") == ["08.tar", "09.tar", "10.tar"]
    assert expanded("plain.tar") == ["plain.tar"]


@pytest.fixture
def server(root: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            if "short" not in self.path:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            return None

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_shards_at_a_url_are_downloaded_once_and_only_when_asked(
    server: str, root: Path, tmp_path: Path
) -> None:
    pattern, copies = server + "/train-{0..1}.tar", tmp_path / "copies"
    with pytest.raises(DataError, match=r"the shard is not there.*set data\.download=true"):
        WebDataset(root=copies, train=pattern).split("train")
    assert reds(WebDataset(root=copies, train=pattern, download=True), "train") == [1, 2, 3]
    (root / "train-0.tar").unlink()  # the server no longer has it, and it is not asked again
    assert reds(WebDataset(root=copies, train=pattern), "train") == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.tar", "File not found"), ("short.tar", "the download ended at 10 bytes")],
)
def test_a_failed_download_leaves_nothing_behind(
    server: str, tmp_path: Path, name: str, message: str
) -> None:
    copies = tmp_path / "copies"
    with pytest.raises(DataError, match=message) as caught:
        WebDataset(root=copies, train=f"{server}/{name}", download=True).split("train")
    assert len(caught.value.lines()) == 1
    assert [path.name for path in copies.iterdir()] == [".download.lock"]


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    source = WebDataset(root=tmp_path, train="http://127.0.0.1:1/a.tar", download=True)
    with pytest.raises(DataError, match=r"cannot download.*is there a network\?"):
        source.split("train")


def test_a_config_names_shards_webdataset(root: Path) -> None:
    source = SOURCES["webdataset"](root=root)
    assert isinstance(source, WebDataset)
