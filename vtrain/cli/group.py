"""The commands in groups, as the help lists them, and what to say of one that there is not."""

import difflib
import os
import re
import shlex
from itertools import groupby
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from vtrain.cli.narrow import fit_help
from vtrain.errors import ConfigError, printable

PEERS_WORDS = {
    "fit": "train training finetune fine-tune learn run start",
    "eval": "evaluate evaluation val valid validate validation test score accuracy",
    "predict": "infer inference classify prediction detect label",
    "explain": "attention cam gradcam grad-cam interpret saliency visualize visualise heatmap "
    "tsne t-sne umap features embeddings",
    "report": "compare analyse analyze analysis confusion results summary metrics plot",
    "export": "convert onnx to-onnx save torchscript quantize quantise",
    "serve": "gui web webui ui app demo deploy serving server",
    "rename": "relabel classes names class-names",
    "sweep": "tune tuning search hpo optimize optimise hyperopt",
    "soup": "merge average average-weights swa model-soup greedy-soup",
    "check": "lint dry-run info describe inspect validate-config scan lr-find lr_find",
    "verify": "doctor fsck integrity",
    "keys": "cfg config settings options params parameters",
    "recipes": "configs presets templates examples init new create",
    "models": "model zoo list list-models list_models archs architectures",
    "bench": "benchmark profile speed throughput timeit",
}
"""What other programs, or people, call a command."""

ELSEWHERE = {
    "help": "write vtrain --help",
    "version": "write vtrain --version",
    "resume": "to go on with a run write vtrain fit RUN --resume",
    "continue": "to go on with a run write vtrain fit RUN --resume",
    "tensorboard": "it is a program of its own: tensorboard --logdir runs",
    "ensemble": "give --ckpt several times to vtrain predict or vtrain eval",
    "distill": "write vtrain fit CONFIG train.distillation.teacher=RUN",
    "clean": "a run is a folder: remove it as any other",
    "delete": "a run is a folder: remove it as any other",
    "vtrain": "leave it out: it is there already",
}
"""What is no command here, and how to ask for it."""


MOST = 120
"""Characters of what stands behind a wrong command that are repeated; no command is cut."""
KINDS = {"path": "PATH", "int range": "N", "int": "N", "float range": "X", "float": "X"}
"""What the help calls typer's types."""


class Command(TyperCommand):
    """A command whose help has the words of the field, and no types of the program."""

    def get_help(self, ctx: Any) -> str:
        fit_help(ctx)
        usage, rest = super().get_help(ctx).split("\n\n", 1)
        # Typer's brackets around a name that has its own or needs none: {CONFIG} [[PATTERN]]
        usage = re.sub(r"\[(\[[^]]+\])(\.\.\.)?\](\.\.\.)?", r"\1\2", usage)
        usage = re.sub(r"\{([^}]+?)\}(\.\.\.)?", r"\1", usage)
        return "\n".join([usage, "", *map(_plain, rest.split("\n"))])


def _plain(line: str) -> str:
    """Write a type as a word of the same width, or leave it out where a name says all."""
    is_option = line.startswith("  -")

    def word(found: re.Match[str]) -> str:
        kind = found[1]
        known = KINDS.get(kind, "" if kind.startswith("list[") else kind)
        return (known if is_option else "").ljust(len(found[0]))

    return re.sub(r"(?<= )<([\w| ]+|list\[\w+\])>", word, line).rstrip()


class UnexpectedError(Exception):
    """An error of a command that typer would report as one of the terminal; it is the cause."""


class CommandGroups(TyperGroup):
    """The commands of the help in groups; without rich, typer would write one list."""

    def get_help(self, ctx: Any) -> str:
        fit_help(ctx)
        return str(super().get_help(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in groupby(
            self.commands.values(), lambda c: getattr(c, "rich_help_panel", "")
        ):
            with formatter.section(title):
                # Whole sentences, that the formatter wraps: a cut one says nothing.
                formatter.write_dl([(c.name, c.get_short_help_str(1000)) for c in commands])

    def invoke(self, ctx: Any) -> Any:
        # To typer a broken pipe is a reader that left, and the end of a file is Ctrl-D. Here they
        # come from files and processes: what is the terminal's is known to `vtrain.screen`.
        try:
            return super().invoke(ctx)
        except (EOFError, OSError) as error:
            raise UnexpectedError from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; of an unknown one say which it may be."""
        name = args[0]
        # A dash in front is an unknown option, and a shell that completes wants no errors.
        if name in self.commands or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        what = f"No such command '{name}'"
        # What stands behind it belongs to the command that was meant.
        rest = " ".join(printable(shlex.quote(word)) for word in args[1:])
        rest = rest if len(rest) <= MOST else ""
        raise ConfigError(what, "command line", self._suggestion(name, rest))

    def _suggestion(self, name: str, rest: str) -> str:
        from vtrain.files.image_names import is_image_name
        from vtrain.files.runs import RunFolder
        from vtrain.run.text.command import argument

        path = argument(Path(name))
        if name.endswith((".yaml", ".yml")) or RunFolder(Path(name)).is_started:
            return f"did you mean `{f'vtrain fit {path} {rest}'.rstrip()}`?"
        if is_image_name(name):
            return f"did you mean `{f'vtrain predict {path} {rest}'.rstrip()}`?"
        if hint := self._by_word(name.lower(), rest):
            return hint
        if os.path.isdir(name):  # noqa: PTH112 - a name too long for a file is none
            return f"did you mean `{f'vtrain fit {path} {rest}'.rstrip()}`?"
        return f"choose one of {', '.join(self.commands)}; see vtrain --help"

    def _by_word(self, word: str, rest: str) -> str | None:
        """Say which command a word is like, or how it is done otherwise; None if none is near."""
        known = list(self.commands)
        of = {peer: own for own, text in PEERS_WORDS.items() for peer in text.split()}
        words = {peer: own for peer, own in of.items() if own in known}
        near = difflib.get_close_matches(word, [*known, *words, *ELSEWHERE], n=1, cutoff=0.7)
        # Of so few letters two that have changed places look like another word.
        near = near or [name for name in known if sorted(name) == sorted(word)]
        if not near:
            return None
        if near[0] in ELSEWHERE:
            return ELSEWHERE[near[0]].replace("RUN", rest or "RUN")
        own = words.get(near[0], near[0])
        # What stands behind others' word for `eval` is mostly a model, which takes an option.
        behind = f" {rest}" if rest and own != "eval" else ""
        return f"did you mean `vtrain {own}{behind}`?"
