"""`vtrain verify`."""

from pathlib import Path
from typing import Annotated

import typer

from vtrain import screen


def verify(
    path: Annotated[
        Path, typer.Argument(metavar="RUN_DIR|CKPT", help="A run folder, or a checkpoint.")
    ],
) -> None:
    """Say which checkpoints are intact, and where a resume would go on."""
    from vtrain.run.verify import raise_if_lost, verify_checkpoints

    text, usable = verify_checkpoints(path)
    screen.result(screen.fitted(text))
    raise_if_lost(path, usable)  # last: what is damaged is worth reading in any case
