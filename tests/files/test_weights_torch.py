"""Files of `torch.save` with what training programs put beside weights."""

import argparse
import sys
import types
import uuid
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.faults import corpus
from vtrain.errors import CheckpointError
from vtrain.files.weights import read_weights

SHARED = torch.arange(10.0)
TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "turned": torch.arange(6.0).view(2, 3).T,
    "part": SHARED[2:5],
    "other part": SHARED[4:],
    "number": torch.tensor(3.5),
    "empty": torch.empty(0, 4),
    "half": torch.ones(3, dtype=torch.float16),
    "bfloat": torch.ones(3, dtype=torch.bfloat16),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
    "uint16": torch.ones(3, dtype=torch.uint16),
    "index": torch.arange(3),
    "yes": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


def foreign(module: str, name: str, base: type = object) -> Any:
    """Make a class of a program that is not installed."""
    made = type(name, (base,), {"__module__": module})
    made.__qualname__ = name

    def mean() -> None: ...

    mean.__module__, mean.__qualname__ = module, f"{name}.mean"
    made.mean = staticmethod(mean)
    return made


CLASSES = {
    "yacs": foreign("yacs.config", "CfgNode", dict),
    "mmengine": foreign("mmengine.logging.history_buffer", "HistoryBuffer"),
    "mmengine config": foreign("mmengine.config.config", "ConfigDict", dict),
    "lightning": foreign("lightning.fabric.utilities.data", "AttributeDict", dict),
    "pytorch_lightning": foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    "omegaconf": foreign("omegaconf.dictconfig", "DictConfig"),
}


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `pickle` find the classes while they are saved; they are gone when the file is read."""
    for made in CLASSES.values():
        parts = made.__module__.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if name not in sys.modules:
                monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[made.__module__], made.__name__, made)


def with_state(made: Any, **state: Any) -> Any:
    bag = made()
    bag.__dict__.update(state)
    return bag


BESIDE: dict[str, Any] = {
    "Namespace": argparse.Namespace(model="vit", lr=0.1, mean=None, inner=argparse.Namespace(a=1)),
    "SimpleNamespace": types.SimpleNamespace(a=[1]),
    "CfgNode": CLASSES["yacs"]({"MODEL": CLASSES["yacs"](DEPTH=2)}),
    "ConfigDict": CLASSES["mmengine config"](a=1),
    "AttributeDict": CLASSES["lightning"](lr=0.1),
    "DictConfig": with_state(CLASSES["omegaconf"], content={"a": 1}),
    "HistoryBuffer": with_state(CLASSES["mmengine"], history=np.arange(9.0), kind=np.float32(2)),
    "method of a class": with_state(
        CLASSES["mmengine"], methods={"mean": CLASSES["mmengine"].mean}
    ),
    "class as a key": {CLASSES["pytorch_lightning"]: {"best": 1}},
    "numpy": [np.float64(3), np.int64(2), np.arange(3), np.array(["a"])],
    "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 1)}]},
    "set": {1, "a"},
    "frozenset": frozenset({1}),
    "Size": torch.Size([1, 2]),
    "device": torch.device("cuda:0"),
    "dtype": torch.float16,
    "bytes": b"abc",
    "bytearray": bytearray(b"abc"),
    "complex": 1 + 2j,
    "Counter": Counter("abca"),
    "deque": deque([1]),
    "defaultdict": defaultdict(list, {"a": [1]}),
    "path": Path("a/b"),
    "keys": {(1, 2): 3, 1.5: 2, None: 1, True: 0, "text": 4},
    "expanded": torch.zeros(1).expand(1 << 20, 1 << 10),
    "large number": 10**30,
    "loss": torch.nn.CrossEntropyLoss(),
    "version": torch.__version__,
    "generator": np.random.default_rng(0),
    "older generator": np.random.RandomState(0),
    "identifier": uuid.UUID(int=1),
    "decimal": [Decimal("0.1"), Fraction(1, 3)],
}


def saved(content: Any, path: Path, **options: Any) -> Path:
    path.write_bytes(corpus.saved(content, **options))
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", BESIDE)
def test_weights_are_read_whatever_plain_things_are_beside_them(
    tmp_path: Path, beside: str, zipped: bool
) -> None:
    content = {"args": BESIDE[beside], "state_dict": OrderedDict(TENSORS), "epoch": 3}
    path = saved(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_tensors(read_weights(path).tensors)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_torch_writes_is_read(tmp_path: Path, protocol: int) -> None:
    content = {"args": list(BESIDE.values()), "model": TENSORS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(content, tmp_path / "w", pickle_protocol=protocol)
    assert_tensors(read_weights(path).tensors)


def assert_tensors(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].float(), tensor.float()), name


def test_a_model_that_was_saved_whole_is_named_and_no_attack(tmp_path: Path) -> None:
    path = saved({"model": torch.nn.Linear(2, 2)}, tmp_path / "yolo.pt")
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "torch.nn.modules.linear.Linear" in str(caught.value)
    assert "torch.save(model.state_dict(), 'weights.pt')" in str(caught.value)
    assert "trust" not in str(caught.value)


def test_the_names_of_classes_are_those_that_are_text(tmp_path: Path) -> None:
    for classes, known in ((["cat", "dog"], ("cat", "dog")), ([["cat"]], ()), ("cat", ())):
        path = saved({"model": TENSORS, "classes": classes}, tmp_path / "w")
        assert read_weights(path).classes == known


def test_tied_weights_are_read(tmp_path: Path) -> None:
    one = torch.ones(1000)
    path = saved({"a": one, "b": one}, tmp_path / "w")
    assert read_weights(path).tensors.keys() == {"a", "b"}
