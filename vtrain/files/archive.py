"""Check the file of a checkpoint without building anything that it describes.

It must be a regular file, a zip archive laid out as `torch.save` lays it out, every checksum must
hold, and its pickle program is read, not run: it may do nothing but build tensors and plain data.

Importing this imports no torch: 350 MB are verified in less time than torch takes to start.
"""

import contextlib
import hashlib
import os
import pickletools
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from io import BufferedRandom, BufferedReader
from pathlib import Path

from vtrain.errors import CheckpointError
from vtrain.files import manifest
from vtrain.files.manifest import Written
from vtrain.files.weights_names import is_known, refused

File = BufferedReader | BufferedRandom

LARGEST_FILE = 64 << 30  # bytes, here and below
LARGEST_DIRECTORY = 4 << 20
LARGEST_PROGRAM = 4 << 20
MOST_RECORDS = 10_000

DAMAGED = "use an older checkpoint; `fit --resume` finds the newest intact one by itself"

RECORD = re.compile(
    r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id)"
)
"""The records that `torch.save` writes; TorchScript and `torch.export` have others, with code."""

HARMLESS = re.compile(
    r"torch\._utils _rebuild_(tensor_v2|tensor_v3|parameter)|torch\.storage (Untyped|Typed)Storage"
    r"|torch [A-Z]\w+Storage|torch (u?int|b?float|complex)\d\w*|collections OrderedDict"
)
OPCODE = re.compile(
    r"PROTO|STOP|MARK|EMPTY_(DICT|LIST|TUPLE)|TUPLE[123]?|SETITEMS?|APPENDS?|(LONG_)?BIN(PUT|GET)"
    r"|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG[14]|BINFLOAT|BINUNICODE|GLOBAL|BINPERSID|REDUCE|BUILD"
)
"""What building plain data needs. BUILD is for the `_metadata` of a state dict."""

BROKEN = (
    *(OSError, EOFError, ValueError, OverflowError, NotImplementedError),
    *(zipfile.BadZipFile, struct.error),
)
"""What reading a damaged archive or program raises."""

LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
    (b"<!doctype html", "an HTML page", "a login page was saved instead: download it again"),
    (b"<html", "an HTML page", "a login page was saved instead: download it again"),
    (b"\xff\xd8\xff", "a JPEG image", None),
    (b"\x89PNG", "a PNG image", None),
    (b"\x89HDF", "an HDF5 file, as Keras writes", None),
    (b"\x93NUMPY", "a NumPy array", None),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x80", "a bare pickle", "a pickle can run code: convert it where you trust it"),
    (b"PK\x05\x06", "an empty zip archive", None),
    (b"\x08", "an ONNX model", None),
)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file once, so that what is verified is what is read.

    Raises:
        CheckpointError: It is absent, not a regular file, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a FIFO waits for its writer
    except FileNotFoundError:
        raise CheckpointError("no such checkpoint", path) from None
    except OSError as error:
        raise CheckpointError(f"cannot open the checkpoint: {error.strerror}", path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError("a folder or device, not a checkpoint file", path)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def verified(file: File, path: Path, allowed: dict[str, int] | None) -> Written:
    """Check size, checksums, layout and program of an open file; `allowed` are its checksums.

    Raises:
        CheckpointError: It is damaged, unsafe, or not what the manifest says.
    """
    written, program = verified_archive(file, path, allowed)
    try:
        _check_program(program, path)
    except BROKEN as error:
        raise corrupt(path, str(error)) from None
    return written


def verified_archive(
    file: File, path: Path, allowed: dict[str, int] | None, largest: int = LARGEST_PROGRAM
) -> tuple[Written, bytes]:
    """Check all but the program of an open file, and return that, of at most `largest` bytes.

    Raises:
        CheckpointError: It is damaged, unsafe, or not what the manifest says.
    """
    # From cheap to dear, and each step only reads what the ones before have bounded: the kind of
    # file, its checksum, the size of its directory, the directory, the records.
    try:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_FILE:
            raise CheckpointError("larger than any checkpoint", path)
        _recognise(file, path)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if allowed is not None and sha256 not in allowed:
            raise CheckpointError(
                f"the checkpoint is not the one that was written: {_unlike(size, sha256, allowed)}",
                path,
                DAMAGED,
            )
        _check_directory_size(file, size, path)
        with zipfile.ZipFile(file) as archive:
            record = _check_records(archive, size, path)
            if record.file_size > largest:
                raise CheckpointError("unsupported format: its program is too long", path)
            damaged = archive.testzip()
            if damaged is not None:
                raise corrupt(path, f"the checksum of {damaged} is wrong")
            return Written(size, sha256), archive.read(record)
    except BROKEN as error:
        raise corrupt(path, str(error)) from None


def _unlike(size: int, sha256: str, allowed: dict[str, int]) -> str:
    """Say how a file differs from what the manifest says."""
    if size not in allowed.values():
        return f"it has {size:,} bytes, {manifest.NAME} says {max(allowed.values()):,}"
    return f"its sha256 is {sha256[:12]}..., {manifest.NAME} says {min(allowed)[:12]}..."


def _recognise(file: File, path: Path) -> None:
    """Refuse what is clearly something else, and say what it looks like."""
    file.seek(0)
    head = file.read(512)
    if head.startswith(b"PK\x03\x04"):
        return
    looks: tuple[str, str | None] = ("unknown data", None)
    if not head:
        looks = "an empty file", None
    elif not head.strip(b"\0"):
        looks = "zeros, as a power cut leaves them", None
    elif head[8:9] == b"{":
        looks = "a safetensors file", "weights from elsewhere go into model.pretrained"
    elif head[257:262] == b"ustar":  # where POSIX tar has its magic number
        looks = "a tar archive", "unpack it first"
    elif matches := [look for look in LOOKS if head.lstrip().lower().startswith(look[0].lower())]:
        looks = matches[0][1:]
    elif head.isascii() and not set(head) & set(b"\0\1\2\3"):
        looks = "text", None
    raise CheckpointError(f"not a checkpoint of vtrain: it looks like {looks[0]}", path, looks[1])


def _check_directory_size(file: File, size: int, path: Path) -> None:
    """Check that the zip directory is small and ends where the file ends, before it is parsed."""
    file.seek(max(0, size - 98))
    tail = file.read(98)  # zip64 record of 56 bytes, its locator of 20, end record of 22
    if tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        raise corrupt(path, "the end of the file is missing")
    # The end record says how long the directory is and where it starts; a zip64 record before it
    # says so again in 8 bytes each.
    length, start, trailer = *struct.unpack("<II", tail[-10:-2]), 22
    if tail[-42:-38] == b"PK\x06\x07":
        length, start = struct.unpack("<QQ", tail[40:56])
        trailer = 98
    if length > LARGEST_DIRECTORY or start + length + trailer != size:
        raise corrupt(path, "its directory does not match its size")


def _check_records(archive: zipfile.ZipFile, size: int, path: Path) -> zipfile.ZipInfo:
    """Check the directory of the archive, and return the record that holds the program."""
    records = archive.infolist()
    names = [record.filename for record in records]
    # An allow list: whatever torch may learn to write, only these records are known harmless.
    strange = [name for name in names if not RECORD.fullmatch(name)]
    if strange:
        raise CheckpointError(
            f"unsupported format: a checkpoint has no '{strange[0]:.60}'",
            path,
            "TorchScript, torch.export and other archives are not read",
        )
    # Allowed flags: 0x8, sizes after the data, and 0x800, names in UTF-8. Without compression a
    # small file cannot unpack to a huge one.
    if any(record.compress_type or record.flag_bits & ~0x808 for record in records):
        raise CheckpointError(
            "it is compressed or encrypted, as no checkpoint is", path, "do not trust it"
        )
    if len(set(names)) != len(names) or len(records) > MOST_RECORDS:
        raise CheckpointError("its records are too many or not unique", path, "do not trust it")
    if sum(record.file_size for record in records) > size:
        raise CheckpointError("its records are larger than the file", path, "do not trust it")
    return _program_record(records, path)


def _program_record(records: list[zipfile.ZipInfo], path: Path) -> zipfile.ZipInfo:
    """Return the record that holds the program, which must be one."""
    programs = [record for record in records if record.filename.endswith("/data.pkl")]
    if len(programs) != 1:
        raise CheckpointError("unsupported format: not one data.pkl", path)
    return programs[0]


def _check_program(program: bytes, path: Path) -> None:
    """Read a pickle program without running it; refuse all that plain data does not need."""
    # GLOBAL is the only way to a name that is allowed; the strings before a STACK_GLOBAL are kept
    # to say in the message what it would most likely have called.
    called, opcodes, strings = [], set(), ["?", "?"]
    for opcode, argument, _ in pickletools.genops(program):
        opcodes.add(opcode.name)
        if opcode.name == "PROTO" and argument != 2:
            raise CheckpointError(f"unsupported format: pickle protocol {argument}", path)
        if opcode.name in ("GLOBAL", "INST"):
            called.append(str(argument))
        elif opcode.name == "STACK_GLOBAL":
            called.append(" ".join(strings))
        elif isinstance(argument, str):
            strings = [strings[-1], argument]
    strange = [name for name in called if not HARMLESS.fullmatch(name)]
    if strange and is_known(strange[0]):
        raise CheckpointError(
            f"not a checkpoint of vtrain: it holds '{strange[0].replace(' ', '.'):.80}'",
            path,
            "weights from elsewhere go into model.pretrained",
        )
    if strange:
        raise refused(strange[0], path)
    code = [f"opcode {name}" for name in sorted(opcodes) if not OPCODE.fullmatch(name)]
    if code:
        raise CheckpointError(
            f"refused: it holds code ('{code[0]:.80}'), not only data",
            path,
            "nothing was executed; do not trust this file",
        )


def corrupt(path: Path, why: str) -> CheckpointError:
    """Return the error of a file that is damaged."""
    return CheckpointError(f"truncated or corrupt: {why:.80}", path, DAMAGED)
