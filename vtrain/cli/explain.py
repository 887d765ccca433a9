"""`vtrain explain`."""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import patterns_at_home, refuse_ignored
from vtrain.errors import ConfigError, printable

if TYPE_CHECKING:  # they import torch, which a slip on the command line need not wait for
    from vtrain.run.explain import Answer
    from vtrain.run.explain_model import Findings


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
    features: Annotated[
        bool, typer.Option("--features", help="Draw and measure how features tell classes apart.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(metavar="CKPT", help="With --model or --features: beside another model."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="With --features: keep them for other programs."),
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
    patterns = patterns_at_home(images or ())
    wanted = {"features": features, "model": model, "faithfulness": faithfulness}
    # The first one leads: the others have no effect beside it.
    leading = next((name for name, given in wanted.items() if given), None)
    of_maps: dict[str, object] = {
        "target": target,
        "method": method != "auto",
        "layer": layer is not None,
        "head": head is not None,
    }
    if leading in ("features", "model"):
        refuse_ignored({**wanted, leading: False, **of_maps}, beside=leading)
    else:
        refuse_ignored({"against": against}, without="model")
    if leading != "features":
        refuse_ignored({"save": save}, without="features")
    if output is None and save is None:
        refuse_ignored({"force": force}, without="output")
    check_images(patterns, leading)
    # Only now what takes long to import.
    from vtrain.run.explain import explain_images
    from vtrain.run.explain_question import Question

    question = Question(method, tuple(target or ()), layer, head)
    if leading is None:
        show_maps(explain_images(patterns, ckpt, question, output, force), output_format)
    elif leading == "faithfulness":
        from vtrain.run.explain_model import judge_maps

        show_findings(judge_maps(patterns, ckpt, question, output, force), output_format)
    elif leading == "model":
        from vtrain.run.explain_model import explain_model

        show_findings(explain_model(patterns, ckpt, against, output, force), output_format)
    else:
        from vtrain.run.explain_features import explain_features

        show_findings(explain_features(ckpt, against, output, save, force), output_format)


def show_maps(answer: "Answer", form: Literal["table", "json"]) -> None:
    """Print what was found on images, and where the pictures are.

    Raises:
        VtrainError: An image could not be read; all others are done and printed by then.
    """
    from vtrain.run.predict import Tally
    from vtrain.run.text.explain_text import answer_text

    screen.result(answer_text(answer, form))
    screen.words(f"pictures, maps and explain.json are in {printable(str(answer.folder))}")
    tally = Tally()
    deque(tally.counting(answer.predictions), maxlen=0)
    tally.raise_failures()


def show_findings(found: "Findings", form: Literal["table", "json"]) -> None:
    """Print what was found about a model, and where its figures are."""
    screen.result(json.dumps(found.data) if form == "json" else "\n".join(found.lines))
    screen.words(f"figures are in {printable(str(found.folder))}")


def check_images(patterns: list[str], leading: str | None) -> None:
    """Refuse images where none are looked at, and none where some are needed.

    Raises:
        ConfigError: It says which.
    """
    if leading == "features" and patterns:
        what = "--features takes the validation images of the run, whose classes are known"
        raise ConfigError(what, "command line", f"leave out {printable(patterns[0])}")
    if leading is None and not patterns:
        what = "no image is named"
        raise ConfigError(what, "command line", "give files, folders or globs, or --model")
