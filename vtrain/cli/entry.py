"""From a command line to an exit code: the only place that turns an exception into one."""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import typer

from vtrain import screen
from vtrain.cli.commands import app
from vtrain.cli.group import UnexpectedError
from vtrain.cli.mistyped import torn_or_typeset, usage_error
from vtrain.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    StoppedBySignal,
    VtrainError,
    no_place,
    printable,
)
from vtrain.resources import keep_freed_memory, require_folder, require_posix


def run() -> None:
    """Run the command line and exit with the contract's exit code."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    screen.prepare()
    # An error of ours is a line for each mistake, and a traceback only if that is asked for.
    try:
        if "" in arguments:  # a path of no name would be the current folder
            hint = "is a variable of the shell not set?"
            raise ConfigError("an argument is empty", "command line", hint)
        require_posix()  # before what needs it is imported
        require_folder()
        from vtrain.run.logs import to_console

        to_console()
        keep_freed_memory()
        command = typer.main.get_command(app)
        # Whoever types nothing asks what there is to type.
        given = [a for a in arguments if a != "--debug"] or ["--help"]
        code = command.main(given, prog_name="vtrain", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except (ConfigError, DataError, CheckpointError) as error:
        mistake = torn_or_typeset(arguments[1:]) or error
        _report(mistake, debug)
        sys.exit(mistake.exit_code)
    except VtrainError as error:
        _report(error, debug)
        sys.exit(error.exit_code)
    except screen.ReaderLeftError:
        sys.exit(0)
    except (KeyboardInterrupt, typer.Abort):  # where signals are not handled by `end_at_once`
        screen.words("vtrain: stopped at once; what was saved before is intact")
        sys.exit(128 + signal.SIGINT)
    except UnexpectedError as error:
        _report_other(error.__cause__ or error, debug)
    except Exception as error:
        _report_other(error, debug)


def _report(error: VtrainError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    kind = "" if isinstance(error, StoppedBySignal) else "error: "
    _say("\n".join(f"vtrain: {kind}{line}" for line in error.lines()))


def _report_other(error: BaseException, debug: bool) -> None:
    """Report typer's own errors as mistakes of the command line, anything else as our bug."""
    if debug:
        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # only what typer raises for bad usage has it
        mistyped = torn_or_typeset(sys.argv[2:]) or usage_error(error)
        _report(mistyped, debug=False)
        sys.exit(mistyped.exit_code)
    mistake = no_place(error)
    if mistake is not None:
        _report(mistake, debug=False)
        sys.exit(mistake.exit_code)
    text = printable(f"{type(error).__name__}: {error}")[:200]
    _say(f"vtrain: internal error: {text}: run again with --debug to see where")
    sys.exit(1)


def _say(text: str) -> None:
    """Print why the process ends; under torchrun only the main one does.

    Any other leaves it to torchrun, which ends all processes and reports the first that failed.
    """
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if os.environ.get("RANK", "0") == "0" or report is None:
        screen.words(text)
        return
    from vtrain.files.atomic import write_json

    facts = {"py_callstack": text, "timestamp": str(int(time.time()))}
    write_json(Path(report), {"message": {"message": text, "extraInfo": facts}})
