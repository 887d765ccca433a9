"""`vtrain eval`."""

from pathlib import Path
from typing import Annotated

import typer

from vtrain import screen
from vtrain.cli.options import Overrides


def evaluate(
    overrides: Overrides = None,
    ckpt: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, a run folder, or an ONNX file.",
            show_default="the newest finished run",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="train|val|test",
            help="Which images.",
            show_default="val; of other data without it test, else all",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    average: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Average the run's N newest checkpoints."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Save the averaged weights there, as a checkpoint.")
    ] = None,
) -> None:
    """Evaluate a checkpoint on the dataset it was trained for, or on another one."""
    from vtrain.callbacks.progress import worth_showing
    from vtrain.run.evaluate import evaluate_checkpoint
    from vtrain.run.evaluated import split_name
    from vtrain.run.text.tables import metrics_text

    evaluation = evaluate_checkpoint(
        ckpt, overrides or (), None if split is None else split_name(split), average, output
    )
    if as_json:
        screen.result(metrics_text(evaluation.to_dict(), as_json))
        return
    metrics, found = evaluation.metrics, evaluation.predictions
    shown = metrics if found is None else dict(worth_showing(metrics, len(found.classes)))
    screen.result(metrics_text(shown, as_json))
