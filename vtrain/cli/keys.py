"""`vtrain keys`."""

from typing import Annotated

import typer

from vtrain import screen
from vtrain.cli.options import refuse_ignored
from vtrain.errors import ConfigError


def keys(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY|SECTION|WORDS]...", help="Such as optimizer.lr, augment, learning rate."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the keys as JSON.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema that editors complete with.")
    ] = False,
) -> None:
    """List the keys of a config: meaning, type, range, choices and default."""
    from vtrain.run.keys import keys_json, keys_text, schema_text

    if schema:
        refuse_ignored({"json": as_json}, beside="schema")
        if words:
            what = f"--schema is of all keys, and not of '{' '.join(words)}' alone"
            raise ConfigError(what, "command line", "leave one of them out")
        screen.result(schema_text())
    else:
        screen.result(keys_json(words or ()) if as_json else keys_text(words or ()))
