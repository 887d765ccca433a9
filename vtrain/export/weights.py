"""Write weights as safetensors under another library's names, proved by that library."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from vtrain.errors import CheckpointError
from vtrain.export.foreign import (
    Architecture,
    Library,
    check_hugging_face,
    timm_architecture,
    torchvision_model,
)
from vtrain.export.graph import described, runtime
from vtrain.export.names import explicit_arguments, foreign_state
from vtrain.export.proof import NOT_KEPT, Evidence, Proof, prove
from vtrain.files.atomic import scratch_folder, write_bytes
from vtrain.inference.loaded import LoadedModel
from vtrain.models.base import ImageClassifier
from vtrain.models.pretrained import load_pretrained
from vtrain.registry import MODELS


def check_supported(arch: Architecture, library: Library) -> None:
    """Refuse a model that a library does not support, before any work.

    Raises:
        ConfigError: It names what.
    """
    if library == "timm":
        timm_architecture(arch)
    elif library == "torchvision":
        with torch.device("meta"):
            torchvision_model(arch)
    else:
        check_hugging_face(arch)


def write_weights(
    loaded: LoadedModel, path: Path, evidence: Evidence, facts: Mapping[str, str], library: Library
) -> Proof:
    """Write the weights once the file has been proved to make the same model.

    It is loaded as `model.pretrained` loads it, and by the library itself where that is installed
    and makes models from sizes alone: torchvision, timm.

    Raises:
        CheckpointError: The file is not the model; nothing is written.
        ConfigError: The library does not support the model.
        StorageError: It cannot be written.
    """
    arch = Architecture.of(loaded)
    content = weights_bytes(loaded, arch, facts, library)
    with scratch_folder(path) as folder:
        file = folder / "model.safetensors"
        write_bytes(file, content)
        # From the disk, as anybody will read it.
        read = load(file.read_bytes())
        again = _again(arch, library, loaded.checkpoint.model.name, file)
        proof = prove(runtime(again, loaded, "normalised"), evidence, path)
        theirs = their_model(arch, library)
        if theirs is not None:
            with refusing(path):
                theirs.load_state_dict(read, strict=True)
            # Theirs is the comparison that is told: it is what the file is for.
            proof = prove(runtime(theirs.eval(), loaded, "normalised"), evidence, path)
    write_bytes(path, content)
    return proof


def weights_bytes(
    loaded: LoadedModel, arch: Architecture, facts: Mapping[str, str], library: Library
) -> bytes:
    """Return the content of the file."""
    state = foreign_state(loaded.model.state_dict(), arch, library)
    if library == "torchvision":  # whose files hold tables that are computed, too
        own = torchvision_model(arch).state_dict()
        computed = r"relative_position_index", r"relative_coords_table"
        state |= {name: own[name] for name in own if name.endswith(computed)}
    # Clones, as safetensors refuses tensors that share memory: pieces of one `qkv` do.
    whole: dict[str, Tensor] = {name: t.contiguous().clone() for name, t in state.items()}
    content: bytes = save(whole, {"format": "pt", **facts, **described(loaded, "normalised")})
    return content


def their_model(arch: Architecture, library: Library) -> nn.Module | None:
    """Build the model by the library itself; None where it is not installed."""
    if library == "torchvision":
        return torchvision_model(arch)
    if library == "timm":
        try:
            import timm
        except ImportError:
            return None
        name, arguments = timm_architecture(arch)
        model: nn.Module = timm.create_model(name, num_classes=arch.num_classes, **arguments)
        return model
    return None


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn a library's refusal of weights into ours."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        what = f"the library does not load the file: {reason}"
        raise CheckpointError(what, path, NOT_KEPT) from error


def _again(arch: Architecture, library: Library, name: str, file: Path) -> ImageClassifier:
    """Build the model anew and load the file as anybody's weights."""
    model: ImageClassifier = MODELS[name](
        num_classes=arch.num_classes,
        image_size=arch.image_size,
        in_channels=arch.in_channels,
        **explicit_arguments(arch, library),
    )
    load_pretrained(model, str(file))
    return model.eval()
