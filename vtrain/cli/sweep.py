"""`vtrain sweep`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vtrain import screen
from vtrain.cli.options import refuse_ignored


def sweep(
    path: Annotated[
        Path,
        typer.Argument(metavar="SWEEP", help="A YAML file: config, metric, space or grid, trials."),
    ],
    trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trials in all.", show_default="the file's"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Runs at a time.")] = 1,
    hours: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="H", help="Save and stop after so long; type it again to go on."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A database that several machines share.",
            show_default="a journal in the folder",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The sweep's folder.", show_default="runs/<sweep>")
    ] = None,
    rerun: Annotated[
        int, typer.Option(min=0, metavar="N", help="Train the best N times more, with other seeds.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Only say how to open optuna's dashboard.")
    ] = False,
) -> None:
    """Search hyper-parameters. Every trial is a run; the same command goes on after any stop."""
    if dashboard:
        ignored = {"trials": trials, "hours": hours, "rerun": rerun or None, "json": as_json}
        refuse_ignored(ignored, beside="dashboard")
    from vtrain.run.sweep_options import Options, check_installed, dashboard_command

    options = Options(trials, workers, hours, storage, output, rerun)
    if dashboard:
        screen.result(dashboard_command(path, options))
        return
    check_installed()
    from vtrain.run.sweep import sweep as run_sweep  # slow to import
    from vtrain.run.sweep_results import results_text

    results = run_sweep(path, options)
    screen.result(json.dumps(results.data()) if as_json else results_text(results))
