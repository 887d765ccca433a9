import bz2
import gzip
import io
import logging
import lzma
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.files.image_table import npy
from vtrain.data.datasets.splits import TEST_CHOOSES, Split
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
    # Only the numbers that occur are classes: they may be article numbers.
    assert WebDataset(root=root, train="n.tar", val="n.tar").classes == ("0", "2")
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


def test_an_array_is_an_image_where_no_picture_is_beside_it(root: Path) -> None:
    image = npy(np.full((4, 5, 3), 9, np.uint8))
    features = ("001.npy", npy(np.zeros(768)))
    shard(
        root / "train-0.tar", features, *sample(1, "cat"), ("002.npy", image), ("002.cls", b"ant")
    )
    assert reds(WebDataset(root=root, train="train-0.tar"), "train") == [1, 9]


def test_keys_may_be_in_folders_and_have_several_dots(root: Path) -> None:
    first = ("./a.b/x.png", picture(7)), ("./a.b/x.cls", b"cat")
    second = ("b/x.cls", b"ant"), ("b/x.seg.png", picture(9)), ("b/x.png", picture(8))
    shard(root / "train-0.tar", *first, *second)
    assert reds(WebDataset(root=root), "train") == [7, 8, 3]


def test_an_image_without_a_class_is_refused(root: Path) -> None:
    shard(root / "train-0.tar", ("1.png", picture(1)))
    with pytest.raises(DataError, match=r"an image has no class \(.*train-0\.tar:1\)"):
        WebDataset(root=root).split("train")


@pytest.mark.parametrize("length", [1024, 2048, 2100, 2600, 3072, 4096, 4600])
def test_a_shard_that_is_cut_off_is_refused(root: Path, length: int) -> None:
    path = root / "train-0.tar"  # four files of two blocks of 512 bytes each, then zeros
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"the shard is damaged.*train-0\.tar"):
        WebDataset(root=root).split("train")


def test_a_file_that_is_no_shard_is_refused(root: Path) -> None:
    (root / "train-0.tar").write_bytes(b"<html>" * 1000)
    with pytest.raises(DataError, match="the shard is damaged"):
        WebDataset(root=root).split("train")


def test_links_in_a_shard_lead_nowhere(root: Path) -> None:
    path = shard(root / "val-0.tar", *sample(4, "cat"))
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("5.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    source = WebDataset(root=root)
    assert reds(source, "val") == [4]
    assert source.notes[0] == "ignored 1 file in shards that belongs to no image"


def test_a_validation_class_that_training_lacks_is_refused(root: Path) -> None:
    shard(root / "val-0.tar", *sample(4, "emu"))
    with pytest.raises(DataError, match="class 'emu' of the val images is not in train"):
        WebDataset(root=root).split("val")


def test_without_training_shards_the_classes_are_those_of_all_splits(root: Path) -> None:
    (root / "train-0.tar").unlink()
    (root / "train-1.tar").unlink()
    shard(root / "test-0.tar", *sample(5, "ant"))
    source = WebDataset(root=root)
    assert source.classes == ("ant", "cat")
    assert [source.split(name).targets.tolist() for name in ("val", "test")] == [[1], [0]]


def test_a_class_number_that_training_lacks_is_refused(root: Path) -> None:
    shard(root / "n.tar", *sample(1, "1"), *sample(2, "0"))
    shard(root / "m.tar", *sample(3, "2"))
    with pytest.raises(DataError, match=r"class '2' of the val images is not in train"):
        WebDataset(root=root, train="n.tar", val="m.tar").split("val")


def test_digits_alone_in_validation_are_what_training_makes_of_them(root: Path) -> None:
    """Classes 1, 2 and x are words: class 1 is the first of them, not the second."""
    shard(root / "train-0.tar", *sample(1, "1"), *sample(2, "2"), *sample(3, "x"))
    shard(root / "train-1.tar", *sample(4, "x"))
    shard(root / "val-0.tar", *sample(5, "2"), *sample(6, "1"))
    source = WebDataset(root=root)
    assert source.classes == ("1", "2", "x")
    assert source.split("val").targets.tolist() == [1, 0]
    shard(root / "val-0.tar", *sample(5, "01"))  # and so is 01 another word
    with pytest.raises(DataError, match=r"class '01' of the val .* did you mean '1'\?"):
        WebDataset(root=root).split("val")


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (["0", "1", "2"], ("0", "1", "2"), None),
        (["10", "9", "8"], ("8", "9", "10"), "classes are the 3 numbers that occur, from 8 to 10"),
        (
            ["10034568", "10034567"],
            ("10034567", "10034568"),
            "classes are the 2 numbers that occur, from 10034567 to 10034568",
        ),
        (["00", "01", "10"], ("00", "01", "10"), "classes are the 3 numbers that occur"),
        (["1", "0", "01"], ("0", "1"), "label '01' is the same number, and class, as '1'"),
        (["9" * 300, "1"], ("1", "9" * 300), "classes are the 2 numbers that occur"),
    ],
)
def test_the_numbers_that_occur_are_the_classes(
    root: Path, labels: list[str], classes: tuple[str, ...], note: str | None
) -> None:
    shard(root / "n.tar", *(file for n, label in enumerate(labels) for file in sample(n, label)))
    source = WebDataset(root=root, train="n.tar", val="n.tar")
    assert source.classes == classes
    targets = source.split("train").targets.tolist()
    assert [int(source.classes[target]) for target in targets] == list(map(int, labels))
    assert (source.notes[0].startswith(note)) if note else source.notes == ()


def named(root: Path, text: str, *labels: str, first: int = 0) -> WebDataset:
    shard(root / "n.tar", *(file for n, label in enumerate(labels) for file in sample(n, label)))
    (root / "names.txt").write_text(text, encoding="utf-8")
    names = root / "names.txt"
    return WebDataset(root=root, train="n.tar", val="n.tar", classes=names, first_class=first)


def test_names_of_numbers_that_count_from_one_are_asked_for(root: Path) -> None:
    hint = r"class 3 .* no name: the lines are 0 to 2 .* set data\.first_class=1"
    with pytest.raises(DataError, match=hint):
        named(root, "one\ntwo\nthree\n", "1", "2", "3").split("train")
    source = named(root, "one\ntwo\nthree\n", "1", "3", first=1)
    assert [source.classes[k] for k in source.split("train").targets] == ["one", "three"]
    assert source.notes == ("train has no images of 1 class: two",)
    with pytest.raises(DataError, match=r"class 0 .* lines are 1 to 2 .* data\.first_class=0"):
        named(root, "one\ntwo\n", "0", "1", first=1).split("train")
    with pytest.raises(DataError, match=r"lines are 0 to 1 .*: give every number a line$"):
        named(root, "one\ntwo\n", "0", "7").split("train")
    with pytest.raises(ValueError, match="name both"):
        WebDataset(root=root, first_class=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crane\ncrane\ndog\n", "class 'crane' stands twice, in lines 1 and 2"),
        ("caf\u00e9\ndog\n cafe\u0301\n", "class 'café' stands twice, in lines 1 and 3"),
        ("cat\n\ndog\n", r"a line without a class name .*names\.txt:2"),
    ],
)
def test_a_file_of_names_that_does_not_tell_classes_apart_is_refused(
    root: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        named(root, text, "0", "1").split("train")


def test_a_file_of_names_may_have_a_byte_order_mark_blanks_and_a_last_empty_line(
    root: Path,
) -> None:
    source = named(root, "\ufeffcat \n\tdog\n\n", "0", "1")
    assert source.classes == ("cat", "dog")
    assert named(root, "Cat\ncat\n", "0", "1").notes == (
        "warning: classes 'Cat' and 'cat' differ by case or accents only",
    )


def test_names_for_classes_that_are_words_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match="names numbers, and an image's class is 'cat'"):
        named(root, "one\ntwo\n", "0", "cat").split("train")


@pytest.mark.parametrize("label", ["", "  \n", "cat\ndog", "c\x07", "x" * 2000])
def test_a_class_file_that_is_not_one_line_is_refused(root: Path, label: str) -> None:
    shard(root / "train-0.tar", *sample(1, label))
    with pytest.raises(DataError, match=r"001\.cls is .*, not one line with a class"):
        WebDataset(root=root).split("train")


def test_hidden_files_are_passed_over_as_in_folders(root: Path) -> None:
    """As tar packs them on a Mac, and as WebDataset's own tools add to them."""
    files = [
        twin
        for name, content in (*sample(1, "cat"), *sample(2, "ant"))
        for twin in ((f"./._{name}", b"\0\5\x16\7"), (f"./{name}", content))
    ]
    extra = (".DS_Store", b""), ("__MACOSX/1.png", b""), ("__meta__/thumb.jpg", b"")
    shard(root / "train-0.tar", *files, *extra)
    shard(root / "._train-0.tar", ("x", b""))
    source = WebDataset(root=root)
    assert reds(source, "train") == [1, 2, 3]
    assert source.notes == ("ignored 7 hidden files in shards",)


def test_endings_in_capitals_are_read(root: Path) -> None:
    files = ("1.CLS", b"cat"), ("1.PNG", picture(7)), ("2.JPG", picture(8)), ("2.Cls", b"ant")
    shard(root / "train-0.tar", *files)
    assert reds(WebDataset(root=root), "train") == [7, 8, 3]


def test_a_name_that_stands_twice_in_a_shard_is_refused(root: Path) -> None:
    shard(root / "train-0.tar", *sample(1, "cat"), *sample(1, "ant"))
    with pytest.raises(DataError, match=r"a name stands twice in a shard .*train-0\.tar:001"):
        WebDataset(root=root).split("train")


@pytest.mark.parametrize(
    ("kind", "pack"),
    [("gzip", gzip.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)],
)
@pytest.mark.parametrize("ending", ["tar", "tar.z"])
def test_a_compressed_shard_is_called_so(
    root: Path, kind: str, pack: Callable[[bytes], bytes], ending: str
) -> None:
    content = (root / "train-0.tar").read_bytes()
    (root / f"c.{ending}").write_bytes(pack(content))
    with pytest.raises(DataError, match=rf"the shard is compressed \({kind}\).*unpack it once"):
        WebDataset(root=root, train="c.*").split("train")
    with pytest.raises(DataError, match=r"no shards 'c'.*there is .*c\."):
        WebDataset(root=root, train="c").split("train")


def test_two_archives_in_one_file_are_told(root: Path) -> None:
    parts = [(root / f"train-{n}.tar").read_bytes() for n in (0, 1)]
    (root / "both.tar").write_bytes(b"".join(parts))
    with pytest.raises(DataError, match="a second archive follows the first one"):
        WebDataset(root=root, train="both.tar").split("train")


def test_validation_shards_alone_have_their_own_classes(root: Path) -> None:
    for path in root.glob("train*"):
        path.unlink()
    source = WebDataset(root=root)
    assert (source.classes, source.split("val").targets.tolist()) == (("cat",), [0])
    with pytest.raises(DataError, match=r"there are no shards 'train\*\.tar'"):
        source.split("train")
    with pytest.raises(DataError, match=r"there are no shards 'test\*\.tar'"):
        source.split("test")
    assert source.splits == ("val",)


def test_test_shards_are_a_split_of_their_own_and_validate_where_no_others_do(root: Path) -> None:
    (root / "val-0.tar").rename(root / "test-0.tar")
    source = WebDataset(root=root)
    assert source.splits == ("train", "test")
    assert Split(source).split("val").targets.tolist() == source.split("test").targets.tolist()
    assert TEST_CHOOSES in Split(source).notes


def test_without_validation_shards_a_part_of_training_is_offered(root: Path) -> None:
    (root / "val-0.tar").unlink()
    with pytest.raises(DataError, match=r"data\.val is .*; or set data\.val_fraction"):
        WebDataset(root=root).split("val")
    (root / "valid-0.TAR").touch()
    with pytest.raises(DataError, match=r"no shards 'val\*\.tar'.*there is valid-0\.TAR$"):
        WebDataset(root=root).split("val")


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
    server: str, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    pattern, copies = server + "/train-{0..1}.tar", tmp_path / "copies"
    with pytest.raises(DataError, match=r"the shard is not there.*set data\.download=true"):
        WebDataset(root=copies, train=pattern).split("train")
    assert reds(WebDataset(root=copies, train=pattern, download=True), "train") == [1, 2, 3]
    # On a terminal there is a bar.
    assert caplog.messages == ["downloading train-0.tar ...", "downloading train-1.tar ..."]
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


def test_a_label_that_is_not_utf_8_is_refused(root: Path) -> None:
    shard(root / "train-2.tar", ("5.png", picture(5)), ("5.cls", "café".encode("latin-1")))
    with pytest.raises(DataError, match=r"5\.cls is not UTF-8 text .*: write labels as UTF-8"):
        WebDataset(root=root).split("train")


def test_images_whose_names_hold_a_further_dot_are_named(root: Path) -> None:
    further = (("a.v1.png", picture(5)), ("a.v1.cls", b"cat"), ("b.v2.JPG", picture(6)))
    shard(root / "train-2.tar", *further)
    source = WebDataset(root=root)
    assert len(source.split("train")) == 3
    (note,) = [note for note in source.notes if note.startswith("warning")]
    assert "ignored 2 of these, which are images" in note
    assert note.endswith("a.v1.png, b.v2.JPG")
    shard(root / "dots.tar", *further)
    with pytest.raises(DataError, match=r"hold no images .*another dot before the ending: a\.v1"):
        WebDataset(root=root, train="dots.tar").split("train")


def test_names_that_a_shard_holds_twice_are_told(root: Path) -> None:
    shard(root / "train-0.tar", *sample(1, "cat"), *sample(2, "ant"), *sample(1, "ant"))
    source = WebDataset(root=root)
    assert len(source.split("train")) == 4  # the same name in another shard is another image
    assert source.notes == ("warning: 1 name occurs more than once in a shard: 001.png",)
