"""Weight files that anyone wrote: `.pt`, `.pth` and `.safetensors`, told apart by their content."""

from pathlib import Path
from typing import Any

from vtrain.errors import CheckpointError
from vtrain.files.container import load_weights, opened


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of tensors onto the CPU; nothing in it is ever executed.

    The file is read once and not mapped into memory: it may be replaced while it is read.

    Raises:
        CheckpointError: It is absent, damaged, unsafe, or no file of tensors.
    """
    with opened(path) as file:
        if file.read(9)[8:] != b"{":  # safetensors start with a length in 8 bytes, then JSON
            return load_weights(path)
        file.seek(0)
        content = file.read()
    import safetensors
    from safetensors.torch import load

    try:
        return dict(load(content))
    except safetensors.SafetensorError as error:
        reason = str(error).splitlines()[0][:80]
        raise CheckpointError(f"truncated or corrupt safetensors: {reason}", path) from None
