"""ONNX files: equal to their model, and refused with any planted fault."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.export.cases import CLASSES, GEOMETRY, evidence, loaded, native, written
from tests.models.agreement import same_as
from tests.models.test_contract import ONE_OF_EACH
from vtrain.errors import CheckpointError
from vtrain.export import onnx_file
from vtrain.export.graph import described
from vtrain.export.onnx_file import halved, quantised, write_onnx
from vtrain.inference.onnx_model import from_bytes, load_onnx
from vtrain.registry import MODELS
from vtrain.run.calibrate import divided

EXACT = {"opset": 20, "taking": "pixels", "rounding": None}


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export the small model once for all tests."""
    monkeypatch.setattr(
        onnx_file, "onnx_bytes", lambda module, images, opset, facts: written(facts["input"])
    )


@pytest.mark.parametrize("taking", ["pixels", "normalised"])
@pytest.mark.usefixtures("once")
def test_a_file_is_whole_and_states_what_is_needed(tmp_path: Path, taking: str) -> None:
    model, path = loaded(), tmp_path / "model.onnx"
    proof = write_onnx(model, path, evidence(model), {}, **{**EXACT, "taking": taking})
    assert proof.difference < 1e-5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "predict.py"]
    raw = onnx.load(path)
    assert [(s.domain, s.version) for s in raw.opset_import if s.domain == ""] == [("", 20)]
    assert not any(tensor.external_data for tensor in raw.graph.initializer)
    # By hand: what a user of onnxruntime alone would do.
    file = load_onnx(path)
    assert (file.classes, file.geometry) == (CLASSES, GEOMETRY)
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (GEOMETRY.mean, GEOMETRY.std))
    normalised = (pixels.float() / 255 - mean) / std
    (given,) = file.session.run(
        None, {"images": (pixels.float() if taking == "pixels" else normalised).numpy()}
    )
    with torch.no_grad():
        expected = model.model(normalised)
    torch.testing.assert_close(torch.from_numpy(given), expected, rtol=1e-4, atol=1e-5)


@cache  # the exporter takes seconds
def exported(name: str, opset: int) -> bytes:
    model = loaded(name)
    module = onnx_file.exportable(model, "pixels")
    facts = described(model, "pixels")
    return onnx_file.onnx_bytes(module, onnx_file.example(model), opset, facts)


def check(name: str, batches: tuple[int, ...], opset: int = 20) -> None:
    model = loaded(name)
    file = from_bytes(exported(same_as(name), opset), Path("x.onnx"))
    asked = evidence(model, max(batches))
    for count in batches:
        found = file.logits(asked.images[:count])
        scale = np.abs(asked.logits).max()
        assert np.abs(found - asked.logits[:count]).max() < 1e-4 * scale


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_agrees_with_its_file_at_any_batch(name: str) -> None:
    check(name, (1, 2, 5, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("vit_ti", {}),
        # A block and one that is shifted, where there are such: the others repeat them.
        ("deit_ti_distilled", {"depth": 2}),
        ("tnt_ti", {"depth": 2}),
        ("swin_t", {"depths": (2, 2, 2, 2)}),
        ("swinv2_t", {"depths": (2, 2, 2, 2)}),
    ],
)
def test_a_model_of_the_native_size_agrees_too(name: str, depth: dict[str, object]) -> None:
    check_native(name, (1, 5), **depth)


@pytest.mark.study
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_of_its_native_size_agrees_at_any_batch(name: str) -> None:
    check_native(name, (1, 2, 5, 32))


def check_native(name: str, batches: tuple[int, ...], **arguments: object) -> None:
    source, asked = native(name, max(batches), **arguments)
    module = onnx_file.exportable(source, "pixels")
    facts = described(source, "pixels")
    if sum(tensor.nbytes for tensor in module.state_dict().values()) > 0.9 * onnx_file.LARGEST_FILE:
        with pytest.raises(CheckpointError, match="too large for one ONNX file"):
            onnx_file.onnx_bytes(module, onnx_file.example(source), 20, facts)
        return
    content = onnx_file.onnx_bytes(module, onnx_file.example(source), 20, facts)
    file = from_bytes(content, Path("x.onnx"))
    for count in batches:
        found = file.logits(asked.images[:count])
        scale = np.abs(asked.logits).max()
        assert np.abs(found - asked.logits[:count]).max() < 1e-4 * scale


def test_a_model_that_is_too_large_for_one_file_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 1000)
    model = loaded()
    with pytest.raises(CheckpointError, match="too large for one ONNX file") as caught:
        onnx_file.onnx_bytes(model.model, onnx_file.example(model), 20, {})
    assert caught.value.hint == "use --format program"


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH.values())
@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets_agree_too(name: str, opset: int) -> None:
    check(name, (1, 5), opset)


def with_another_mean(model: onnx.ModelProto) -> None:
    (scale,) = (t for t in model.graph.initializer if t.name == "shift")
    values = onnx.numpy_helper.to_array(scale) + np.float32(0.05)
    scale.CopyFrom(onnx.numpy_helper.from_array(values, scale.name))


def with_swapped_classes(model: onnx.ModelProto) -> None:
    (head,) = (t for t in model.graph.initializer if t.name.endswith("head.weight"))
    rows = onnx.numpy_helper.to_array(head)[[1, 0, *range(2, 10)]]
    head.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(rows), head.name))


def with_swapped_names(model: onnx.ModelProto) -> None:
    (entry,) = (p for p in model.metadata_props if p.key == "classes")
    entry.value = json.dumps([CLASSES[1], CLASSES[0], *CLASSES[2:]])


def with_another_stated_mean(model: onnx.ModelProto) -> None:
    (entry,) = (p for p in model.metadata_props if p.key == "preprocess")
    entry.value = json.dumps({**json.loads(entry.value), "mean": [0.5, 0.5, 0.5]})


def with_another_crop(model: onnx.ModelProto) -> None:
    (entry,) = (p for p in model.metadata_props if p.key == "preprocess")
    entry.value = json.dumps({**json.loads(entry.value), "crop_fraction": 1.0})


def with_a_frozen_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


FAULTS = [
    with_another_mean,
    with_swapped_classes,
    with_swapped_names,
    with_another_stated_mean,
    with_another_crop,
    with_a_frozen_batch,
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rounding", [None, "half", "int8"])
def test_a_file_with_a_fault_is_refused_and_not_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[onnx.ModelProto], None],
    rounding: str | None,
) -> None:
    broken = onnx.load_from_string(written("pixels"))
    fault(broken)
    monkeypatch.setattr(onnx_file, "onnx_bytes", lambda *_: broken.SerializeToString())
    model, path = loaded(), tmp_path / "model.onnx"
    path.write_bytes(b"what was there")
    with pytest.raises(CheckpointError) as caught:
        write_onnx(model, path, evidence(model), {}, **{**EXACT, "rounding": rounding})
    assert caught.value.hint == "nothing was written"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert path.read_bytes() == b"what was there"


@pytest.mark.usefixtures("once")
def test_rounded_files_are_smaller_and_nearly_the_model(tmp_path: Path) -> None:
    model = loaded()
    asked, size, error = evidence(model), {}, {}
    for rounding in (None, "half", "int8"):
        path = tmp_path / f"{rounding}.onnx"
        proof = write_onnx(model, path, asked, {}, **{**EXACT, "rounding": rounding})
        size[rounding], error[rounding] = path.stat().st_size, proof.difference
    assert size["int8"] < size["half"] < size[None]
    assert error[None] < error["half"] < error["int8"]


def test_no_processor_overflows_by_weights_of_int8(tmp_path: Path) -> None:
    """Without VNNI two products of an activation, up to 255, and a weight are added in 16 bits."""
    file = onnx.load_from_string(quantised(written("pixels"), tmp_path / "model.onnx"))
    integers = [
        onnx.numpy_helper.to_array(tensor).astype(np.int64)
        for tensor in file.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert len(integers) > 4
    largest = max(np.abs(weights).max() for weights in integers)
    assert largest >= 60
    assert 2 * 255 * largest < 2**15


def test_pixels_cost_half_a_file_no_more_than_normalised_images_do() -> None:
    model = loaded()
    asked, error = evidence(model, 40), {}
    for taking in ("pixels", "normalised"):
        half = from_bytes(halved(written(taking)), Path("half.onnx"))
        error[taking] = np.abs(half.logits(asked.images) - asked.logits).max()
    assert 0 < error["pixels"] < 2 * error["normalised"]


@pytest.mark.slow
@pytest.mark.usefixtures("once")
def test_calibrated_weights_need_no_word_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temperature is in the heads of a calibrated checkpoint, and so in the file."""
    model = loaded()
    checkpoint = divided(model, 2.0)
    model.model.load_state_dict(checkpoint.weights)
    asked = evidence(model)
    with pytest.raises(CheckpointError, match="not the model"):  # the file without it
        write_onnx(model, tmp_path / "m.onnx", asked, {}, **EXACT)
    monkeypatch.undo()
    write_onnx(model, tmp_path / "m.onnx", asked, {}, **EXACT)
