"""`vtrain fit`."""

from pathlib import Path
from typing import Annotated

import typer

from vtrain.cli.options import ConfigPath, Overrides, Start, refuse_ignored


def fit(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="runs/<config>/<date_time>"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run at CONFIG, in that folder, or the newest.",
        ),
    ] = False,
    accept_data_change: Annotated[
        bool,
        typer.Option(
            "--accept-data-change", help="Resume also if images were added, removed or changed."
        ),
    ] = False,
    start: Start = None,
    overfit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only see whether the model memorises N images."),
    ] = None,
) -> None:
    """Train the model that CONFIG describes, or one that suits a folder of images.

    On N GPUs: torchrun --nproc-per-node=N --no-python vtrain fit CONFIG
    """
    if overfit is not None:  # it keeps no run
        others = {"run-dir": run_dir, "resume": resume, "accept-data-change": accept_data_change}
        refuse_ignored(others, beside="overfit")
    if not resume:
        refuse_ignored({"accept-data-change": accept_data_change}, without="resume")
    from vtrain.run.advice import naming_the_config
    from vtrain.run.request import find_request

    with naming_the_config(config, overrides or ()):
        request = find_request(config, overrides or (), run_dir, resume, start)
    with naming_the_config(request.goes_on or config, overrides or ()):
        from vtrain.engine.stop import StopSignals
        from vtrain.run.fit import fit as run_fit  # slow to import: not before the config is right

        if overfit is None:
            run_fit(request, accept_data_change, StopSignals(until_exit=True))
        else:
            from vtrain.run.overfit import overfit as run_overfit

            run_overfit(request.config, overfit, request.listed)
