"""Every command, in the groups and the order of `vtrain --help`."""

from collections.abc import Callable
from itertools import groupby
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vtrain.cli.bench import bench
from vtrain.cli.check import check
from vtrain.cli.evaluate import evaluate
from vtrain.cli.fit import fit
from vtrain.cli.models import models
from vtrain.cli.predict import predict
from vtrain.cli.report import report
from vtrain.cli.verify import verify

COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Use": {"fit": fit, "eval": evaluate, "predict": predict},
    "Understand": {"report": report},
    "Look after": {"check": check, "verify": verify, "models": models, "bench": bench},
}
"""Under which title `vtrain --help` lists a command; a title without commands is left out."""


class UnexpectedError(Exception):
    """An error of a command that typer would report as one of the terminal; it is the cause."""


class CommandGroups(TyperGroup):
    """The commands of the help in groups; without rich, typer would write one list."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in groupby(
            self.commands.values(), lambda c: getattr(c, "rich_help_panel", "")
        ):
            with formatter.section(title):
                width = formatter.width - 12  # beside the longest name
                formatter.write_dl([(c.name, c.get_short_help_str(width)) for c in commands])

    def invoke(self, ctx: Any) -> Any:
        # To typer a broken pipe is a reader that left, and the end of a file is Ctrl-D. Here they
        # come from files and processes: what is the terminal's is known to `vtrain.screen`.
        try:
            return super().invoke(ctx)
        except (EOFError, OSError) as error:
            raise UnexpectedError from error


app = typer.Typer(
    name="vtrain",
    cls=CommandGroups,
    help="Train, evaluate and use image classifiers (ViT, DeiT, TNT, Swin) from one YAML file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables
    rich_markup_mode=None,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Train, evaluate and use image classifiers (ViT, DeiT, TNT, Swin) from one YAML file."""
    # `main` reads --debug itself, so that it may stand anywhere on the line.


for group, members in COMMANDS.items():
    for name, function in members.items():
        app.command(name, rich_help_panel=group)(function)
