"""`vtrain report`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import refuse_ignored
from vtrain.errors import ConfigError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    against: Annotated[
        Path | None, typer.Option(help="Compare each run with this one on the same images.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page.", show_default="of one run: RUN/report.html")
    ] = None,
    output_format: Annotated[
        Literal["table", "json", "csv"], typer.Option("--format", help="How to print.")
    ] = "table",
    cost: Annotated[bool, typer.Option("--cost", help="Also time the model here.")] = False,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Also evaluate it on damaged images.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="CKPT", help="Save a checkpoint whose confidences are calibrated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Say what a run is worth and where it errs, as a page, or compare several."""
    several = len(runs) > 1 or against is not None
    if several:
        of_one = {"calibrate": calibrate, "cost": cost, "corruptions": corruptions}
        for name, given in of_one.items():
            if given:
                what = f"--{name} is for one run"
                raise ConfigError(what, "command line", "name one run alone, without --against")
    if output is None and calibrate is None:
        refuse_ignored({"force": force}, without="output")
    from vtrain.files.checkpoint import refuse_other_ending
    from vtrain.run.predict import refuse_existing

    if calibrate is not None:
        refuse_other_ending(calibrate)
        if not force:
            refuse_existing(calibrate)
    from vtrain.run.report import refuse_page, report_run, report_runs
    from vtrain.run.text.report_text import analysis_text, comparison_text

    if output is not None:
        refuse_page(output, force=force)
    if several:
        comparison = report_runs(runs, against, output)
        text = comparison_text(comparison, output_format, screen.width(sys.stdout))
        screen.result(screen.fitted(text) if output_format == "table" else text)
        return
    if calibrate is not None:
        from vtrain.run.calibrate import calibrate as save_calibrated

        save_calibrated(runs[0], calibrate)
    analysis = report_run(runs[0], output, cost=cost, corruptions=corruptions)
    text = analysis_text(analysis, output_format)
    screen.result(screen.fitted(text) if output_format == "table" else text)
