"""Every command, in the groups and the order of `vtrain --help`."""

from collections.abc import Callable
from typing import Annotated

import typer

import vtrain
from vtrain import screen
from vtrain.cli.bench import bench
from vtrain.cli.check import check
from vtrain.cli.evaluate import evaluate
from vtrain.cli.explain import explain
from vtrain.cli.export import export
from vtrain.cli.fit import fit
from vtrain.cli.group import Command, CommandGroups
from vtrain.cli.keys import keys
from vtrain.cli.models import models
from vtrain.cli.options import looked_at
from vtrain.cli.predict import predict
from vtrain.cli.recipes import recipes
from vtrain.cli.rename import rename
from vtrain.cli.report import report
from vtrain.cli.serve import serve
from vtrain.cli.soup import soup
from vtrain.cli.sweep import sweep
from vtrain.cli.verify import verify

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Use": {"fit": fit, "eval": evaluate, "predict": predict},
    "Understand": {"explain": explain, "report": report},
    "Hand on": {"export": export, "serve": serve, "rename": rename},
    "Search": {"sweep": sweep, "soup": soup},
    "Look after": {
        "recipes": recipes,
        "keys": keys,
        "check": check,
        "verify": verify,
        "models": models,
        "bench": bench,
    },
}
"""Title in `vtrain --help` (Use, Understand, Hand on, Search, Look after) -> its commands."""

app = typer.Typer(
    name="vtrain",
    cls=CommandGroups,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # its tracebacks show local variables
    rich_markup_mode=None,
)


def _say_version(asked: bool) -> None:
    if asked:
        screen.result(f"vtrain {vtrain.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train, evaluate and use image classifiers (ViT, DeiT, TNT, Swin) from one YAML file."""
    # `main` reads --debug itself, so that it may stand anywhere on the line.


for group, members in COMMANDS.items():
    for name, function in members.items():
        app.command(name, cls=Command, rich_help_panel=group)(looked_at(function))
