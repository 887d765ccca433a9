"""What several commands share: arguments, and the rule that no option is ignored in silence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from vtrain.errors import ConfigError

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as train.epochs=5 data.root=~/x."),
]


def refuse_ignored(
    options: Mapping[str, object], *, beside: str | None = None, without: str | None = None
) -> None:
    """Refuse options that are given and would be ignored: whoever types one believes in it.

    They have no effect `beside` another option, or `without` it.
    """
    # The first one is enough: whoever leaves it out is told of the next.
    reason = f"with --{beside}" if beside else f"without --{without}"
    hint = "leave one of them out" if beside else f"add --{without}, or leave it out"
    for name, value in options.items():
        if value:
            raise ConfigError(f"--{name} has no effect {reason}", "command line", hint)
