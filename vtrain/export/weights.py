"""Write weights as safetensors under another library's names, proved by that library."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from vtrain.errors import CheckpointError
from vtrain.export.foreign import (
    Library,
    Words,
    check_hugging_face,
    timm_architecture,
    torchvision_model,
)
from vtrain.export.graph import described, runtime
from vtrain.export.names import foreign_state, spoken_arguments
from vtrain.export.proof import NOT_KEPT, Evidence, Proof, prove
from vtrain.files.atomic import scratch_folder, write_bytes
from vtrain.inference.loaded import LoadedModel
from vtrain.models.base import ImageClassifier
from vtrain.models.pretrained import load_pretrained
from vtrain.registry import MODELS


def check_speakable(words: Words, library: Library) -> None:
    """Refuse a model that a library has no word for, before any work.

    Raises:
        ConfigError: It names what.
    """
    if library == "timm":
        timm_architecture(words)
    elif library == "torchvision":
        with torch.device("meta"):
            torchvision_model(words)
    else:
        check_hugging_face(words)


def write_weights(
    loaded: LoadedModel, path: Path, evidence: Evidence, facts: Mapping[str, str], library: Library
) -> Proof:
    """Write the weights once the file has been proved to make the same model.

    It is loaded as `model.pretrained` loads it, and by the library itself where that is installed
    and makes models from sizes alone: torchvision, timm.

    Raises:
        CheckpointError: The file is not the model; nothing is written.
        ConfigError: The library has no word for the model.
        StorageError: It cannot be written.
    """
    words = Words.of(loaded)
    content = weights_bytes(loaded, words, facts, library)
    with scratch_folder(path) as folder:
        file = folder / "model.safetensors"
        write_bytes(file, content)
        read = load(file.read_bytes())
        again = _again(words, library, loaded.checkpoint.model.name, file)
        proof = prove(runtime(again, loaded, "normalised"), evidence, path)
        theirs = their_model(words, library)
        if theirs is not None:
            with refusing(path):
                theirs.load_state_dict(read, strict=True)
            # Theirs is the comparison that is told: it is what the file is for.
            proof = prove(runtime(theirs.eval(), loaded, "normalised"), evidence, path)
    write_bytes(path, content)
    return proof


def weights_bytes(
    loaded: LoadedModel, words: Words, facts: Mapping[str, str], library: Library
) -> bytes:
    """Return the content of the file."""
    state = foreign_state(loaded.model.state_dict(), words, library)
    if library == "torchvision":  # whose files hold tables that are computed, too
        own = torchvision_model(words).state_dict()
        computed = r"relative_position_index", r"relative_coords_table"
        state |= {name: own[name] for name in own if name.endswith(computed)}
    # Clones, as safetensors refuses tensors that share memory: pieces of one `qkv` do.
    whole: dict[str, Tensor] = {name: t.contiguous().clone() for name, t in state.items()}
    content: bytes = save(whole, {"format": "pt", **facts, **described(loaded, "normalised")})
    return content


def their_model(words: Words, library: Library) -> nn.Module | None:
    """Build the model by the library itself; None where it is not installed."""
    if library == "torchvision":
        return torchvision_model(words)
    if library == "timm":
        try:
            import timm
        except ImportError:
            return None
        name, arguments = timm_architecture(words)
        model: nn.Module = timm.create_model(name, num_classes=words.num_classes, **arguments)
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


def _again(words: Words, library: Library, name: str, file: Path) -> ImageClassifier:
    """Build the model anew and load the file as anybody's weights."""
    model: ImageClassifier = MODELS[name](
        num_classes=words.num_classes,
        image_size=words.image_size,
        in_channels=words.in_channels,
        **spoken_arguments(words, library),
    )
    load_pretrained(model, str(file))
    return model.eval()
