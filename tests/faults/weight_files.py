"""Hostile files of weights in the containers that hold no program: safetensors, and NumPy's `.npz`.

Each is made of an honest file by one change, so that a reader that did not look would take it.
Checkpoints of torch, which hold one, are in `corpus` and `tests/files/test_weights_program.py`.
"""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from tests.conftest import tiny

NAME = "norm.bias"
"""The tensor that is changed: of 32 numbers, and needed."""
STATE = tiny("vit_ti").state_dict()
HONEST = save(STATE)


def split() -> tuple[dict[str, Any], bytes]:
    """Return the header and the numbers of an honest file of safetensors."""
    (length,) = struct.unpack("<Q", HONEST[:8])
    return json.loads(HONEST[8 : 8 + length]), HONEST[8 + length :]


def joined(header: Any, numbers: bytes | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (split()[1] if numbers is None else numbers)


def with_entry(**changes: Any) -> bytes:
    """Change what is said of one tensor; None takes a key away."""
    header, _ = split()
    entry = {**header[NAME], **changes}
    header[NAME] = {key: value for key, value in entry.items() if value is not None}
    return joined(header)


def with_offsets(change: Callable[[int, int], list[Any]]) -> bytes:
    header, _ = split()
    return with_entry(data_offsets=change(*header[NAME]["data_offsets"]))


def with_metadata(metadata: Any) -> bytes:
    header, numbers = split()
    return joined({**header, "__metadata__": metadata}, numbers)


def with_more(name: str, entry: Any) -> bytes:
    header, numbers = split()
    return joined({**header, name: entry}, numbers)


def renamed(name: str) -> bytes:
    header, numbers = split()
    return joined({name if key == NAME else key: entry for key, entry in header.items()}, numbers)


def with_values(value: float) -> bytes:
    return save({**STATE, NAME: torch.full_like(STATE[NAME], value)})


def twice() -> bytes:
    """A header that describes one name in two ways."""
    header, _ = split()
    other = json.dumps({NAME: {**header[NAME], "shape": [2]}})[1:-1]
    return joined(json.dumps(header)[:-1].encode() + b"," + other.encode() + b"}")


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({self.canary!r}, 'w')",)


SAFETENSORS: dict[str, Callable[[str], bytes]] = {
    "a length of nothing": lambda _: struct.pack("<Q", 0) + HONEST[8:],
    "a length of one": lambda _: struct.pack("<Q", 1) + HONEST[8:],
    "a length beyond the file": lambda _: struct.pack("<Q", len(HONEST)) + HONEST[8:],
    "a length of 2 ** 62": lambda _: struct.pack("<Q", 2**62) + HONEST[8:],
    "a length below zero": lambda _: struct.pack("<q", -1) + HONEST[8:],
    "a length with its bytes turned round": lambda _: HONEST[:8][::-1] + HONEST[8:],
    "a header without its end": lambda _: joined(json.dumps(split()[0])[:-1].encode()),
    "a header of a list": lambda _: joined(b"{" + b'"a": [1]' + b"}"),
    "a header that is no JSON": lambda _: joined(b"{'a': 1}"),
    "a header that is no UTF-8": lambda _: joined(b'{"\xff": 1}'),
    "a header of nested lists": lambda _: joined(b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "a header of nested mappings": lambda _: joined(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "an empty header": lambda _: joined({}),
    "a header of metadata alone": lambda _: joined({"__metadata__": {"a": "b"}}, b""),
    "a header in which numbers have no end": lambda _: joined(b'{"a": 1' + b"0" * 10**6 + b"}"),
    "a name that is described twice": lambda _: twice(),
    "a tensor of text": lambda _: with_more("x", "y"),
    "a tensor of no type": lambda _: with_entry(dtype=None),
    "a tensor of an unknown type": lambda _: with_entry(dtype="PICKLE"),
    "a tensor of another type": lambda _: with_entry(dtype="F64"),
    "a tensor of no shape": lambda _: with_entry(shape=None),
    "a tensor of a shape below zero": lambda _: with_entry(shape=[-32]),
    "a tensor of another shape": lambda _: with_entry(shape=[33]),
    "a tensor of fractions": lambda _: with_entry(shape=[2.5, 16]),
    "a tensor of text as its shape": lambda _: with_entry(shape="32"),
    "a tensor of terabytes": lambda _: with_entry(shape=[2**40]),
    "a tensor whose size overflows": lambda _: with_entry(shape=[2**62, 2**62]),
    "a tensor of a million axes": lambda _: with_entry(shape=[1] * 10**6 + [33]),
    "a tensor that is nowhere": lambda _: with_entry(data_offsets=None),
    "a tensor beyond the file": lambda _: with_offsets(lambda a, b: [a + 2**30, b + 2**30]),
    "a tensor before the file": lambda _: with_offsets(lambda a, b: [a - 2**30, b - 2**30]),
    "a tensor that ends before it begins": lambda _: with_offsets(lambda a, b: [b, a]),
    "a tensor of half a number": lambda _: with_offsets(lambda a, b: [a, b - 1]),
    "a tensor over another": lambda _: with_offsets(lambda a, b: [a - 4, b - 4]),
    "a tensor of three ends": lambda _: with_offsets(lambda a, b: [a, b, b]),
    "numbers that nobody describes": lambda _: HONEST + bytes(64),
    "numbers that end early": lambda _: HONEST[:-64],
    "numbers that are not there": lambda _: joined(split()[0], b""),
    "a hundred thousand tensors of nothing": lambda _: joined(
        {str(n): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(10**5)}, b""
    ),
    "a name of control characters": lambda _: renamed("\x1b[2J\x07\u202e"),
    "a name of a megabyte": lambda _: renamed("x" * 2**20),
    "metadata of a list": lambda _: with_metadata([1, 2]),
    "metadata of numbers": lambda _: with_metadata({"preprocess": 5}),
    "values that are no numbers": lambda _: with_values(float("nan")),
    "values without end": lambda _: with_values(float("inf")),
    "a pickle under its name": lambda canary: pickle.dumps(Code(canary)),
    "a pickle behind a length": lambda canary: joined(pickle.dumps(Code(canary))),
}
"""What was done -> the file, which would make a canary if something ran it."""


def archive(arrays: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as packed:
        for name, content in arrays.items():
            packed.writestr(name, content)
    return file.getvalue()


def array(values: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def honest() -> dict[str, bytes]:
    return {f"{name}.npy": array(tensor.numpy()) for name, tensor in STATE.items()}


def with_array(content: bytes) -> bytes:
    return archive({**honest(), f"{NAME}.npy": content})


def described(header: str, version: tuple[int, int] = (1, 0), more: bytes = bytes(128)) -> bytes:
    """An array by hand, with whatever it says of itself."""
    text = header.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return with_array(b"\x93NUMPY" + bytes(version) + length + text + more)


def saying(**changes: str) -> bytes:
    said = {"descr": "'<f4'", "fortran_order": "False", "shape": "(32,)", **changes}
    return described("{" + ", ".join(f"'{key}': {value}" for key, value in said.items()) + "}")


def patched(change: Callable[[bytearray, int, int], None]) -> bytes:
    """Change an archive where its last entry of the directory and its end are."""
    content = bytearray(archive(honest()))
    change(content, content.rindex(b"PK\1\2"), content.rindex(b"PK\5\6"))
    return bytes(content)


def put(at_end: bool, offset: int, kind: str, value: int) -> bytes:
    def change(content: bytearray, entry: int, end: int) -> None:
        struct.pack_into(kind, content, (end if at_end else entry) + offset, value)

    return patched(change)


def in_place_of_numbers(canary: str) -> bytes:
    return with_array(array(np.array([Code(canary)] * 32, dtype=object)))


NPZ: dict[str, Callable[[str], bytes]] = {
    "objects": in_place_of_numbers,
    "a pickle among the arrays": lambda c: archive({**honest(), "x.npy": pickle.dumps(Code(c))}),
    "a pickle in place of an array": lambda c: with_array(pickle.dumps(Code(c))),
    "objects of one field": lambda _: saying(descr="[('a', '<f4'), ('b', 'O')]"),
    "fields": lambda _: saying(descr="[('a', '<f4')]"),
    "text": lambda _: with_array(array(np.array(["a"] * 32))),
    "bytes of no type": lambda _: saying(descr="'|V4'"),
    "dates": lambda _: saying(descr="'<M8[s]'"),
    "complex numbers": lambda _: saying(descr="'<c8'"),
    "an unknown type": lambda _: saying(descr="'<q4'"),
    "a type of a number": lambda _: saying(descr="4"),
    "code for a type": lambda _: saying(descr="__import__('antigravity')"),
    "code for a header": lambda c: described(f"open({c!r}, 'w')"),
    "a header of nothing": lambda _: described(""),
    "a header without a shape": lambda _: described("{'descr': '<f4', 'fortran_order': False}"),
    "a header with more": lambda _: saying(more="1"),
    "a header of a megabyte": lambda _: described(" " * 2**20, (2, 0)),
    "a header that ends early": lambda _: with_array(b"\x93NUMPY\1\0\xff\xff{'descr'"),
    "a version of the future": lambda _: described("{}", (9, 0)),
    "no version": lambda _: with_array(b"\x93NUMPY"),
    "a shape of terabytes": lambda _: saying(shape=f"({2**40},)"),
    "a shape that overflows": lambda _: saying(shape=f"({2**62}, 4)"),
    "a shape below zero": lambda _: saying(shape="(-1,)"),
    "a shape of fractions": lambda _: saying(shape="(2.5, 16)"),
    "a shape of text": lambda _: saying(shape="'32'"),
    "a shape of less": lambda _: saying(shape="(31,)"),
    "a shape of more": lambda _: saying(shape="(33,)"),
    "an order that is none": lambda _: saying(fortran_order="5"),
    "numbers that end early": lambda _: with_array(array(np.zeros(32, np.float32))[:-3]),
    "values that are no numbers": lambda _: with_array(array(np.full(32, np.nan, np.float32))),
    "whole numbers": lambda _: with_array(array(np.zeros(32, np.int64))),
    "no numbers": lambda _: with_array(array(np.zeros(0, np.float32))),
    "a bomb": lambda _: archive({f"{NAME}.npy": array(np.zeros(2**22))}, zipfile.ZIP_DEFLATED),
    "packed by bzip2": lambda _: archive(honest(), zipfile.ZIP_BZIP2),
    "packed by lzma": lambda _: archive(honest(), zipfile.ZIP_LZMA),
    "a hundred thousand arrays": lambda _: archive({f"{n}.npy": b"" for n in range(10**5)}),
    "a name of control characters": lambda _: archive({**honest(), "\x1b[2J\x07.npy": array(ONE)}),
    "a name above the folder": lambda _: archive({**honest(), "../../x.npy": array(ONE)}),
    "a name of the system": lambda _: archive({**honest(), "/etc/passwd.npy": array(ONE)}),
    "a file that is no array": lambda _: archive({**honest(), "README": b"text"}),
    "a checksum that is wrong": lambda _: put(False, 16, "<I", 1),
    "a size that is overstated": lambda _: put(False, 24, "<I", 2**31),
    "a place beyond the file": lambda _: put(False, 42, "<I", 2**31),
    "a place in another array": lambda _: put(False, 42, "<I", 7),
    "a method of the future": lambda _: put(False, 10, "<H", 99),
    "a flag of encryption": lambda _: put(False, 8, "<H", 1),
    "a directory beyond the file": lambda _: put(True, 16, "<I", 2**31),
    "a directory of gigabytes": lambda _: put(True, 12, "<I", 2**31),
    "an archive without its end": lambda _: archive(honest())[:-30],
    "an archive in an archive": lambda _: archive({"a.npy": archive(honest())}),
}
ONE = np.ones(1, np.float32)
