"""Hostile programs in files of weights: none is run, none takes much time or memory."""

import io
import itertools
import pickle
import struct
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from tests.faults import corpus
from tests.faults.test_hostile_checkpoints import peak_memory
from vtrain.errors import CheckpointError
from vtrain.files.weights import read_weights
from vtrain.files.weights_program import MOST_OPCODES
from vtrain.files.weights_torch import LEGACY

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.float16)}


def saved(content: object, path: Path, **options: object) -> Path:
    path.write_bytes(corpus.saved(content, **options))
    return path


READABLE = {"weights_only", "safetensors"}


@pytest.mark.parametrize("name", sorted(corpus.CORPUS.keys() - READABLE))
def test_a_hostile_file_is_one_line_and_runs_nothing(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "hostile.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path.write_bytes(corpus.CORPUS[name](canary))
    assert_refused(path, canary)


def assert_refused(path: Path, canary: Path) -> None:
    modules, memory, size = set(sys.modules), peak_memory(), path.stat().st_size
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    (line,) = caught.value.lines()
    assert line.isprintable()
    assert not canary.exists()
    assert "antigravity" not in set(sys.modules) - modules
    assert peak_memory() - memory < 2 * size + (300 << 20)
    assert time.process_time() - start < 60


def legacy(program: bytes, storages: bytes = b"]", after: bytes = b"") -> bytes:
    """Wrap a program in torch's older format."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = (LEGACY, pickle.dumps(1001, 2), pickle.dumps(system, 2), program)
    return b"".join(parts) + b"\x80\x02" + storages + b"." + after


@pytest.mark.parametrize("name", corpus.CALLS)
def test_no_call_is_made_in_the_older_format(name: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "hostile.pt"
    path.write_bytes(legacy(corpus.program(corpus.CALLS[name](str(canary)))))
    assert_refused(path, canary)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def weights(value: bytes) -> bytes:
    """A program of `{"model": {"w": value}}`."""
    return b"\x80\x02}" + text("model") + b"}" + text("w") + value + b"ss."


def tensor(key: str = "0", count: int = 4, kind: str = "FloatStorage", more: bytes = b"") -> bytes:
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    storage += corpus.integer(count) + more + b"tQ"
    shape = corpus.integer(4) + b"\x85" + b"K\x01\x85"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + b"\x89}tR"


DOUBLING = b"]q\0" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(100))
STRUCTURES = {
    "nested lists": weights(b"]" * 300_000 + b"a" * 299_999),
    "nested tuples": weights(b")" + b"\x85" * 300_000),
    "nested mappings": weights((b"}" + text("w")) * 50_000 + b"N" + b"s" * 50_000),
    "nested bags": weights(b"cargparse\nNamespace\n)\x81" * 1 + b"}b" * 300_000),
    "a list in itself": weights(b"]q\0h\0a"),
    "a mapping in itself": b"\x80\x02}q\0" + text("model") + b"h\0s.",
    "a mapping in itself as weights": b"\x80\x02}q\0" + text("model") + b"h\0s"
    + text("state_dict") + b"h\0s.",
    "lists that double": weights(DOUBLING),
    "tuples that double as a key": b"\x80\x02})q\0" + b"h\0h\0\x86q\0" * 200 + b"Ns.",
    "classes that double": b"\x80\x02}" + text("classes") + DOUBLING + b"s.",
    "more opcodes than any": weights(b"]" + b"Na" * (MOST_OPCODES // 2)),
    "marks": b"\x80\x02" + b"(" * (MOST_OPCODES + 1) + b".",
    "empty lists": b"\x80\x02(" + b"]" * (MOST_OPCODES + 1) + b"t.",
    "numbers that collide": b"\x80\x02}(" + b"".join(
        b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N"
        for n in range(100_000)
    ) + b"u.",
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\xff.",
    "a text of eight bytes of length": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "a number of gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "no end": b"\x80\x02}" + text("model"),
    "nothing on the stack": b"\x80\x02.",
    "two objects": b"\x80\x02}}.",
    "an opcode on an empty stack": b"\x80\x02s.",
    "a memory that was not put": b"\x80\x02h\x07.",
    "a mark as an item": b"\x80\x02](a.",
    "a call of a list": weights(b"])R"),
    "a call with no tuple": weights(b"ccollections\nOrderedDict\n]R"),
    "an object of a text": weights(text("x") + b")\x81"),
    "items of a text": weights(text("x") + text("a") + b"Ns"),
    "a name of numbers": b"\x80\x04K\x01K\x02\x93.",
    "a name of a thousand letters": b"\x80\x02c" + b"a" * 5000 + b"\nb\n.",
    "a tensor of a list": weights(b"ctorch._utils\n_rebuild_tensor_v2\n(]K\0))\x89}tR"),
    "a tensor of too little": weights(b"ctorch._utils\n_rebuild_tensor_v2\n)R"),
    "a parameter of nothing": weights(b"ctorch._utils\n_rebuild_parameter\n)R"),
    "a storage of no kind": weights(tensor(kind="Strange")),
    "a storage of unknown numbers": weights(tensor(kind="StrangeStorage")),
    "a storage that is nowhere": weights(tensor(key="7")),
    "a storage that is larger": weights(tensor(count=1 << 40)),
    "a storage of less than nothing": weights(tensor(count=-4)),
    "a view of a storage": weights(tensor(more=text("view") + b"K\0K\1\x87")),
    "one storage of two kinds": weights(b"(" + tensor() + tensor(kind="LongStorage") + b"t"),
    "no text for a storage": weights(b"K\1Q"),
    "a module with its source": weights(b"(" + text("module") + b"NNNtQ"),
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer outside": b"\x80\x05\x97.",
    "an instance": weights(b"(ios\nsystem\n"),
    "the oldest protocol": b"(dp0\nVmodel\np1\nI1\ns.",
}  # fmt: skip


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_program_that_means_harm_is_refused(name: str, older: bool, tmp_path: Path) -> None:
    path, program = tmp_path / "w.pt", STRUCTURES[name]
    path.write_bytes(
        legacy(program, b"](" + text("0") + b"e", struct.pack("<q", 4) + bytes(16))
        if older
        else corpus.archive(program, {"data/0": bytes(16)})
    )
    assert_refused(path, tmp_path / "canary")


def test_the_wrappings_of_hostile_programs_are_right(tmp_path: Path) -> None:
    program = weights(tensor(more=b"N"))
    (tmp_path / "zip").write_bytes(corpus.archive(program, {"data/0": bytes(16)}))
    older = legacy(program, b"](" + text("0") + b"e", struct.pack("<q", 4) + bytes(16))
    (tmp_path / "older").write_bytes(older)
    for name in ("zip", "older"):
        assert torch.equal(read_weights(tmp_path / name).tensors["w"], torch.zeros(4))
    assert torch.equal(
        torch.load(io.BytesIO(older), weights_only=True)["model"]["w"], torch.zeros(4)
    )


@pytest.mark.parametrize(
    ("storages", "after"),
    [
        (b"N", b""),
        (b"](K\1e", b""),
        (b"](" + text("0") + b"e", struct.pack("<q", 4) + bytes(15)),
        (b"](" + text("0") + b"e", struct.pack("<q", -1) + bytes(16)),
        (b"](" + text("0") + b"e", struct.pack("<q", 2**62) + bytes(16)),
        (b"](" + text("1") + b"e", struct.pack("<q", 4) + bytes(16)),
        (b"](" + text("0") + b"e", b"\x04"),
        (b"]", b""),
    ],
)
def test_older_files_whose_storages_are_not_there_are_refused(
    tmp_path: Path, storages: bytes, after: bytes
) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(legacy(weights(tensor()), storages, after))
    assert_refused(path, tmp_path / "canary")


def test_an_older_file_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = saved({"model": TENSORS}, tmp_path / "w", _use_new_zipfile_serialization=False)
    content = whole.read_bytes()
    for length in itertools.chain(range(len(LEGACY), len(content) - 1, 97), [len(content) - 1]):
        whole.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_weights(whole)


def test_names_that_share_their_numbers_many_times_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(100_000)
    path = saved({str(number): one for number in range(50)}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_weights(path)
