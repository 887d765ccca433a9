"""`vtrain models`."""

from typing import Annotated

import typer

from vtrain import screen


def models(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a glob.")
    ] = "*",
) -> None:
    """List the zoo: name, parameters, GMACs at the native size, reference."""
    from vtrain.run.text.tables import models_text

    screen.result(models_text(pattern))
