"""`vtrain soup`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vtrain import screen


def soup(
    ckpts: Annotated[
        list[str],
        typer.Argument(
            metavar="CKPT CKPT... [KEY=VALUE]...",
            help="Checkpoints or run folders of one architecture; changes, as of eval.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE.pt", help="The new checkpoint.")] = Path(
        "soup.pt"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Average the weights of several runs, of those alone that make the mean better."""
    from vtrain.files.paths import at_home
    from vtrain.run.soup import make_soup
    from vtrain.run.text.soup import soup_text

    overrides = [word for word in ckpts if "=" in word and not os.path.exists(word)]  # noqa: PTH110
    paths = [at_home(word) for word in ckpts if word not in overrides]
    made = make_soup(paths, overrides, output, force=force)
    screen.result(soup_text(made, as_json))
