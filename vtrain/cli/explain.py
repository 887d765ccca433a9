"""`vtrain explain`."""

from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import refuse_ignored
from vtrain.errors import printable
from vtrain.files.paths import at_home


def explain(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    ckpt: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, or a run folder.", show_default="best of the newest finished run"
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "attention", "rollout", "relevance", "gradcam", "ig"],
        typer.Option(help="How to find the evidence."),
    ] = "auto",
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Explain this class; may be repeated.",
            show_default="the likeliest",
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(metavar="N", help="A block, from 0; -1 is the last.", show_default="-1"),
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(metavar="N", help="One attention head, from 0.", show_default="their mean"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder.", show_default="explain/<date_time>"),
    ] = None,
    output_format: Annotated[
        Literal["table", "json"], typer.Option("--format", help="How to print.")
    ] = "table",
    force: Annotated[bool, typer.Option("--force", help="Write into a folder in use.")] = False,
) -> None:
    """Draw what the model looked at on images."""
    if output is None:
        refuse_ignored({"force": force}, without="output")
    # A pattern is text, in which only the home folder is replaced.
    images = [str(at_home(name)) if name.startswith("~") else name for name in images]
    from vtrain.run.explain import Question, explain_images
    from vtrain.run.predict import Tally
    from vtrain.run.text.explain_text import answer_text

    question = Question(method, tuple(target or ()), layer, head)
    answer = explain_images(images, ckpt, question, output, force)
    screen.result(answer_text(answer, output_format))
    screen.words(f"pictures, maps and explain.json are in {printable(str(answer.folder))}")
    tally = Tally()
    deque(tally.counting(answer.predictions), maxlen=0)
    tally.raise_failures()  # last: those of all other images are there by now
