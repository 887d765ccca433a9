"""Exported files as models, and files that are not to be used."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.export.cases import CLASSES, GEOMETRY, evidence, loaded, written
from vtrain.errors import CheckpointError, ConfigError
from vtrain.export.onnx_file import quantised
from vtrain.inference.onnx_loaded import load_onnx_model
from vtrain.inference.onnx_model import from_bytes, is_onnx, load_onnx, threads
from vtrain.resources import cpu_count

WHERE = Path("x.onnx")
FACTS = {
    "classes": json.dumps(["a", "b"]),
    "preprocess": json.dumps({**GEOMETRY.to_dict(), "image_size": 4}),
    "input": "pixels",
}


def small(facts: dict[str, str], shape: tuple[object, ...] = ("n", 3, 4, 4)) -> bytes:
    """Return a file that sums up some pixels, made by onnx alone."""
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    weights = np.ones((48, 2), np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("n", 2))],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, facts)
    return bytes(model.SerializeToString())


def test_a_file_is_asked_for_bytes() -> None:
    model = from_bytes(small(FACTS), WHERE)
    assert model.classes == ("a", "b")
    images = np.full((3, 3, 4, 4), 255, np.uint8)
    assert model.logits(images).tolist() == [[255.0 * 48] * 2] * 3


def test_many_images_get_their_own_answers_in_their_order() -> None:
    images = np.arange(40 * 48, dtype=np.uint8).reshape(40, 3, 4, 4)
    many = from_bytes(small(FACTS), WHERE, for_many=True)
    sums = images.reshape(40, -1).astype(np.float32).sum(1)
    assert many.logits(images).tolist() == [[total, total] for total in sums]
    assert many.logits(images[:1]).shape == (1, 2)


def test_of_many_images_a_rounded_file_says_the_same_whatever_is_beside_them() -> None:
    """Activations in int8 share a scale with all that is asked together."""
    content = quantised(written("pixels"), WHERE)
    images = evidence(loaded()).images.copy()
    images[0] //= 16  # a dark image beside brighter ones
    alone = from_bytes(content, WHERE).logits(images[:1])
    together = from_bytes(content, WHERE).logits(images)[:1]
    many = from_bytes(content, WHERE, for_many=True).logits(images)[:1]
    assert many.tolist() == alone.tolist() != together.tolist()


@pytest.mark.parametrize("taking", ["pixels", "normalised"])
def test_as_a_model_it_gives_the_logits_of_its_checkpoint(tmp_path: Path, taking: str) -> None:
    source = loaded()
    raw = onnx.load_from_string(written(taking))
    facts = {p.key: p.value for p in raw.metadata_props}
    described = {"name": "vit_ti", "arguments": {}, "image_size": 32, "in_channels": 3}
    helper.set_model_props(raw, {**facts, "model": json.dumps(described), "config": "seed: 0\n"})
    path = tmp_path / "model.onnx"
    onnx.save(raw, path)
    model, asked = load_onnx_model(path), evidence(source)
    images = torch.from_numpy(asked.images)
    found = model.model(model.geometry.normalise(images)).numpy()
    assert np.abs(found - asked.logits).max() < 1e-4 * np.abs(asked.logits).max()
    assert model.classes == CLASSES
    assert model.checkpoint.config == "seed: 0\n"
    assert np.array_equal(model.preprocess(_picture(tmp_path)).shape, (1, 3, 32, 32))


def _picture(folder: Path) -> Path:
    from PIL import Image

    path = folder / "p.png"
    Image.new("RGB", (40, 30), (9, 8, 7)).save(path)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a readable ONNX file"),
        (b"\x08\x0a\x12", "not a readable ONNX file"),
        (b"no model at all", "not a readable ONNX file"),
        (small({}), "it does not state its classes"),
        (small({**FACTS, "classes": "["}), "its metadata are wrong"),
        (small({**FACTS, "classes": '["a", 2]'}), "its metadata are wrong"),
        (small({**FACTS, "preprocess": "{}"}), "its metadata are wrong"),
        (small({**FACTS, "input": "bytes"}), "it states an input of 'bytes'"),
        (small({**FACTS, "classes": '["a"]'}), "its inputs and outputs have shapes"),
        (small(FACTS, ("n", 1, 12, 4)), "its inputs and outputs have shapes"),
        (small({**FACTS, "x": "Q" * 9}).replace(b"Q" * 9, b"\xff" * 9), "not a readable ONNX file"),
        (small(FACTS).replace(b"logits", b"\xff" * 6), "not a readable ONNX file"),
        (small(FACTS).replace(b"logits", b"answer"), "its inputs and outputs have shapes"),
        (
            small({**FACTS, "preprocess": json.dumps({**GEOMETRY.to_dict(), "std": [0, 1, 1]})}),
            "its metadata are wrong",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_onnx(path)
    assert caught.value.what.startswith(says)
    assert len(caught.value.lines()) == 1
    assert caught.value.where == path
    assert "".join(capfd.readouterr()) == ""  # onnxruntime prints by itself if it is let


def test_damaged_files_end_in_an_error_or_in_an_answer() -> None:
    content, draw = small(FACTS), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            from_bytes(bytes(damaged), WHERE).logits(np.zeros((2, 3, 4, 4), np.uint8))
        except CheckpointError:
            refused += 1
    assert 50 < refused < 300


def test_a_file_beside_it_is_never_read(tmp_path: Path) -> None:
    model = onnx.load_from_string(small(FACTS))
    onnx.save(
        model, tmp_path / "m.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    with pytest.raises(CheckpointError):
        load_onnx(tmp_path / "m.onnx")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("fifo.onnx", "folder.onnx", "absent.onnx"):
        with pytest.raises(CheckpointError):
            load_onnx(tmp_path / name)


def test_without_onnxruntime_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError) as caught:
        from_bytes(small(FACTS), WHERE)
    assert caught.value.hint == 'pip install "vtrain[export]"'


def test_a_name_says_what_is_a_file_for_onnxruntime() -> None:
    assert is_onnx(Path("a/m.onnx"))
    assert is_onnx(Path("M.ONNX"))
    assert not is_onnx(Path("runs/x.onnx/best.pt"))
    assert not is_onnx(None)


@pytest.mark.parametrize(
    ("set_to", "used"), [("3", 3), ("4,2", 4), (" 2 ", 2), ("", None), ("0", None), ("all", None)]
)
def test_threads_are_as_openmp_reads_its_variable(
    monkeypatch: pytest.MonkeyPatch, set_to: str, used: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", set_to)
    assert threads() == (used or cpu_count())


def test_nothing_is_told_to_the_makers_of_onnxruntime(tmp_path: Path) -> None:
    """It writes an identifier for its messages when it is imported, unless it was told not to."""
    code = (
        "from vtrain.inference.onnx_model import from_bytes\n"
        "try: from_bytes(b'x', __import__('pathlib').Path('x.onnx'))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "import sys; print('onnxruntime' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == "CheckpointError\nTrue\n", done.stderr
    assert list(tmp_path.iterdir()) == []
