"""Images in tar files, in the layout of WebDataset: `000017.jpg` beside `000017.cls`.

The shards are indexed, not streamed: every image keeps its place, so that the order, the shares of
the processes and a resumed run are as exact as with files in folders. Shards on a server are
downloaded first. Reference: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from vtrain.data.datasets.samples import Paths, Photographs, SplitName, check_targets
from vtrain.errors import DataError
from vtrain.files.downloads import download, download_lock
from vtrain.files.images import MAX_FILE_BYTES, decode_image, is_image_name
from vtrain.registry import SOURCES

MAX_LABEL_BYTES = 1000


@dataclass(frozen=True)
class TarSamples:
    """Images inside tar files.

    Shape: `places` (N, 3) int64: which file, the offset in it, bytes; `targets` (N,) int64.
    """

    shards: tuple[Path, ...]
    keys: Paths
    places: Tensor
    targets: Tensor
    ignored: ClassVar[Mapping[str, int]] = {}

    def __len__(self) -> int:
        return len(self.targets)

    def image(self, index: int) -> Image.Image:
        # Opened for each image: an open file would be shared by forked workers, position included.
        shard, offset, size = self.places[index].tolist()
        try:
            with self.shards[shard].open("rb") as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", self.name(index)) from None
        return decode_image(content, self.name(index))

    def name(self, index: int) -> str:
        return f"{self.shards[int(self.places[index, 0])]}:{self.keys[index]}"

    def file(self, index: int) -> None:
        return None

    def stamps(self, indices: Tensor | None = None) -> Iterator[bytes]:
        for index in range(len(self)) if indices is None else indices.tolist():
            yield f"{self.name(index)}\0".encode(errors="surrogateescape")

    def with_targets(self, targets: Tensor) -> "TarSamples":
        return replace(self, targets=targets)


@SOURCES.register("webdataset")
class WebDataset(Photographs):
    """Images in tar shards: `key.jpg` (or another format) beside `key.cls`, the class.

    A class is a number from 0, or a name. The names are those of the training images in the order
    of their text; numbers may be named by a file.

    Args:
        root: The folder of the shards, also of those that are downloaded.
        train: The training shards: a pattern such as `train-*.tar`, or a URL, in either of which
            `{0000..0099}` stands for a row of numbers.
        val: The validation shards.
        classes: A text file with one class name per line, for classes that are numbers.
        download: Whether to fetch shards at a URL that are not in `root`.

    Raises:
        DataError: A shard is absent or damaged, or an image has no class.
    """

    def __init__(
        self,
        *,
        root: Path,
        train: str = "train*.tar",
        val: str = "val*.tar",
        classes: Path | None = None,
        download: bool = False,
    ) -> None:
        self.root, self.download = root, download
        self.patterns: dict[SplitName, str] = {"train": train, "val": val}
        self.names = classes
        self._indexes: dict[SplitName, Index] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored in the shards that have been read."""
        ignored = sum(index.ignored for index in self._indexes.values())
        return (f"ignored {ignored} files in shards that belong to no image",) if ignored else ()

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        # Numbers stay numbers: as text, "10" would come before "9".
        labels = set(self._index("train").labels)
        if not all(label.isdecimal() for label in labels):
            return tuple(sorted(labels))
        if self.names is None:
            return tuple(map(str, range(1 + max(map(int, labels)))))
        try:
            return tuple(self.names.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError):
            raise DataError("cannot read the names of classes", self.names) from None

    def split(self, name: SplitName) -> TarSamples:
        """Return the images of one split.

        Raises:
            DataError: There are no such shards, or one holds a class that training has not.
        """
        index = self._index("val" if name == "test" else name)  # there is no third pattern
        numbers = {label: number for number, label in enumerate(self.classes)}
        numeric = all(label.isdecimal() for label in index.labels)
        unknown = set() if numeric else set(index.labels) - set(numbers)
        if unknown:
            raise DataError(
                f"class '{min(unknown)}' of the {name} images is not in train", self.root
            )
        targets = [int(label) if numeric else numbers[label] for label in index.labels]
        samples = TarSamples(
            index.shards,
            Paths(index.keys),
            torch.tensor(index.places, dtype=torch.int64),
            torch.tensor(targets, dtype=torch.int64),
        )
        check_targets(samples.targets, len(self.classes), self.root)
        return samples

    def _index(self, name: SplitName) -> "Index":
        if name not in self._indexes:
            shards = self._shards(self.patterns[name])
            index = Index(tuple(shards))
            for number in tqdm(range(len(shards)), "reading shards", delay=2, disable=None):
                index.add(number)
            if not index.keys:
                raise DataError(f"the {name} shards hold no images", self.root)
            self._indexes[name] = index
        return self._indexes[name]

    def _shards(self, pattern: str) -> list[Path]:
        """Return the files that a pattern stands for, downloaded if they may be."""
        if "://" in pattern or pattern.startswith("pipe:"):
            return [self._local(url) for url in expanded(pattern)]
        paths = sorted(path for part in expanded(pattern) for path in self.root.glob(part))
        if not paths:
            raise DataError(f"there are no shards '{pattern}'", self.root)
        return paths

    def _local(self, url: str) -> Path:
        # WebDataset also runs commands ("pipe:..."); nothing is ever executed here.
        parts = urlsplit(url)
        name = Path(parts.path).name
        if parts.scheme not in {"http", "https"} or not name.endswith(".tar"):
            raise DataError("not the address of a shard", url, "expected https://.../NAME.tar")
        target = self.root / name
        if target.exists():
            return target
        if not self.download:
            raise DataError("the shard is not there", target, "set data.download=true")
        with download_lock(self.root):
            if not target.exists():  # another process may have fetched it meanwhile
                download(url, target)
        return target


@dataclass
class Index:
    """Where the images of some shards are, and their classes as they are written."""

    shards: tuple[Path, ...]
    keys: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    ignored: int = 0

    def add(self, number: int) -> None:
        """Read the headers of one shard.

        Raises:
            DataError: It is damaged, or an image in it has no class.
        """
        shard = self.shards[number]
        try:
            # "r:" is an uncompressed file: in a compressed one no image has a place of its own.
            with tarfile.open(shard, "r:") as archive:
                for key, members in _grouped(archive):
                    self._add_sample(archive, number, key, members)
            _check_end(shard)  # tarfile takes a file that was cut between two members for whole
        except (tarfile.TarError, EOFError) as error:
            hint = "remove it, and download it again"
            raise DataError(f"the shard is damaged: {error}", shard, hint) from None
        except OSError as error:
            raise DataError(f"cannot read the shard: {error.strerror}", shard) from None

    def _add_sample(
        self, archive: tarfile.TarFile, number: int, key: str, members: list[tarfile.TarInfo]
    ) -> None:
        # `key.jpg` is the image; `key.seg.png` belongs to another task.
        images = [m for m in members if is_image_name(m.name) and "." not in m.name[len(key) + 1 :]]
        labels = [member for member in members if member.name == f"{key}.cls"]
        self.ignored += len(members) - len(images[:1]) - len(labels[:1])  # of several, the first
        if not images:
            return
        where = f"{self.shards[number]}:{key}"
        if not labels or labels[0].size > MAX_LABEL_BYTES:
            raise DataError("an image has no class", where, f"expected a file {key}.cls beside it")
        # Sizes come from headers: they are checked before anything of that size is read.
        if images[0].size > MAX_FILE_BYTES:
            raise DataError(f"an image file of {images[0].size:,} bytes", where)
        content = archive.extractfile(labels[0])
        assert content is not None, "it is a regular file"
        label = content.read().decode(errors="backslashreplace").strip()
        self.keys.append(images[0].name)
        self.labels.append(label)
        self.places.append((number, images[0].offset_data, images[0].size))


def _check_end(shard: Path) -> None:
    """Refuse a tar file without its end mark, two blocks of zeros: a cut between two files."""
    with shard.open("rb") as file:
        file.seek(-min(2 * tarfile.BLOCKSIZE, shard.stat().st_size), 2)
        if file.read().strip(b"\0"):
            raise tarfile.ReadError("it ends early")


def _grouped(archive: tarfile.TarFile) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Yield the files of each sample: those in a row whose names agree up to the first dot."""
    key, members = "", list[tarfile.TarInfo]()
    for member in archive:
        if not member.isreg() or member.issparse():  # a link or a hole has no bytes at its offset
            continue
        dot = member.name.find(".", member.name.rfind("/") + 1)
        own = member.name if dot < 0 else member.name[:dot]
        # A sample's files follow each other, so that a shard need not be held in memory.
        if own != key and members:
            yield key, members
            members = []
        key = own
        members.append(member)
    if members:
        yield key, members


def expanded(pattern: str) -> list[str]:
    """Replace the first `{0000..0099}` by each of its numbers, with its leading zeros.

    >>> expanded("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    row = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if row is None:
        return [pattern]
    first, last = row.groups()
    before, after = pattern[: row.start()], pattern[row.end() :]
    return [f"{before}{n:0{len(first)}}{after}" for n in range(int(first), int(last) + 1)]
