"""Files that `torch.save` wrote for any program: in its zip format, and in the one before it.

They are verified like a checkpoint, but for their program, which `weights_program` reads. Only the
tensors that are asked for are read.
"""

import os
import struct
import sys
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtrain.errors import CheckpointError
from vtrain.files import manifest
from vtrain.files.archive import BROKEN, LARGEST_FILE, File, corrupt, verified_archive
from vtrain.files.weights_program import LARGEST_PROGRAM, Storage, Stored, run_program

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first of the four programs of the older format: its magic number."""
LEGACY_VERSION = 1001
MOST_DIMENSIONS = 16

DTYPES: dict[str, torch.dtype] = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
    "torch ComplexFloatStorage": torch.complex64,
    "torch ComplexDoubleStorage": torch.complex128,
    "torch.storage UntypedStorage": torch.uint8,
    "torch float8_e4m3fn": torch.float8_e4m3fn,
    "torch float8_e5m2": torch.float8_e5m2,
    "torch uint16": torch.uint16,
    "torch uint32": torch.uint32,
    "torch uint64": torch.uint64,
}


class TorchFile:
    """The content of an open file, and the numbers behind its tensors."""

    def __init__(self, file: File, path: Path) -> None:
        """Verify and read all but the tensors.

        Raises:
            CheckpointError: It is damaged or unsafe, or no file of `torch.save`.
        """
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.places: dict[str, tuple[int, int]] = {}  # of each storage: where it starts, and bytes
        self.read: dict[str, torch.UntypedStorage] = {}
        file.seek(0)
        legacy = file.read(len(LEGACY)) == LEGACY
        try:
            self.content = self._read_legacy() if legacy else self._read_zip()
        except BROKEN as error:
            raise corrupt(path, str(error)) from None

    def _read_zip(self) -> Any:
        allowed = manifest.read(self.path.parent).allowed(self.path.name)
        _, program = verified_archive(self.file, self.path, allowed, LARGEST_PROGRAM)
        with zipfile.ZipFile(self.file) as archive:
            for record in archive.infolist():
                head, _, key = record.filename.rpartition("/data/")
                if head:
                    self.places[key] = _start(self.file, record), record.file_size
                if record.filename.endswith("/byteorder"):
                    self._check_order(archive.read(record) == sys.byteorder.encode())
        return run_program(BytesIO(program), self.path)[0]

    def _read_legacy(self) -> Any:
        if self.size > LARGEST_FILE:
            raise CheckpointError("larger than any checkpoint", self.path)
        version, system = (run_program(self.file, self.path)[0] for _ in range(2))
        if version != LEGACY_VERSION or not isinstance(system, dict):
            raise corrupt(self.path, "an unknown version of torch's older format")
        self._check_order(system.get("little_endian") is (sys.byteorder == "little"))
        content, storages = run_program(self.file, self.path)
        keys, _ = run_program(self.file, self.path)
        if not isinstance(keys, list) or any(type(key) is not str for key in keys):
            raise corrupt(self.path, "its list of storages is no list")
        for key in keys:
            (count,) = struct.unpack("<q", self.file.read(8))
            start, kind = self.file.tell(), storages[key].kind if key in storages else ""
            length = count * DTYPES[kind].itemsize if kind in DTYPES else -1
            if not 0 <= length <= self.size - start:
                raise corrupt(self.path, f"storage {key:.20} ends behind the file")
            self.places[key] = start, length
            self.file.seek(start + length)
        return content

    def _check_order(self, own: bool) -> None:
        if not own:
            raise CheckpointError("its numbers have another byte order", self.path)

    def tensors(self, given: Mapping[str, Stored]) -> dict[str, Tensor]:
        """Read tensors, of which none may claim more than its storage has.

        Raises:
            CheckpointError: One is damaged, or they claim more than the file has.
        """
        try:
            shown = {name: self._tensor(stored) for name, stored in given.items()}
        except (ValueError, TypeError, KeyError, RuntimeError, *BROKEN) as error:
            raise corrupt(self.path, f"its tensors cannot be read ({error!s:.50})") from None
        # Twice, as a few tensors may share their numbers, such as tied weights.
        if sum(tensor.nbytes for tensor in shown.values()) > 2 * self.size:
            raise CheckpointError("its tensors are larger than the file", self.path)
        return shown

    def _tensor(self, stored: Stored) -> Tensor:
        dtype = DTYPES[stored.dtype or stored.storage.kind]
        size, stride = (_lengths(numbers) for numbers in (stored.size, stored.stride))
        (offset,) = _lengths((stored.offset,))
        memory = self._memory(stored.storage)
        elements = 1
        for length in size:
            elements *= length
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = memory.nbytes() // dtype.itemsize
        if elements > count or (elements and last >= count):
            raise ValueError("a tensor is larger than its storage")
        return torch.empty(0, dtype=dtype).set_(memory, offset, size, stride)

    def _memory(self, storage: Storage) -> torch.UntypedStorage:
        """Read a storage, once."""
        if storage.key not in self.read:
            start, count = self.places[storage.key]
            if storage.count * DTYPES[storage.kind].itemsize > count:
                raise ValueError("a storage is larger than its record")
            content = bytearray(count)
            self.file.seek(start)
            if self.file.readinto(content) != count:
                raise ValueError("a storage ends early")
            # An empty buffer has no memory to share.
            memory = torch.frombuffer(content or bytearray(1), dtype=torch.uint8)
            self.read[storage.key] = memory.untyped_storage()
        return self.read[storage.key]


def _start(file: File, record: zipfile.ZipInfo) -> int:
    """Return where the content of a record begins, behind its local header."""
    file.seek(record.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return record.header_offset + 30 + int(name) + int(extra)


def _lengths(numbers: Any) -> tuple[int, ...]:
    """Check the numbers of a shape, of strides or of an offset."""
    if not isinstance(numbers, list | tuple) or len(numbers) > MOST_DIMENSIONS:
        raise ValueError("a shape that is none")
    if any(type(number) is not int or not 0 <= number < 2**62 for number in numbers):
        raise ValueError("a shape of impossible numbers")
    return tuple(numbers)
