"""`vtrain check`."""

from typing import Annotated

import typer

from vtrain import screen
from vtrain.cli.options import ConfigPath, Overrides, Start, refuse_ignored


def check(
    config: ConfigPath,
    overrides: Overrides = None,
    start: Start = None,
    data: Annotated[
        bool, typer.Option("--data", help="Scan every image instead, and draw augmented.png.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scan as JSON.")] = False,
    lr_find: Annotated[
        bool, typer.Option("--lr-find", help="Suggest a learning rate, and draw lr_find.png.")
    ] = False,
) -> None:
    """Check CONFIG without training: keys, shapes, parameters, memory, steps and schedule."""
    if lr_find:
        refuse_ignored({"data": data, "json": as_json}, beside="lr-find")
    if not data:
        refuse_ignored({"json": as_json}, without="data")
    from vtrain.run.advice import naming_the_config, with_config
    from vtrain.run.request import config_and_folder_at

    with naming_the_config(config, overrides or ()):
        loaded, listed = config_and_folder_at(config, overrides or (), start)
        if lr_find:
            from vtrain.run.find_lr import find_lr

            screen.result(with_config(find_lr(loaded, listed), config, overrides or ()))
        elif data:
            from vtrain.run.check_data import check_data

            report, refusal = check_data(loaded, as_json, listed)
            screen.result(report if as_json else screen.fitted(report))
            if refusal is not None:  # last: what is bad is worth reading in any case
                raise refusal
        else:
            from vtrain.run.check import check_config

            screen.result(screen.fitted(check_config(loaded, listed)))
