"""Hostile and foreign files given as checkpoints. Those with code would make the file `canary`."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Build = Callable[[Path], bytes]
CORPUS: dict[str, Build] = {}


def entry(build: Build) -> Build:
    """Add the file that `build(canary)` returns to the corpus, under the function's name."""
    CORPUS[build.__name__] = build
    return build


def archive(program: bytes, records: dict[str, bytes] | None = None, **zip_options: Any) -> bytes:
    """Wrap a pickle program as `torch.save` does, with an honest directory and checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **zip_options) as packed:
        packed.writestr("archive/data.pkl", program)
        packed.writestr("archive/byteorder", b"little")
        packed.writestr("archive/version", b"3\n")
        for name, content in (records or {}).items():
            packed.writestr(f"archive/{name}", content)
    return file.getvalue()


def saved(content: Any, **options: Any) -> bytes:
    """What `torch.save` itself makes of `content`."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


class Call:
    """Unpickling this calls `function(*arguments)`."""

    def __init__(self, function: str, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


def program(call: Call, protocol: int = 2) -> bytes:
    """Write `{"format": 1, "model": function(*arguments)}` by hand, in opcodes of `protocol`.

    By hand, because a function that is not installed here may be so where the file is opened.
    """
    module, _, name = call.function.rpartition(".")
    arguments = pickle.dumps(tuple(call.arguments), protocol=min(protocol, 2))
    body = arguments[2:-1] if protocol >= 2 else arguments[:-1]
    if protocol >= 4:
        function = (
            b"".join(b"\x8c" + bytes([len(t)]) + t.encode() for t in (module, name)) + b"\x93"
        )
    else:
        function = f"c{module}\n{name}\n".encode()
    head = b"\x80" + bytes([protocol]) if protocol >= 2 else b""
    model = function + body + b"R"
    return head + b"(Vformat\nI1\nVmodel\n" + model + b"d."


CALLS: dict[str, Callable[[str], Call]] = {
    "os_system": lambda c: Call("os.system", f"touch {c}"),
    "posix_system": lambda c: Call("posix.system", f"touch {c}"),
    "os_popen": lambda c: Call("os.popen", f"touch {c}"),
    "os_execv": lambda c: Call("os.execv", "/usr/bin/touch", ["touch", c]),
    "os_mkdir": lambda c: Call("os.mkdir", c),
    "subprocess_popen": lambda c: Call("subprocess.Popen", ["touch", c]),
    "subprocess_check_output": lambda c: Call("subprocess.check_output", ["touch", c]),
    "pty_spawn": lambda c: Call("pty.spawn", ["touch", c]),
    "eval": lambda c: Call("builtins.eval", f"open({c!r}, 'w')"),
    "exec": lambda c: Call("builtins.exec", f"open({c!r}, 'w')"),
    "old_builtin_eval": lambda c: Call("__builtin__.eval", f"open({c!r}, 'w')"),
    "open_for_writing": lambda c: Call("builtins.open", c, "w"),
    "io_open": lambda c: Call("io.open", c, "w"),
    "io_fileio": lambda c: Call("io.FileIO", c, "w"),
    "getattr": lambda _: Call("builtins.getattr", "", "__class__"),
    "import": lambda _: Call("builtins.__import__", "antigravity"),
    "importlib": lambda _: Call("importlib.import_module", "antigravity"),
    "runpy": lambda c: Call("runpy.run_path", c),
    "timeit": lambda c: Call("timeit.timeit", f"open({c!r}, 'w')", "pass", None, 1),
    "cprofile": lambda c: Call("cProfile.run", f"open({c!r}, 'w')"),
    "pdb_run": lambda c: Call("pdb.run", f"open({c!r}, 'w')"),
    "code_runsource": lambda c: Call("code.interact", f"open({c!r}, 'w')"),
    "webbrowser": lambda _: Call("webbrowser.open", "http://127.0.0.1:9/"),
    "socket": lambda _: Call("socket.create_connection", ("127.0.0.1", 9)),
    "urlopen": lambda _: Call("urllib.request.urlopen", "http://127.0.0.1:9/"),
    "pickle_loads": lambda c: Call("pickle.loads", program(Call("os.mkdir", c))[:-1] + b"."),
    "marshal": lambda _: Call("marshal.loads", "x"),
    "ctypes": lambda _: Call("ctypes.CDLL", "libc.so.6"),
    "shutil_copy": lambda c: Call("shutil.copy", "/etc/hostname", c),
    "path_touch": lambda c: Call("pathlib.PosixPath", c),
    "attrgetter": lambda _: Call("operator.attrgetter", "system"),
    "partial": lambda c: Call("functools.partial", f"touch {c}"),
    "numpy_runstring": lambda c: Call("numpy.testing._private.utils.runstring", c, {}),
    "numpy_load": lambda c: Call("numpy.load", c, None, True),
    "torch_load": lambda c: Call("torch.load", c),
    "torch_hub": lambda _: Call("torch.hub.load", "a/b", "c"),
    "torch_jit_load": lambda c: Call("torch.jit.load", c),
    "torch_load_library": lambda c: Call("torch.ops.load_library", c),
    "add_safe_globals": lambda _: Call("torch.serialization.add_safe_globals", []),
    "torch_float_power": lambda _: Call("torch.float_power", 2, 3),
    "vtrain_write": lambda c: Call("vtrain.files.atomic.write_text", c, "x"),
    "logging_config": lambda _: Call("logging.config.fileConfig", "x"),
}
"""Functions that attackers use; the arguments are what each takes."""

for _name, _call in CALLS.items():
    CORPUS[_name] = lambda canary, call=_call: archive(program(call(str(canary))))
for _protocol in (0, 1, 3, 4, 5):
    CORPUS[f"os_system_protocol_{_protocol}"] = lambda canary, protocol=_protocol: archive(
        program(Call("os.system", f"touch {canary}"), protocol)
    )


class Setstate:
    """An object whose state is code, once the class is imported."""

    def __setstate__(self, state: Any) -> None:
        Path(state).touch()

    def __getstate__(self) -> str:
        return "x"


class Reduced:
    """What a malicious class looks like from Python."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.canary}",)


@entry
def reduce_by_torch_save(canary: Path) -> bytes:
    return saved({"format": 1, "model": Reduced(canary)})


@entry
def reduce_deep_inside(canary: Path) -> bytes:
    return saved({"format": 1, "model": {"a": [1, (2, {"b": [Reduced(canary)]})]}})


@entry
def reduce_as_a_key(canary: Path) -> bytes:
    return saved({"format": 1, "model": {(1, Reduced(canary)): 1}})


@entry
def reduce_among_metadata(canary: Path) -> bytes:
    state = OrderedDict(w=torch.ones(1))
    state._metadata = Reduced(canary)  # type: ignore[attr-defined]
    return saved({"format": 1, "model": state})


@entry
def setstate(_: Path) -> bytes:
    return saved({"format": 1, "model": Setstate()})


@entry
def instance_opcode(canary: Path) -> bytes:
    return archive(f"(Vtouch {canary}\nios\nsystem\n.".encode())


@entry
def object_opcode(canary: Path) -> bytes:
    return archive(f"(cos\nsystem\nVtouch {canary}\no.".encode())


@entry
def newobj_opcode(canary: Path) -> bytes:
    return archive(b"\x80\x02cio\nFileIO\n" + f"(V{canary}\nVw\nt\x81.".encode("latin1"))


@entry
def extension_registry_opcode(_: Path) -> bytes:
    return archive(b"\x80\x02\x82\x01.")


@entry
def persistent_id_of_text(_: Path) -> bytes:
    return archive(b"Pos.system\n.")


@entry
def storage_constructor(_: Path) -> bytes:
    return archive(b"\x80\x02ctorch\nFloatStorage\n\x8a\x06\0\0\0\0\0\x10\x85R.")


@entry
def bare_pickle(canary: Path) -> bytes:
    return program(Call("os.system", f"touch {canary}"))


@entry
def legacy_torch_format(canary: Path) -> bytes:
    return saved({"model": Reduced(canary)}, _use_new_zipfile_serialization=False)


@entry
def legacy_torch_format_without_code(_: Path) -> bytes:
    return saved({"format": 1, "model": {}}, _use_new_zipfile_serialization=False)


@entry
def legacy_tar_format(canary: Path) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        content = program(Call("os.system", f"touch {canary}"))
        member = tarfile.TarInfo("pickle")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return file.getvalue()


@entry
def two_programs(canary: Path) -> bytes:
    good = pickle.dumps({"format": 1, "model": {}}, protocol=2)
    packed = archive(good, {"data.pk!": program(Call("os.system", f"touch {canary}"))})
    return packed.replace(b"data.pk!", b"data.pkl")


@entry
def two_prefixes(canary: Path) -> bytes:
    good = pickle.dumps({"format": 1, "model": {}}, protocol=2)
    evil = program(Call("os.system", f"touch {canary}"))
    packed = archive(good, {"data.pkl": evil})
    return packed.replace(b"archive/data.pkl", b"brchive/data.pkl", 1)


@entry
def archive_behind_an_archive(canary: Path) -> bytes:
    good = saved({"format": 1, "model": {}})
    return archive(program(Call("os.system", f"touch {canary}"))) + good


@entry
def sparse_tensor(_: Path) -> bytes:
    return saved({"format": 1, "model": {"w": torch.eye(3).to_sparse()}})


@entry
def sparse_tensor_with_wild_indices(_: Path) -> bytes:
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        wild = torch.sparse_coo_tensor(torch.tensor([[10**9]]), torch.ones(1), (2,))
    return saved({"format": 1, "model": {"w": wild}})


@entry
def meta_tensor(_: Path) -> bytes:
    return saved({"format": 1, "model": {"w": torch.empty(1 << 20, 1 << 20, device="meta")}})


@entry
def numpy_array(_: Path) -> bytes:
    import numpy as np

    return saved({"format": 1, "model": {"w": np.ones(3)}})


@entry
def tensor_of_a_terabyte_by_stride_zero(_: Path) -> bytes:
    return saved({"format": 1, "model": {"w": torch.zeros(1).expand(1 << 20, 1 << 20)}})


def tensor_program(elements: int, offset: int, size: int, stride: int) -> bytes:
    """A tensor over `archive/data/0`, with whatever numbers."""
    whole = b"".join(
        [
            b"\x80\x02}(X\x06\0\0\0formatK\x01X\x05\0\0\0model}X\x01\0\0\0w",
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n",
            b"X\x01\0\0\x000X\x03\0\0\0cpu" + integer(elements) + b"tQ",
            integer(offset) + integer(size) + b"\x85" + integer(stride) + b"\x85\x89",
            b"ccollections\nOrderedDict\n)RtRsu.",
        ]
    )
    return archive(whole, {"data/0": bytes(16)})


def integer(value: int) -> bytes:
    """A signed integer of 8 bytes as a pickle opcode."""
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


@entry
def storage_larger_than_its_record(_: Path) -> bytes:
    return tensor_program(elements=1 << 30, offset=0, size=1 << 30, stride=1)


@entry
def tensor_larger_than_its_storage(_: Path) -> bytes:
    return tensor_program(elements=4, offset=0, size=1 << 30, stride=1)


@entry
def tensor_before_its_storage(_: Path) -> bytes:
    return tensor_program(elements=4, offset=-8, size=2, stride=1)


@entry
def tensor_behind_its_storage(_: Path) -> bytes:
    return tensor_program(elements=4, offset=1 << 40, size=2, stride=1)


@entry
def tensor_with_a_negative_stride(_: Path) -> bytes:
    return tensor_program(elements=4, offset=3, size=4, stride=-1)


@entry
def tensor_of_negative_size(_: Path) -> bytes:
    return tensor_program(elements=4, offset=0, size=-4, stride=1)


@entry
def lists_in_lists(_: Path) -> bytes:
    nested = b"]" * 200_000 + b"a" * 199_999
    return archive(b"\x80\x02}(X\x06\0\0\0formatK\x01X\x05\0\0\0model" + nested + b"u.")


@entry
def list_that_holds_itself(_: Path) -> bytes:
    cyclic = b"]q\x00h\x00ah\x00a"
    return archive(b"\x80\x02}(X\x06\0\0\0formatK\x01X\x05\0\0\0model" + cyclic + b"u.")


@entry
def lists_that_double(_: Path) -> bytes:
    doubling = b"]q\0"
    for level in range(25):
        doubling = b"](" + doubling + b"h%ceq%c" % (level, level + 1)
    return archive(b"\x80\x02}(X\x06\0\0\0formatK\x01X\x05\0\0\0model" + doubling + b"u.")


@entry
def a_set(_: Path) -> bytes:
    return saved({"format": 1, "model": {1, 2}})


@entry
def bytes_inside(_: Path) -> bytes:
    return saved({"format": 1, "model": b"abc"})


@entry
def no_mapping(_: Path) -> bytes:
    return saved([1, 2, 3])


@entry
def weights_only(_: Path) -> bytes:
    return saved({"head.weight": torch.ones(2, 2)})


@entry
def newer_format(_: Path) -> bytes:
    return saved({"format": 99, "model": {}})


@entry
def format_of_another_type(_: Path) -> bytes:
    return saved({"format": True, "model": {}})


@entry
def deflated_bomb(_: Path) -> bytes:
    return archive(
        pickle.dumps({"format": 1, "model": {}}, protocol=2),
        {"data/0": bytes(64 << 20)},
        compression=zipfile.ZIP_DEFLATED,
    )


@entry
def program_bomb(_: Path) -> bytes:
    return archive(b"(" * (64 << 20), compression=zipfile.ZIP_DEFLATED)


@entry
def size_of_a_record_overstated(_: Path) -> bytes:
    packed = bytearray(archive(b"\x80\x02}.", {"data/0": bytes(100)}))
    directory = packed.rindex(b"PK\x01\x02")
    struct.pack_into("<II", packed, directory + 20, 1 << 30, 1 << 30)
    return bytes(packed)


@entry
def overlapping_records(_: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", b"\x80\x02}.")
        packed.writestr("archive/data/0", bytes(100_000))
        first = packed.infolist()[1]
        for number in range(1, 100):
            twin = zipfile.ZipInfo(f"archive/data/{number}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, name, getattr(first, name))
            packed.filelist.append(twin)
    return file.getvalue()


@entry
def a_hundred_thousand_records(_: Path) -> bytes:
    return archive(b"\x80\x02}.", {f"data/{number}": b"" for number in range(100_000)})


@entry
def directory_of_a_gigabyte_declared(_: Path) -> bytes:
    packed = bytearray(archive(b"\x80\x02}."))
    struct.pack_into("<II", packed, len(packed) - 10, 1 << 30, 0)
    return bytes(packed)


@entry
def encrypted_record(_: Path) -> bytes:
    packed = bytearray(archive(b"\x80\x02}."))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + offset] |= 1
    return bytes(packed)


@entry
def torchscript(_: Path) -> bytes:
    return archive(b"\x80\x02}.", {"code/__torch__.py": b"def f(): pass", "constants.pkl": b"."})


@entry
def torch_export(_: Path) -> bytes:
    return archive(b"\x80\x02}.", {"archive_format": b"pt2", "models/model.json": b"{}"})


@entry
def plain_zip(_: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("../../etc/passwd", b"root")
    return file.getvalue()


@entry
def empty_zip(_: Path) -> bytes:
    return b"PK\x05\x06" + bytes(18)


@entry
def safetensors(_: Path) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


@entry
def numpy_file(_: Path) -> bytes:
    return b"\x93NUMPY\x01\x00" + bytes(100)


@entry
def keras_file(_: Path) -> bytes:
    return b"\x89HDF\r\n\x1a\n" + bytes(100)


@entry
def onnx_file(_: Path) -> bytes:
    return b"\x08\x09\x12\x07pytorch" + bytes(100)


@entry
def gzip_file(_: Path) -> bytes:
    return b"\x1f\x8b\x08" + zlib.compress(bytes(100))


@entry
def jpeg_file(_: Path) -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100)


@entry
def png_file(_: Path) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(100)


@entry
def html_login_page(_: Path) -> bytes:
    return b"\n<!DOCTYPE html>\n<html><body>Please log in</body></html>"


@entry
def git_lfs_pointer(_: Path) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@entry
def empty(_: Path) -> bytes:
    return b""


@entry
def one_byte(_: Path) -> bytes:
    return b"P"


@entry
def zeros(_: Path) -> bytes:
    return bytes(10_000)


@entry
def text(_: Path) -> bytes:
    return b"epochs: 3\nlr: 0.1\n"


@entry
def ansi_escapes(_: Path) -> bytes:
    return archive(b"\x80\x02c\x1b]0;owned\x07\nx\n).")
