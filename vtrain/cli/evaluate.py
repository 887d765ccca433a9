"""`vtrain eval`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import Overrides


def evaluate(
    ckpt: Annotated[Path, typer.Option(help="A checkpoint, a run folder, or an ONNX file.")],
    overrides: Overrides = None,
    split: Annotated[Literal["train", "val"], typer.Option(help="Which images.")] = "val",
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
    from vtrain.run.evaluate import evaluate_checkpoint
    from vtrain.run.text.tables import metrics_text

    evaluation = evaluate_checkpoint(ckpt, overrides or (), split, average, output)
    screen.result(metrics_text(evaluation.to_dict() if as_json else evaluation.metrics, as_json))
