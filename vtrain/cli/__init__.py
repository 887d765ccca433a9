"""The `vtrain` command: parse, call, print. Nothing here imports torch before a command runs.

One module for each command, listed by `vtrain.cli.commands` in the groups of `vtrain --help`.
"""

from vtrain.cli.commands import app
from vtrain.cli.entry import main

__all__ = ["app", "main"]
