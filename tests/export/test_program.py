"""Programs of torch.export: equal to their model at any batch, and refused with a fault."""

import io
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.export.cases import CLASSES, evidence, loaded, native
from tests.models.agreement import same_as
from vtrain.errors import CheckpointError
from vtrain.export import program
from vtrain.export.graph import example, exportable
from vtrain.export.program import program_bytes, write_program
from vtrain.export.proof import Evidence
from vtrain.registry import MODELS


@cache  # of many models one program: exporting takes seconds
def exported(name: str) -> torch.nn.Module:
    model = loaded(name)
    content = program_bytes(exportable(model, "pixels"), example(model), {})
    return torch.export.load(io.BytesIO(content)).module()


def check(name: str, batches: tuple[int, ...]) -> None:
    agree(exported(same_as(name)), evidence(loaded(name), max(batches)), batches)


def agree(module: torch.nn.Module, asked: Evidence, batches: tuple[int, ...]) -> None:
    for count in batches:
        with torch.no_grad():
            found = module(torch.from_numpy(asked.images[:count]).float())
        expected = torch.from_numpy(asked.logits[:count])
        tolerance = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_agrees_with_its_program_at_any_batch(name: str) -> None:
    check(name, (1, 2, 5, 32))


@pytest.mark.study
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODELS.names())
def test_every_model_of_its_native_size_agrees_at_any_batch(name: str) -> None:
    model, asked = native(name, 32)
    content = program_bytes(exportable(model, "pixels"), example(model), {})
    module = torch.export.load(io.BytesIO(content)).module()
    agree(module, asked, (1, 2, 5, 32))


def test_a_program_states_its_classes_and_needs_no_vtrain(tmp_path: Path) -> None:
    model, path = loaded(), tmp_path / "model.pt2"
    proof = write_program(model, path, evidence(model), {"model": "{}"}, "pixels")
    assert proof.difference < 1e-5
    facts = {"classes": "", "preprocess": "", "input": "", "model": ""}
    torch.export.load(path, extra_files=facts)
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert facts["input"] == "pixels"
    check("vit_ti", (1, 5))


def test_a_program_with_a_fault_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = loaded(), evidence(loaded())

    def frozen(module: torch.nn.Module, images: torch.Tensor, facts: dict[str, str]) -> bytes:
        content = io.BytesIO()
        torch.export.save(torch.export.export(module, (images,)), content, extra_files=facts)
        return content.getvalue()

    monkeypatch.setattr(program, "program_bytes", frozen)
    with pytest.raises(CheckpointError, match="cannot be asked for 1 and for 5 images"):
        write_program(model, tmp_path / "m.pt2", asked, {}, "pixels")
    other = loaded(depth=1)
    monkeypatch.setattr(
        program, "program_bytes", lambda _, i, f: program_bytes(exportable(other, "pixels"), i, f)
    )
    with pytest.raises(CheckpointError, match="not the model"):
        write_program(model, tmp_path / "m.pt2", asked, {}, "pixels")
    monkeypatch.setattr(program, "program_bytes", lambda m, i, _: program_bytes(m, i, {}))
    with pytest.raises(CheckpointError, match="does not state"):
        write_program(model, tmp_path / "m.pt2", asked, {}, "pixels")
    assert list(tmp_path.iterdir()) == []
