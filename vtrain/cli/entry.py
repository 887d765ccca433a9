"""From a command line to an exit code: the only place that turns an exception into one."""

import errno
import inspect
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from vtrain import screen
from vtrain.cli.commands import COMMANDS, app
from vtrain.cli.group import UnexpectedError
from vtrain.errors import ConfigError, StoppedBySignal, VtrainError, printable, shortened
from vtrain.resources import keep_freed_memory, require_folder, require_posix

VALIDATOR_S_WORDS = (
    ("Value error, ", ""),
    ("Input should be a valid ", "it must be a "),
    ("Input should be ", "it must be "),
    ("a integer", "an integer"),
    (", unable to parse string as an integer", ""),
    (", unable to parse string as a number", ""),
)
"""What typer's validator says, and plain words."""
NO_PLACE = {
    errno.ENAMETOOLONG: "the name is too long for a file",
    errno.EACCES: "permission denied",
}
"""What a path may meet wherever it is looked up, long before the file is opened."""


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
        _report(_usage_error(error), debug=False)
        sys.exit(2)
    if isinstance(error, OSError) and error.errno in NO_PLACE:
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        where = None if named is None else shortened(os.fsdecode(named))
        _report(ConfigError(NO_PLACE[error.errno], where, "name another"), debug=False)
        sys.exit(ConfigError.exit_code)
    text = printable(f"{type(error).__name__}: {error}")[:200]
    _say(f"vtrain: internal error: {text}: run again with --debug to see where")
    sys.exit(1)


def _usage_error(error: Any) -> ConfigError:
    """Say what typer refuses, and what to type instead."""
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    function = {name: f for members in COMMANDS.values() for name, f in members.items()}.get(named)
    command = "vtrain" if function is None else f"vtrain {named}"
    if function is not None and "overrides" in inspect.signature(function).parameters:
        option = _unknown_option(error)
        hint = option and _key_for(option)
        if hint:
            hint = f"{hint}; see {command} --help"
            return ConfigError(f"No such option: {option}", "command line", hint)
    what = error.format_message().rstrip(".")
    for old, new in VALIDATOR_S_WORDS:
        what = what.replace(old, new)
    return ConfigError(what, "command line", f"see {command} --help")


def _unknown_option(error: Any) -> str:
    """Return the option that there is not, as it was typed; nothing of another mistake."""
    option = str(getattr(error, "option_name", ""))
    if len(option) != 2:
        return option
    return next((word for word in sys.argv if word.startswith(option) and word != option), option)


def _key_for(option: str) -> str | None:
    """Say which key is meant by another program's option, in a command with the config typed."""
    from vtrain.config.hints import hint_on_option
    from vtrain.run.advice import with_config

    hint, typed = hint_on_option(option), _typed_config()
    return hint if hint is None or typed is None else with_config(hint, typed)


def _typed_config() -> Path | None:
    """Return the config on the command line: the first word that is one."""
    from vtrain.config.recipes import recipe_names

    words = [word for word in sys.argv[2:] if not word.startswith("-") and "=" not in word]
    with suppress(OSError):  # of a name that no file can have
        return next((Path(w) for w in words if w in recipe_names() or Path(w).exists()), None)
    return None


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
