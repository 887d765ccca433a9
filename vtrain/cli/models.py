"""`vtrain models`."""

from typing import Annotated

import typer

from vtrain import screen


def models(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a glob.")
    ] = "*",
    shapes: Annotated[
        bool,
        typer.Option(
            "--shapes", help="What every step of the model PATTERN returns for one image."
        ),
    ] = False,
) -> None:
    """List the zoo: name, parameters, GMACs at the native size, reference."""
    if shapes:
        from vtrain.run.text.steps_text import steps_text

        screen.result(screen.fitted(steps_text(pattern)))
        return
    from vtrain.run.text.tables import models_text

    screen.result(screen.fitted(models_text(pattern)))
