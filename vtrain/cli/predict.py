"""`vtrain predict`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import (
    TTA,
    Checkpoints,
    patterns_at_home,
    refuse_ignored,
    the_one,
)
from vtrain.errors import printable

if TYPE_CHECKING:
    from vtrain.run.predict import Tally


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    ckpt: Checkpoints = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1, help="Classes, or similar images, to name for each image.", show_default="5"
        ),
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
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            help="Of several labels: name those of at least this probability.",
            show_default="each class's own",
        ),
    ] = None,
    tta: TTA = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Write what the head reads of each image there."),
    ] = None,
    similar: Annotated[
        Path | None,
        typer.Option(
            metavar="INDEX.npz", help="Name the images most alike in what --features wrote."
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
    """Name the classes of images, or the images that are like them."""
    if output is None and features is None:
        refuse_ignored({"force": force}, without="output")
    others: dict[str, object]
    if conformal is not None:
        others = {"top-k": top_k, "reject": reject, "tta": tta, "ckpt twice": (ckpt or [])[1:]}
        refuse_ignored(others, beside="conformal")
    images = patterns_at_home(images)
    apart = {"reject": reject, "conformal": conformal, "threshold": threshold, "tta": tta}
    if features is not None:
        others = {"top-k": top_k, "similar": similar, "format": output_format, "output": output}
        refuse_ignored({**apart, **others}, beside="features")
        _write_features(images, the_one(ckpt, "features"), features, force)
        return
    if similar is not None:
        refuse_ignored(apart, beside="similar")
    from vtrain.run.text.predictions import form_of, prediction_lines

    form = form_of(output, output_format)
    from vtrain.run.predict import Tally, predict_images, refuse_existing

    if output is not None and not force:
        refuse_existing(output)  # before the images are read, which may take long
    tally = Tally()
    if similar is None:
        found = predict_images(images, ckpt or (), top_k, reject, conformal, tta, threshold)
        lines = prediction_lines(tally.counting(found), form, sets=conformal is not None)
    else:
        from vtrain.run.similar import similar_images
        from vtrain.run.text.similar import similar_lines

        alike = similar_images(images, the_one(ckpt, "similar"), similar, top_k)
        lines = similar_lines(tally.counting(alike), form)
    _show(lines, tally, output, form)


def _show(lines: Iterable[str], tally: "Tally", output: Path | None, form: str) -> None:
    if output is None:
        for line in lines:
            screen.result(line)
    else:
        from vtrain.files.atomic import write_lines

        write_lines(output, lines)
        rows = "1 image" if tally.count == 1 else f"{tally.count:,} images"
        screen.words(printable(f"wrote {rows} to {output} (format {form})"))
    tally.raise_failures()  # last: those of all other images are there by now


def _write_features(images: list[str], ckpt: Path | None, output: Path, force: bool) -> None:
    from vtrain.run.predict import Tally, refuse_existing
    from vtrain.run.similar import write_features

    if not force:
        refuse_existing(output)
    tally = Tally()
    kept = list(tally.counting(write_features(images, ckpt, output)))
    there = sum(one.error is None for one in kept)
    rows = "1 image" if there == 1 else f"{there:,} images"
    screen.words(printable(f"wrote the features of {rows} to {output}"))
    tally.raise_failures()
