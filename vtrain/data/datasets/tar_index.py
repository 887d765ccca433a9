"""Where the images of tar shards are, and their classes as written: a walk over headers."""

import re
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vtrain.data.datasets.class_names import tidy
from vtrain.data.datasets.folder_names import first_five, is_leftover
from vtrain.data.progress import Progress
from vtrain.errors import DataError, counted
from vtrain.files.image_names import is_image_name
from vtrain.files.images import MAX_FILE_BYTES

MAX_LABEL_BYTES = 1000
COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\3\4": ("zip", "unzip"),
}
"""How compressed files begin -> what they are called, and the program that unpacks them."""
META = re.compile(r"__[^/]*__")
"""Top folders that WebDataset passes over."""


@dataclass
class Index:
    """Where the images of some shards are, and their classes as they are written.

    Hidden files are passed over as in folders: tar on a Mac writes `._000.jpg` before `000.jpg`.
    """

    shards: tuple[Path, ...]
    keys: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    ignored: int = 0
    hidden: int = 0
    dotted: list[str] = field(default_factory=list)
    """Names of images that belong to no sample, as they hold a further dot."""
    again: list[str] = field(default_factory=list)
    """Names of images that a shard holds more than once, at different places."""

    def notes(self) -> Iterator[str]:
        """Say what was passed over."""
        if self.ignored:
            files = "1 file in shards that belongs" if self.ignored == 1 else ""
            files = files or f"{self.ignored:,} files in shards that belong"
            yield f"ignored {files} to no image"
        if self.dotted:
            yield (
                f"warning: ignored {len(self.dotted)} of these, which are images, as their names "
                f"hold another dot before the ending: {first_five(self.dotted)}"
            )
        if self.again:
            names = "1 name occurs" if len(self.again) == 1 else f"{len(self.again):,} names occur"
            yield f"warning: {names} more than once in a shard: {first_five(self.again)}"
        if self.hidden:
            yield f"ignored {counted(self.hidden, 'hidden file')} in shards"

    def add(self, number: int, progress: Progress) -> None:
        """Read the headers of one shard.

        Raises:
            DataError: It is damaged, compressed, or an image in it has no class.
        """
        shard, before = self.shards[number], len(self.keys)
        try:
            # "r:" is an uncompressed file: in a compressed one no image has a place of its own.
            with tarfile.open(shard, "r:") as archive:
                for key, members in self._samples(shard, archive):
                    self._add_sample(archive, number, key, members)
                    progress.add(len(members))
            # Shard by shard: the names of a whole dataset may be millions.
            names = Counter(self.keys[before:])
            self.again += [name for name, count in names.items() if count > 1]
        except (tarfile.TarError, EOFError) as error:
            _refuse_compressed(shard)
            hint = "remove it, and download it again"
            raise DataError(f"the shard is damaged: {error}", shard, hint) from None
        except OSError as error:
            raise DataError(f"cannot read the shard: {error.strerror}", shard) from None

    def _samples(
        self, shard: Path, archive: tarfile.TarFile
    ) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
        """Yield the files of each sample: those in a row whose names agree up to the first dot."""
        key, members = "", list[tarfile.TarInfo]()
        for member in archive:
            if member.isdir():
                continue
            if _is_hidden(member.name):
                self.hidden += 1
                continue
            if not member.isreg() or member.issparse():  # a link or a hole has no bytes there
                self.ignored += 1
                continue
            dot = member.name.find(".", member.name.rfind("/") + 1)
            own = member.name if dot < 0 else member.name[:dot]
            # A sample's files follow each other, so that a shard need not be held in memory.
            if own != key and members:
                yield key, members
                members = []
            key = own
            members.append(member)
        # Before the last sample, whose class is missing where the shard was cut.
        _check_end(shard, archive.offset)
        if members:
            yield key, members

    def _add_sample(
        self, archive: tarfile.TarFile, number: int, key: str, members: list[tarfile.TarInfo]
    ) -> None:
        where = f"{self.shards[number]}:{key}"
        # `key.jpg` is the image; `key.seg.png` belongs to another task.
        endings = [member.name[len(key) + 1 :].lower() for member in members]
        images = [
            member
            for member, ending in zip(members, endings, strict=True)
            if is_image_name(member.name) and "." not in ending
        ]
        # Beside a picture an array is what was computed of it, such as features.
        images.sort(key=lambda member: member.name.lower().endswith(".npy"))
        labels = [m for m, ending in zip(members, endings, strict=True) if ending == "cls"]
        if len({member.name for member in members}) < len(members):
            raise DataError("a name stands twice in a shard", where, "pack it again")
        self.ignored += len(members) - len(images[:1]) - len(labels[:1])  # of several, the first
        if not images:
            self.dotted += [member.name for member in members if is_image_name(member.name)]
            return
        if not labels:
            raise DataError("an image has no class", where, f"expected a file {key}.cls beside it")
        # Sizes come from headers: they are checked before anything of that size is read.
        if images[0].size > MAX_FILE_BYTES:
            raise DataError(f"an image file of {images[0].size:,} bytes", where)
        self.labels.append(_label(archive, labels[0], where))
        self.keys.append(images[0].name)
        self.places.append((number, images[0].offset_data, images[0].size))


def _is_hidden(name: str) -> bool:
    """Whether a file is a tool's leftover, or in a folder of such, or WebDataset's own data."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return any(map(is_leftover, parts)) or (len(parts) > 1 and META.fullmatch(parts[0]) is not None)


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> str:
    """Read the class of an image."""
    content = b"" if member.size > MAX_LABEL_BYTES else _content(archive, member)
    try:
        label = tidy(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        what = f"{member.name} is not UTF-8 text"
        raise DataError(what, where, "write labels as UTF-8, and pack it again") from None
    if not label or any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in label):
        size = f"{member.size:,} bytes" if member.size else "an empty file"
        what = f"{member.name} is {size}, not one line with a class"
        raise DataError(what, where)
    return label


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "it is a regular file"
    return file.read()


def _refuse_compressed(shard: Path) -> None:
    """Say of a file that is no tar file if it may be a compressed one."""
    with shard.open("rb") as file:
        head = file.read(8)
    for magic, (kind, program) in COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(
                f"the shard is compressed ({kind}): no image in it can be read by itself",
                shard,
                f"unpack it once with `{program}`; data.train and data.val then end in .tar",
            )


def _check_end(shard: Path, end: int) -> None:
    """Look at what follows the last file of a shard: it must be zeros, two blocks at least.

    tarfile takes a file that was cut between two members for whole, and of two archives that were
    joined by `cat` it reads the first.
    """
    with shard.open("rb") as file:
        file.seek(-min(2 * tarfile.BLOCKSIZE, shard.stat().st_size), 2)
        if file.read().strip(b"\0"):
            raise tarfile.ReadError("it ends early")
        file.seek(end)
        while block := file.read(2**20):
            if block.strip(b"\0"):
                what = "a second archive follows the first one, as `cat a.tar b.tar` makes"
                raise DataError(what, shard, "give each a file of its own, or pack them as one")
