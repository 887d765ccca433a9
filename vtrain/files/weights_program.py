"""Read a pickle program for its tensors and plain data; nothing that it names is ever called.

`pickletools` only splits a program into opcodes. What they say is done here, on plain Python data:
a tensor becomes a description of where its numbers are, and an object of another program an empty
`Bag`, whatever was in it. No class is imported, no function is called, no state is set.

Each opcode makes one object at most, and opcodes and bytes are bounded, so that memory is. Nothing
recurses. Keys that are no text are left out: text alone cannot be made to collide.

Importing this imports no torch.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, cast

from vtrain.files.archive import File, corrupt
from vtrain.files.weights_names import DICTS, PARAMETER, STORAGES, TENSOR, is_known, refused

LARGEST_PROGRAM = 32 << 20
"""Bytes: mmengine keeps every value that it has logged in it."""
MOST_OPCODES = 1_000_000


@dataclass(frozen=True, slots=True)
class Name:
    """What a program names and could call: module, blank, name."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """The numbers behind tensors: which record or part of the file, and how many of which kind."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that has not been read; nothing of it has been checked."""

    storage: Storage
    offset: Any
    size: Any
    stride: Any
    dtype: str | None = None


class Bag:
    """An object of another program, of which nothing is kept."""

    __slots__ = ()


MARK: Final = object()
BAG: Final = Bag()


class _Bounded:
    """A file of which no read takes more than is left, as `pickletools` reads what it is told."""

    def __init__(self, file: File | BytesIO, left: int) -> None:
        self.file, self.left = file, left
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("its program is too long, or ends early")
        self.left -= count
        return self.file.read(count)

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, 1000))
        self.left -= len(line)
        return line


def run_program(file: File | BytesIO, path: Path) -> tuple[Any, dict[str, Storage]]:
    """Return what the program at the position of `file` describes, and all storages by their keys.

    It stops behind the program.

    Raises:
        CheckpointError: It is damaged, or names what no file of weights needs.
    """
    machine = _Machine(path)
    try:
        # The count is in the loop: a program is read as far as it is followed.
        bounded = cast(IO[bytes], _Bounded(file, LARGEST_PROGRAM))
        for number, (opcode, argument, _) in enumerate(pickletools.genops(bounded)):
            if number == MOST_OPCODES:
                raise ValueError(f"it has more than {MOST_OPCODES:,} opcodes")
            machine.do(opcode.name, argument)
        return machine.result(), machine.storages
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError) as error:
        raise corrupt(path, f"its program cannot be followed ({error!s:.50})") from None
    except MemoryError:
        raise corrupt(path, "its program takes too much memory") from None


class _Machine:
    """The stack on which a program works, its memory, and the storages that it has named."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise ValueError("it leaves more than one object")
        return self.stack[0]

    def do(self, name: str, argument: Any) -> None:
        """Follow one opcode."""
        if name in LITERALS:
            self.stack.append(CONSTANTS.get(name, argument))
        elif name in MADE:
            self.stack.append(MADE[name]())
        elif name in STEPS:
            STEPS[name](self, argument)
        elif name not in {"PROTO", "FRAME", "STOP"}:
            raise refused(f"opcode {name}", self.path)

    def popped(self, count: int) -> tuple[Any, ...]:
        """Take the last objects off the stack; a mark is none."""
        items = tuple(self.stack[-count:])
        if len(items) != count or any(item is MARK for item in items):
            raise ValueError("an opcode finds too little on the stack")
        del self.stack[-count:]
        return items

    def marked(self) -> tuple[Any, ...]:
        """Take all objects behind the last mark off the stack, and the mark."""
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return tuple(reversed(items))

    def tuple_of(self, count: int) -> None:
        self.stack.append(self.popped(count))

    def tuple_of_marked(self, _: Any) -> None:
        self.stack.append(self.marked())

    def bag_of_marked(self, _: Any) -> None:
        self.marked()
        self.stack.append(BAG)

    def append(self, items: tuple[Any, ...]) -> None:
        (target,) = self.stack[-1:]
        if isinstance(target, list):
            target.extend(items)
        elif target is not BAG:
            raise ValueError("it appends to what is no list")

    def set_items(self, items: tuple[Any, ...]) -> None:
        (target,) = self.stack[-1:]
        if isinstance(target, dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if type(key) is str)
        elif target is not BAG:
            raise ValueError("it sets items of what is no mapping")

    def put(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def get(self, number: int) -> None:
        self.stack.append(self.memo[number])

    def name(self, text: str) -> None:
        """Put a name on the stack that a file of weights may have."""
        if not is_known(text):
            raise refused(text, self.path)
        self.stack.append(Name(text))

    def stack_name(self, _: Any) -> None:
        module, name = self.popped(2)
        self.name(f"{module!s:.200} {name!s:.200}" if type(module) is type(name) is str else "? ?")

    def call(self, _: Any) -> None:
        """Describe what a call would return."""
        function, arguments = self.popped(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        if function.text.endswith(" getattr") and not is_logger(arguments[0]):
            raise refused(function.text, self.path)
        if function.text in DICTS:
            self.stack.append({})
        elif TENSOR.fullmatch(function.text):
            self.stack.append(_stored(arguments))
        elif PARAMETER.fullmatch(function.text):
            self.stack.append(arguments[0])
        else:
            self.stack.append(BAG)

    def new(self, count: int) -> None:
        """Describe a new object of a class."""
        kind, *_ = self.popped(count)
        if not isinstance(kind, Name):
            raise ValueError("it makes an object of what is no class")
        self.stack.append({} if kind.text in DICTS else BAG)

    def persistent(self, _: Any) -> None:
        """Describe the storage that a persistent id stands for, as `torch.save` writes it."""
        (given,) = self.popped(1)
        word, kind, *rest = given
        if not isinstance(kind, Name) or word not in {"storage", "module"}:
            raise ValueError("a persistent id that is no storage")
        if word == "module":  # a class, with the text of its source, in the older format
            self.stack.append(kind)
            return
        key, _place, count, *view = rest
        if any(part is not None for part in view):
            raise ValueError("a view of a storage, as only the first versions of torch wrote")
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage without a key or a size")
        if not STORAGES.fullmatch(kind.text):
            raise ValueError("a storage of no kind")
        storage = Storage(key, kind.text, count)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError("a storage that is described in two ways")
        self.stack.append(storage)


def is_logger(value: Any) -> bool:
    """Whether it is mmengine's class of logged values, which keeps its own methods."""
    return isinstance(value, Name) and value.text == "mmengine.logging.history_buffer HistoryBuffer"


def _stored(arguments: tuple[Any, ...]) -> Stored:
    storage, offset, size, stride, *more = arguments
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    # The third version names the kind of numbers, behind `requires_grad` and hooks.
    dtype = more[2].text if len(more) > 2 and isinstance(more[2], Name) else None
    return Stored(storage, offset, size, stride, dtype)


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK}
LITERALS = {
    *CONSTANTS,
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING"),
}
MADE: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": lambda: BAG,
}
STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": _Machine.bag_of_marked,
    "APPEND": lambda machine, _: machine.append(machine.popped(1)),
    "APPENDS": lambda machine, _: machine.append(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.append(machine.marked()),
    "SETITEM": lambda machine, _: machine.set_items(machine.popped(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "POP": lambda machine, _: machine.popped(1),
    "POP_MARK": lambda machine, _: machine.marked(),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "NEWOBJ": lambda machine, _: machine.new(2),
    "NEWOBJ_EX": lambda machine, _: machine.new(3),
    "BUILD": lambda machine, _: machine.popped(1),  # the state of a bag, or notes of a state dict
    "BINPERSID": _Machine.persistent,
}
