"""`vtrain rename`."""

from pathlib import Path
from typing import Annotated

import typer

from vtrain.errors import ConfigError


def rename(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run folder.")],
    output: Annotated[Path, typer.Option(help="The new checkpoint.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[OLD=NEW]...", help="New names of classes.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="A file with a name a line for all classes, in their order.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Give the classes of a checkpoint other names, without training again."""
    if bool(changes) == (names is not None):
        what = "both OLD=NEW and --names" if changes else "there is no new name"
        raise ConfigError(what, "command line", "give OLD=NEW for some classes, or --names for all")
    from vtrain.files.checkpoint import refuse_other_ending
    from vtrain.run.predict import refuse_existing
    from vtrain.run.rename import rename as run_rename

    refuse_other_ending(output)
    if not force:
        refuse_existing(output)
    run_rename(ckpt, changes or (), names, output)
