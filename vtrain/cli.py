"""The `vtrain` command: parse, call, print. Nothing here imports torch before a command runs."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from vtrain.errors import ConfigError, StoppedBySignal, VtrainError, printable

USE, UNDERSTAND, LOOK_AFTER = "Use", "Understand", "Look after"
"""The groups of commands in `vtrain --help`."""


class CommandGroups(TyperGroup):
    """The commands of the help in groups; without rich, typer would write one list."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in groupby(
            self.commands.values(), lambda c: getattr(c, "rich_help_panel", "")
        ):
            with formatter.section(title):
                width = formatter.width - 12  # beside the longest name
                formatter.write_dl([(c.name, c.get_short_help_str(width)) for c in commands])


app = typer.Typer(
    name="vtrain",
    cls=CommandGroups,
    help="Train, evaluate and use image classifiers (ViT, DeiT, TNT, Swin) from one YAML file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables
    rich_markup_mode=None,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as train.epochs=5 data.root=~/x."),
]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Train, evaluate and use image classifiers (ViT, DeiT, TNT, Swin) from one YAML file."""
    # `main` reads --debug itself, so that it may stand anywhere on the line.


@app.command(rich_help_panel=USE)
def fit(
    config: ConfigPath,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="The run's folder.", show_default="runs/<config>/<date_time>"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in that folder, or the newest.")
    ] = False,
    accept_data_change: Annotated[
        bool,
        typer.Option(
            "--accept-data-change", help="Resume also if images were added, removed or changed."
        ),
    ] = False,
    overfit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only see whether the model memorises N images."),
    ] = None,
) -> None:
    """Train the model that CONFIG describes."""
    if overfit is not None:  # it keeps no run
        others = {"run-dir": run_dir, "resume": resume, "accept-data-change": accept_data_change}
        _refuse_ignored(others, beside="overfit")
    if not resume:
        _refuse_ignored({"accept-data-change": accept_data_change}, without="resume")
    from vtrain.config import load_config

    loaded = load_config(config, overrides or ())
    from vtrain.engine.stop import StopSignals
    from vtrain.run.fit import fit as run_fit  # slow to import: not before the config is right

    if overfit is None:
        signals = StopSignals(until_exit=True)
        run_fit(loaded, config.stem, run_dir, resume, accept_data_change, signals)
    else:
        from vtrain.run.overfit import overfit as run_overfit

        run_overfit(loaded, overfit)


@app.command("eval", rich_help_panel=USE)
def evaluate(
    ckpt: Annotated[Path, typer.Option(help="A checkpoint, or a run folder.")],
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
    typer.echo(metrics_text(evaluation.to_dict() if as_json else evaluation.metrics, as_json))


@app.command(rich_help_panel=USE)
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, globs.")],
    ckpt: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, or a run folder.", show_default="best of the newest finished run"
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
        Literal["table", "json", "csv"], typer.Option("--format", help="How to print.")
    ] = "table",
    output: Annotated[Path | None, typer.Option(help="Write there instead of stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Name the classes of images."""
    if output is None:
        _refuse_ignored({"force": force}, without="output")
    if conformal is not None:
        _refuse_ignored({"top-k": top_k, "reject": reject}, beside="conformal")
    from vtrain.run.predict import predict_images, raise_failures, refuse_existing
    from vtrain.run.text.tables import predictions_text

    if output is not None and not force:
        refuse_existing(output)  # before the images are read, which may take long
    predictions = predict_images(images, ckpt, top_k, reject, conformal)
    text = predictions_text(predictions, output_format)
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        from vtrain.files.atomic import write_text

        write_text(output, text if text.endswith("\n") else text + "\n")
    raise_failures(predictions)  # last: those of all other images are there by now


@app.command(rich_help_panel=UNDERSTAND)
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
    written = [path for path in (output, calibrate) if path is not None]
    if not written:
        _refuse_ignored({"force": force}, without="output")
    from vtrain.run.predict import refuse_existing

    for path in written if not force else ():
        refuse_existing(path)
    from vtrain.run.report import report_run, report_runs
    from vtrain.run.text.report_text import analysis_text, comparison_text

    if several:
        comparison = report_runs(runs, against, output)
        typer.echo(comparison_text(comparison, output_format), nl=False)
        return
    if calibrate is not None:
        from vtrain.run.calibrate import calibrate as save_calibrated

        save_calibrated(runs[0], calibrate)
    typer.echo(
        analysis_text(
            report_run(runs[0], output, cost=cost, corruptions=corruptions), output_format
        ),
        nl=False,
    )


@app.command(rich_help_panel=LOOK_AFTER)
def check(
    config: ConfigPath,
    overrides: Overrides = None,
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
        _refuse_ignored({"data": data, "json": as_json}, beside="lr-find")
    if not data:
        _refuse_ignored({"json": as_json}, without="data")
    from vtrain.config import load_config

    loaded = load_config(config, overrides or ())
    if lr_find:
        from vtrain.run.find_lr import find_lr

        typer.echo(find_lr(loaded))
    elif data:
        from vtrain.run.check_data import check_data

        typer.echo(check_data(loaded, as_json))
    else:
        from vtrain.run.check import check_config

        typer.echo(check_config(loaded))


@app.command(rich_help_panel=LOOK_AFTER)
def bench(
    config: ConfigPath,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for each thing measured.")] = 10.0,
    profile: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a trace there, name slow kernels.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast CONFIG trains here, what the machine allows, and where the time goes."""
    from vtrain.config import load_config
    from vtrain.run.bench import bench as run_bench
    from vtrain.run.text.bench_report import report_json, report_text

    report = run_bench(load_config(config, overrides or ()), seconds, profile)
    typer.echo(report_json(report) if as_json else report_text(report))


@app.command(rich_help_panel=LOOK_AFTER)
def verify(
    path: Annotated[
        Path, typer.Argument(metavar="RUN_DIR|CKPT", help="A run folder, or a checkpoint.")
    ],
) -> None:
    """Say which checkpoints are intact, and where a resume would go on."""
    from vtrain.run.verify import raise_if_lost, verify_checkpoints

    text, usable = verify_checkpoints(path)
    typer.echo(text)
    raise_if_lost(path, usable)  # last: what is damaged is worth reading in any case


@app.command(rich_help_panel=LOOK_AFTER)
def models(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a glob.")
    ] = "*",
) -> None:
    """List the zoo: name, parameters, GMACs at the native size, reference."""
    from vtrain.run.text.tables import models_text

    typer.echo(models_text(pattern))


def _refuse_ignored(
    options: Mapping[str, object], *, beside: str | None = None, without: str | None = None
) -> None:
    """Refuse options that are given and would be ignored: whoever types one believes in it.

    They have no effect `beside` another option, or `without` it.
    """
    # The first one is enough: whoever leaves it out is told of the next.
    reason = f"with --{beside}" if beside else f"without --{without}"
    hint = "leave one of them out" if beside else f"add --{without}, or leave it out"
    for name, value in options.items():
        if value:
            raise ConfigError(f"--{name} has no effect {reason}", "command line", hint)


def main() -> None:
    """Run the command line and exit with the contract's exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    # An error of ours is a line for each mistake, and a traceback only if that is asked for.
    try:
        from vtrain.resources import keep_freed_memory
        from vtrain.run.logs import to_console

        to_console()
        keep_freed_memory()
        code = command.main(
            [a for a in arguments if a != "--debug"], prog_name="vtrain", standalone_mode=False
        )
        sys.exit(code if isinstance(code, int) else 0)
    except VtrainError as error:
        _report(error, debug)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("vtrain: stopped at once; what was saved before is intact", err=True)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        _report_other(error, debug)


def _report(error: VtrainError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    kind = "" if isinstance(error, StoppedBySignal) else "error: "
    _say("\n".join(f"vtrain: {kind}{line}" for line in error.lines()))


def _report_other(error: Exception, debug: bool) -> None:
    """Report typer's own errors as mistakes of the command line, anything else as our bug."""
    if debug:
        traceback.print_exception(error)
    message = getattr(error, "format_message", None)  # only what typer raises for bad usage has one
    if message is not None:
        _say(f"vtrain: error: {printable(message())} (command line): see vtrain --help")
        sys.exit(2)
    text = printable(f"{type(error).__name__}: {error}")[:200]
    _say(f"vtrain: internal error: {text}: run again with --debug to see where")
    sys.exit(1)


def _say(text: str) -> None:
    """Print why the process ends; under torchrun only the main one does.

    Any other leaves it to torchrun, which ends all processes and reports the first that failed.
    """
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if os.environ.get("RANK", "0") == "0" or report is None:
        typer.echo(text, err=True)
        return
    from vtrain.files.atomic import write_json

    facts = {"py_callstack": text, "timestamp": str(int(time.time()))}
    write_json(Path(report), {"message": {"message": text, "extraInfo": facts}})
