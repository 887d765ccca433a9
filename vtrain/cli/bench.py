"""`vtrain bench`."""

from pathlib import Path
from typing import Annotated

import typer

from vtrain import screen
from vtrain.cli.options import ConfigPath, Overrides, Start


def bench(
    config: ConfigPath,
    overrides: Overrides = None,
    start: Start = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for each thing measured.")] = 10.0,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a trace there, name slow kernels.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast CONFIG trains here, what the machine allows, and where the time goes."""
    from vtrain.run.advice import naming_the_config
    from vtrain.run.bench import bench as run_bench
    from vtrain.run.request import config_and_folder_at
    from vtrain.run.text.bench_report import report_json, report_text

    with naming_the_config(config, overrides or ()):
        loaded, listed = config_and_folder_at(config, overrides or (), start)
        report = run_bench(loaded, seconds, profile, listed)
    screen.result(report_json(report) if as_json else screen.fitted(report_text(report)))
