"""`vtrain predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import patterns_at_home, refuse_ignored
from vtrain.errors import printable


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    ckpt: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, a run folder, or an ONNX file.",
            show_default="best of the newest finished run",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Classes to name for each image.", show_default="5"),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="P", help="Below this probability, say unsure."),
    ] = None,
    conformal: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="ALPHA",
            help="Name as many classes as hold the true one but for this share of images.",
        ),
    ] = None,
    output_format: Annotated[
        Literal["table", "json", "jsonl", "csv"] | None,
        typer.Option("--format", help="How to print.", show_default="table, or as FILE ends"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write there: .csv, .json, .jsonl, or a table in .txt."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Name the classes of images."""
    if output is None:
        refuse_ignored({"force": force}, without="output")
    if conformal is not None:
        refuse_ignored({"top-k": top_k, "reject": reject}, beside="conformal")
    images = patterns_at_home(images)
    from vtrain.run.text.predictions import form_of, prediction_lines

    form = form_of(output, output_format)
    from vtrain.run.predict import Tally, predict_images, refuse_existing

    if output is not None and not force:
        refuse_existing(output)  # before the images are read, which may take long
    tally = Tally()
    predictions = tally.counting(predict_images(images, ckpt, top_k, reject, conformal))
    lines = prediction_lines(predictions, form, sets=conformal is not None)
    if output is None:
        for line in lines:
            screen.result(line)
    else:
        from vtrain.files.atomic import write_lines

        write_lines(output, lines)
        rows = "1 image" if tally.count == 1 else f"{tally.count:,} images"
        screen.words(printable(f"wrote {rows} to {output} (format {form})"))
    tally.raise_failures()  # last: those of all other images are there by now
