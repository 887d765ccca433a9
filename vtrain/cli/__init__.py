"""The `vtrain` command: parse, call, print. Nothing here imports torch before a command runs.

One module for each command, listed by `vtrain.cli.commands` in the groups of `vtrain --help`.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with the contract's exit code."""
    # First of all, and before an import that takes time: Ctrl-C ends the process from here on.
    from vtrain.interrupt import end_at_once

    end_at_once()
    from vtrain.cli.entry import run

    run()
