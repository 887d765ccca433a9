"""`vtrain eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtrain import screen
from vtrain.cli.options import (
    TTA,
    Checkpoints,
    Overrides,
    refuse_ignored,
    the_one,
)

if TYPE_CHECKING:
    from vtrain.run.evaluate import Evaluation


def evaluate(
    overrides: Overrides = None,
    ckpt: Checkpoints = None,
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
    tta: TTA = None,
    knn: Annotated[
        bool, typer.Option("--knn", help="By the nearest training images: features, no head.")
    ] = False,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="Neighbours that vote.", show_default="20")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=1e-4, metavar="T", help="Of their votes.", show_default="0.07"),
    ] = None,
    linear_probe: Annotated[
        bool,
        typer.Option("--linear-probe", help="By logistic regression on training images' features."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="The features of its model.pretrained, untrained."),
    ] = None,
) -> None:
    """Evaluate a checkpoint on the dataset it was trained for, or on another one.

    Several --ckpt are asked together: the mean of their probabilities.
    """
    if not knn:
        refuse_ignored({"k": k, "temperature": temperature}, without="knn")
    frozen = knn or linear_probe
    if not frozen:
        refuse_ignored({"config": config}, without="knn")
    from vtrain.run.evaluated import split_name

    part = None if split is None else split_name(split)
    changes, ckpts = overrides or (), ckpt or []
    if frozen:
        leading = "knn" if knn else "linear-probe"
        refuse_ignored({"average": average, "output": output, "tta": tta}, beside=leading)
        if config is not None:
            refuse_ignored({"ckpt": ckpt}, beside="config")
        from vtrain.run.frozen import Order, evaluate_frozen
        from vtrain.run.text.tables import metrics_text

        given = {"k": k, "temperature": temperature}
        chosen: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        order = Order(knn=knn, linear_probe=linear_probe, **chosen)
        one = the_one(ckpt, leading)
        figures = evaluate_frozen(one, config, changes, part, order)
        screen.result(metrics_text(figures, as_json))
    elif tta is not None or len(ckpts) > 1:
        several = "tta" if tta is not None else "ckpt twice"
        refuse_ignored({"average": average, "output": output}, beside=several)
        from vtrain.run.text.together import together_text
        from vtrain.run.together import evaluate_together

        found = evaluate_together(ckpts, changes, part, tta)
        screen.result(together_text(found, as_json))
    else:
        from vtrain.run.evaluate import evaluate_checkpoint

        one = the_one(ckpt, "average")
        evaluation = evaluate_checkpoint(one, changes, part, average, output)
        _show(evaluation, as_json)


def _show(evaluation: "Evaluation", as_json: bool) -> None:
    from vtrain.callbacks.progress import worth_showing
    from vtrain.run.text.tables import labels_text, metrics_text

    if as_json:
        screen.result(metrics_text(evaluation.to_dict(), as_json))
        return
    metrics, found = evaluation.metrics, evaluation.predictions
    shown = metrics if found is None else dict(worth_showing(metrics, len(found.classes)))
    screen.result(metrics_text(shown, as_json))
    if found is not None and found.has_several:  # no figure over all says how few a class has
        screen.result(labels_text(evaluation.rows()))
