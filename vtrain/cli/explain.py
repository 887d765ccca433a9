"""`vtrain explain`."""

import json
from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import patterns_at_home, refuse_ignored
from vtrain.errors import ConfigError, printable


def explain(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE]...", help="Files, folders, globs.", show_default=False),
    ] = None,
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
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="Judge the maps instead of drawing them.")
    ] = False,
    model: Annotated[
        bool, typer.Option("--model", help="Draw what the model learnt instead.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="With --model: beside another model.")
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
    """Draw what a model looked at on images, judge such maps, or draw what it learnt."""
    if output is None:
        refuse_ignored({"force": force}, without="output")
    if not model:
        refuse_ignored({"against": against}, without="model")
    else:
        of_maps: dict[str, object] = {
            "target": target,
            "faithfulness": faithfulness,
            "method": method != "auto",
            "layer": layer is not None,
            "head": head is not None,
        }
        refuse_ignored(of_maps, beside="model")
    patterns = patterns_at_home(images or ())
    if not (patterns or model or faithfulness):
        what = "no image is named"
        raise ConfigError(what, "command line", "give files, folders or globs, or --model")
    from vtrain.run.explain import Question, explain_images
    from vtrain.run.predict import Tally
    from vtrain.run.text.explain_text import answer_text

    question = Question(method, tuple(target or ()), layer, head)
    if model or faithfulness:
        from vtrain.run.explain_model import explain_model, judge_maps

        found = (
            explain_model(patterns, ckpt, against, output, force)
            if model
            else judge_maps(patterns, ckpt, question, output, force)
        )
        as_json = output_format == "json"
        screen.result(json.dumps(found.data) if as_json else "\n".join(found.lines))
        screen.words(f"figures are in {printable(str(found.folder))}")
        return
    answer = explain_images(patterns, ckpt, question, output, force)
    screen.result(answer_text(answer, output_format))
    screen.words(f"pictures, maps and explain.json are in {printable(str(answer.folder))}")
    tally = Tally()
    deque(tally.counting(answer.predictions), maxlen=0)
    tally.raise_failures()  # last: those of all other images are there by now
