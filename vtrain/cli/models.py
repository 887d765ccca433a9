"""`vtrain models`."""

from typing import Annotated

import typer


def models(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a glob.")
    ] = "*",
) -> None:
    """List the zoo: name, parameters, GMACs at the native size, reference."""
    from vtrain.run.text.tables import models_text

    typer.echo(models_text(pattern))
