"""Write a model as a program of torch.export: one `.pt2` file that torch runs without vtrain."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vtrain.errors import CheckpointError
from vtrain.export.graph import Input, described, example, exportable, runtime
from vtrain.export.proof import NOT_KEPT, Evidence, Proof, prove
from vtrain.files.atomic import replacing
from vtrain.inference.loaded import LoadedModel


def write_program(
    loaded: LoadedModel, path: Path, evidence: Evidence, facts: Mapping[str, str], taking: Input
) -> Proof:
    """Write a model once the file has been proved to be it; `facts` go along as extra files.

    Raises:
        CheckpointError: The file is not the model; nothing is written.
        StorageError: It cannot be written.
    """
    stated = {**facts, **described(loaded, taking)}
    content = program_bytes(exportable(loaded, taking), example(loaded), stated)
    with replacing(path, size=len(content)) as file:
        file.write(content)
        file.seek(0)
        # Loading unpickles: only ever what this process has just written, and nobody else's.
        found = dict.fromkeys(stated, "")
        module = torch.export.load(io.BytesIO(file.read()), extra_files=found).module()
        if found != stated:
            raise CheckpointError("the file does not state what it should", path, NOT_KEPT)
        return prove(runtime(module, loaded, taking), evidence, path)


def program_bytes(module: nn.Module, images: Tensor, facts: Mapping[str, str]) -> bytes:
    """Return the content of a file that maps `images`, any number of them, to logits."""
    dimensions = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (images,), dynamic_shapes=dimensions)
    content = io.BytesIO()
    torch.export.save(program, content, extra_files=dict(facts))
    return content.getvalue()
