# ruff: noqa: RUF001 - Chinese has commas of its own
"""The reference pages, made of the code itself: commands, keys, files, Python and security.

`scripts/reference` writes them; a test compares them with what they would be now. The frame is in
both languages, what the program says of itself in its own.
"""

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer

from vtrain import api as functions
from vtrain import errors
from vtrain.cli.commands import COMMANDS, app
from vtrain.config.keys import Key, all_keys
from vtrain.config.recipes import SCHEMA
from vtrain.files.checkpoint import Checkpoint, ModelDescription
from vtrain.files.runs import RunFolder
from vtrain.run.keys import schema_text

WIDTH = "92"
ENGLISH, CHINESE = "en", "zh"
COMMANDS_SAY = "This page is what `vtrain COMMAND --help` says."
KEYS_SAY = (
    "`vtrain keys` finds a key by its name, by plain words or by what other programs call it, and "
    "tells the default of each choice. `vtrain keys --schema > vtrain.schema.json` writes the JSON "
    "Schema with which editors complete and check a config beside it that has the line "
    "`# yaml-language-server: $schema=vtrain.schema.json`, as every recipe has."
)
RUN_SAYS = "`runs/<config>/<date_time>/` has these files."
CHECKPOINT_SAYS = (
    "A checkpoint is one file of plain data and tensors, of which nothing is executed. Its keys:"
)
CODES_SAY = "Each way to end has a code of its own:"
API_SAYS = "What programs and notebooks call. Each example is run by a test."
WORDS = {
    "Commands": "命令",
    "Use": "使用",
    "Understand": "理解",
    "Hand on": "交付",
    "Search": "搜索",
    "Look after": "维护",
    "Every key of a config": "配置的每一个键",
    "Files and exit codes": "文件与退出码",
    "The run folder": "训练文件夹",
    "The checkpoint": "检查点",
    "Exit codes": "退出码",
    "The Python API": "Python 接口",
    "Security": "安全",
    "file": "文件",
    "key": "键",
    "type": "类型",
    "default": "默认值",
    "meaning": "含义",
    "exit code": "退出码",
    COMMANDS_SAY: "本页就是 `vtrain COMMAND --help` 的输出。",
    KEYS_SAY: "`vtrain keys` 可以按键名、普通词语或其他程序的叫法查找一个键，"
    "并说明每种选择各自的默认值。`vtrain keys --schema > vtrain.schema.json` "
    "写出 JSON Schema，编辑器用它补全和检查旁边的配置，只要其中有一行 "
    "`# yaml-language-server: $schema=vtrain.schema.json`，每个配方都有。"
    "含义一栏是程序自己的英文说明。",
    RUN_SAYS: "`runs/<config>/<date_time>/` 中有以下文件。含义一栏是程序自己的英文说明。",
    CHECKPOINT_SAYS: "检查点是一个只含普通数据和张量的文件，任何内容都不会被执行。它的键：",
    CODES_SAY: "每一种结束方式都有自己的退出码：",
    API_SAYS: "供程序和笔记本调用。每个例子都由测试运行；说明是代码自己的英文文档。",
}
"""What the frame of the pages says, in English and Chinese."""


def pages() -> dict[Path, str]:
    """Return every generated page by its path."""
    made = {"commands": commands, "keys": keys, "files": files, "api": api}
    return {
        Path("docs", language, f"{name}.md"): "\n".join(page(Words(language))).rstrip() + "\n"
        for language in (ENGLISH, CHINESE)
        for name, page in made.items()
    } | {Path("docs/en/security.md"): Path("SECURITY.md").read_text(encoding="utf-8")}


@dataclass(frozen=True)
class Words:
    """The frame's words in one language."""

    language: str

    def __call__(self, english: str) -> str:
        return english if self.language == ENGLISH else WORDS[english]

    def head(self, *columns: str) -> Iterator[str]:
        """Yield the head of a table."""
        yield f"| {' | '.join(self(column) for column in columns)} |"
        yield "|" + "---|" * len(columns)


def commands(words: Words) -> Iterator[str]:
    """Yield the lines of the page on the command line."""
    yield from (f"# {words('Commands')}", "", words(COMMANDS_SAY), "")
    group = typer.main.get_command(app)
    above = group.make_context("vtrain", [], resilient_parsing=True)
    for title, members in COMMANDS.items():
        yield from (f"## {words(title)}", "")
        for name in members:
            command = group.commands[name]  # type: ignore[attr-defined]
            with patch.dict(os.environ, COLUMNS=WIDTH):
                text = command.get_help(
                    command.make_context(name, [], above, resilient_parsing=True)
                )
            yield from (f"### vtrain {name}", "", "```text", text.rstrip(), "```", "")


def keys(words: Words) -> Iterator[str]:
    """Yield the lines of the page on the keys: a table for each section."""
    yield from (f"# {words('Every key of a config')}", "", words(KEYS_SAY))
    section = None
    for key in all_keys().values():
        if (here := key.name.partition(".")[0]) != section:
            section = here
            yield from ("", f"## {section}", "", *words.head("key", "type", "default", "meaning"))
        yield row(f"`{key.name}`", " / ".join(types(key)), f"`{key.default}`", key.main.meaning)


def types(key: Key) -> list[str]:
    """Return what a key takes, once for all components that agree."""
    return list(dict.fromkeys(variant.type for variant in key.variants))


def row(*cells: str) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def files(words: Words) -> Iterator[str]:
    """Yield the lines of the page on run folder, checkpoint and exit codes."""
    yield f"# {words('Files and exit codes')}"
    yield from ("", f"## {words('The run folder')}", "", words(RUN_SAYS), "")
    yield from words.head("file", "meaning")
    texts = texts_below(RunFolder)
    names = {name: getattr(RunFolder, name) for name in vars(RunFolder)}
    shared = ""  # a text below several names is of all of them
    for name, value in reversed(names.items()):
        if isinstance(value, Path):
            shared = texts.get(name, shared)
            names[name] = row(f"`{value}`", shared)
    yield from (value for value in names.values() if isinstance(value, str) and "|" in value)
    yield from ("", f"## {words('The checkpoint')}", "", words(CHECKPOINT_SAYS), "")
    yield from words.head("key", "type", "meaning")
    for prefix, kind in (("", Checkpoint), ("model.", ModelDescription)):
        texts = texts_below(kind)
        for field in fields(kind):
            kind_name = getattr(field.type, "__name__", str(field.type))
            if field.type is not ModelDescription:
                shown = kind_name if "[" not in str(field.type) else str(field.type)
                text = texts.get(field.name, "")
                yield row(f"`{prefix}{field.name}`", f"`{shown.replace('typing.', '')}`", text)
    yield from ("", f"## {words('Exit codes')}", "", words(CODES_SAY), "")
    yield from words.head("exit code", "meaning")
    yield from (row(code, text) for code, text in exit_codes())


def exit_codes() -> Iterator[tuple[str, str]]:
    """Yield each exit code with what the error of it says of itself."""
    yield "0", "Done."
    yield "1", "A bug in vtrain; `--debug` shows where."
    for error in errors.VtrainError.__subclasses__():
        text = (inspect.getdoc(error) or "").partition("\n")[0]
        yield ("128 + n" if error is errors.StoppedBySignal else str(error.exit_code)), text


def texts_below(cls: type) -> dict[str, str]:
    """Return the string below each attribute of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node, text in zip(definition.body, definition.body[1:], strict=False):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and isinstance(text, ast.Expr):
            found[target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def api(words: Words) -> Iterator[str]:
    """Yield the lines of the page on the functions of the package."""
    yield from (f"# {words('The Python API')}", "", words(API_SAYS), "")
    for name in sorted(functions.__all__):
        member = getattr(functions, name)
        yield from (f"## vtrain.{name}", "", "```python", signature(name, member), "```", "")
        yield from docstring(inspect.getdoc(member) or "")
        if isinstance(member, type):
            yield from (f"- `{part}`: {text}" for part, text in parts(member))
            yield ""


def parts(cls: type) -> Iterator[tuple[str, str]]:
    """Yield the properties and methods of a class, each with the first line on it."""
    for name, member in vars(cls).items():
        function = getattr(member, "fget", getattr(member, "__func__", member))
        if not name.startswith("_") and inspect.isfunction(function):
            call = "" if isinstance(member, property) else "()"
            yield name + call, (inspect.getdoc(function) or "").partition("\n")[0]


def signature(name: str, member: Callable[..., Any]) -> str:
    """Return how something is called, as its source says it."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(member))).body
    if isinstance(node, ast.ClassDef):
        return f"vtrain.{name}"
    assert isinstance(node, ast.FunctionDef)
    returns = f" -> {ast.unparse(node.returns).strip(chr(39))}" if node.returns else ""
    return f"vtrain.{name}({ast.unparse(node.args)}){returns}"


def docstring(text: str) -> Iterator[str]:
    """Yield a docstring in Google's style as Markdown."""
    for part in re.split(r"\n(?=(?:Args|Attributes|Returns|Raises|Examples):\n)", text):
        title, _, rest = part.partition(":\n")
        rest = textwrap.dedent(rest)
        if title == "Examples":
            yield from ("```pycon", rest.rstrip(), "```", "")
        elif title in ("Args", "Attributes", "Raises"):
            yield from (f"**{title}**", "")
            for entry in re.split(r"\n(?=\S)", rest.rstrip()):
                name, _, meaning = " ".join(entry.split()).partition(": ")
                yield f"- `{name}`: {meaning}"
            yield ""
        elif title == "Returns":
            yield from (f"**{title}** {' '.join(rest.split())}", "")
        else:
            yield from (part.strip(), "")


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
    # For who edits recipes here; git leaves it out, as it is long and made in a second.
    Path("configs", SCHEMA).write_text(schema_text(), encoding="utf-8")
