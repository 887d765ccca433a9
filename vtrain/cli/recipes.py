"""`vtrain recipes`."""

from typing import Annotated

import typer

from vtrain import screen
from vtrain.errors import ConfigError


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this one, with its comments.")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Write NAME.yaml here, to edit it, and its schema.")
    ] = False,
) -> None:
    """List the recipes that come with vtrain: `vtrain fit NAME` trains one."""
    from vtrain.run.recipes import copy_recipe, recipe_text, recipes_text

    if name is None:
        if copy:
            raise ConfigError("--copy needs a name", "command line", "`vtrain recipes` lists them")
        screen.result(screen.fitted(recipes_text()))
    elif copy:
        screen.words(f"{copy_recipe(name)}: `vtrain fit {name}.yaml` trains it")
    else:
        screen.result(recipe_text(name))
