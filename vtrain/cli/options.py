"""What several commands share: arguments, and the rule that no option is ignored in silence."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vtrain.errors import ConfigError
from vtrain.files.paths import at_home

ConfigPath = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="A YAML file, a recipe, a run folder, or a folder of images."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as train.epochs=5 data.root=~/x."),
]

Start = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="WEIGHTS", help="Fine-tune these, where CONFIG is a folder of images."
    ),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="CKPT",
        help="A checkpoint, a run folder, or an ONNX file; again for another, asked together.",
        show_default="the newest finished run",
    ),
]
TTA = Annotated[
    Literal["flip", "five-crop"] | None,
    typer.Option(help="Ask about several views of each image: the mean of probabilities."),
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
        if value is not None and value is not False and value != []:  # 0 is given, too
            raise ConfigError(f"--{name} has no effect {reason}", "command line", hint)


def the_one(ckpt: list[Path] | None, beside: str) -> Path | None:
    """Return the checkpoint where there can be but one, None if none is named.

    Raises:
        ConfigError: There are several.
    """
    if ckpt is not None and len(ckpt) > 1:
        hint = "name one, or leave the other option out"
        raise ConfigError(f"--{beside} is of one model", "command line", hint)
    return ckpt[0] if ckpt else None


def patterns_at_home(patterns: Iterable[str]) -> list[str]:
    """Return patterns of file names with the home folder in place of `~`; nothing else changes."""
    return [str(at_home(name)) if name.startswith("~") else name for name in patterns]


def looked_at(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that has its options as they are meant.

    Paths may begin with `~`, also where no shell has replaced it; NaN, which is in every range, is
    refused.
    """

    @wraps(command)
    def call(**given: Any) -> None:
        for name, value in given.items():
            if isinstance(value, float) and math.isnan(value):
                raise ConfigError("nan is no number", f"--{name.replace('_', '-')}", "give one")
        command(**{name: _at_home(value) for name, value in given.items()})

    return call


def _at_home(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_at_home, value))
    return at_home(value) if isinstance(value, Path) else value
