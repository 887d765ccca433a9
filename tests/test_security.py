"""What vtrain's source never does, and which one module may do each dangerous thing."""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WRITING = set("wax+")


@dataclass(frozen=True)
class Rule:
    """A danger, source code that has it, and the files that may."""

    danger: str
    bad: tuple[str, ...]
    allowed: tuple[str, ...] = ()


RULES = {
    "unpickling": Rule(
        "unpickling runs code",
        ("import pickle", "from pickle import loads", "import shelve", "import joblib, dill"),
    ),
    "evaluation": Rule(
        "evaluating text runs code",
        ("eval('1')", "exec(code)", "compile(s, f, m)", "__import__(name)", "builtins.eval(s)"),
    ),
    "dynamic import": Rule(
        "importing by a name from outside runs code",
        ("importlib.import_module(name)", "pkgutil.resolve_name(n)", "runpy.run_path(p)"),
        ("vtrain/registry.py",),
    ),
    "torch.load": Rule(
        "torch.load is called in one place, and never unpickles",
        (
            "torch.load(path, weights_only=True)",
            "torch.save(a, b)",
            "from torch import load\nload(path)",
            "import torch as t\nt.save(a, b)",
        ),
        ("vtrain/files/container.py",),
    ),
    "unsafe torch.load": Rule(
        "torch.load unpickles unless told not to",
        ("torch.load(path)", "torch.load(path, weights_only=safe)", "torch.load(weights_only=0)"),
    ),
    "torch loaders": Rule(
        "these loaders of torch run code from the file or the network",
        (
            "torch.jit.load(path)",
            "torch.export.load(path)",
            "torch.hub.load(repo, name)",
            "torch.hub.load_state_dict_from_url(url)",
            "torch.serialization.add_safe_globals([x])",
            "torch.package.PackageImporter(path)",
            "torch.ops.load_library(path)",
        ),
        ("vtrain/export/program.py",),  # what it has just written, to prove it
    ),
    "yaml": Rule(
        "YAML is read in one place, which refuses tags, aliases and duplicates",
        ("yaml.load(text, Loader=Strict)", "yaml.safe_load(text)", "import yaml"),
        ("vtrain/files/yaml.py",),
    ),
    "unsafe yaml": Rule(
        "YAML tags build any object",
        ("yaml.full_load(t)", "yaml.unsafe_load(t)", "yaml.load(t, yaml.Loader)"),
    ),
    "numpy": Rule(
        "NumPy unpickles objects", ("np.load(path, allow_pickle=True)", "f(allow_pickle=flag)")
    ),
    "processes": Rule(
        "no other program is started",
        (
            "import subprocess",
            "os.system('ls')",
            "os.popen('ls')",
            "os.execv(a, b)",
            "os.spawnl(a)",
            "run('ls', shell=True)",
            "pty.spawn(x)",
            "from os import system as run\nrun('ls')",
        ),
        ("vtrain/sweep/job.py",),  # `vtrain fit` itself, by the same Python
    ),
    "archives": Rule(
        "unpacking an archive writes wherever it says",
        ("archive.extractall(root)", "shutil.unpack_archive(a, b)", "archive.extract(x)"),
    ),
    "writing": Rule(
        "files are written in one place, atomically",
        (
            "open(path, 'w')",
            "open(path, mode='ab')",
            "path.open('x')",
            "path.open(mode)",
            "os.fdopen(descriptor, 'w+b')",
            "tarfile.open(path, 'w:')",
            "path.write_text('x')",
            "path.write_bytes(b'x')",
            "shutil.copy(a, b)",
            "numpy.save(path, array)",
            "os.replace(a, b)",
        ),
        # Beside it: what a trial prints, as it comes, and half a line that a power cut left.
        ("vtrain/files/atomic.py", "vtrain/files/lock.py", "vtrain/sweep/storage.py"),
    ),
    "creating": Rule(
        "files are created in one place, and locks where they are taken",
        ("os.open(path, os.O_RDWR | os.O_CREAT)",),
        ("vtrain/files/atomic.py", "vtrain/files/lock.py", "vtrain/files/downloads.py"),
    ),
    "temporary folders": Rule(
        "a temporary file elsewhere cannot be renamed into place, and /tmp is shared",
        ("import tempfile", "Path('/tmp/x')"),
        ("vtrain/run/bench.py",),  # runs that are thrown away
    ),
    "images": Rule(
        "images are opened in one place, with a closed list of formats",
        ("Image.open(path)", "PIL.Image.open(path)"),
        # The other hands pieces of a TIFF to its codec, and nothing else.
        ("vtrain/files/images.py", "vtrain/files/tiff_bands.py"),
    ),
    "image safety": Rule(
        "these switch Pillow's safety off, or start another program",
        (
            "ImageFile.LOAD_TRUNCATED_IMAGES = True",
            "Image.MAX_IMAGE_PIXELS = None",
            "ImageMath.eval(text)",
            "image.show()",
        ),
    ),
    "network": Rule(
        "nothing is fetched or served; the hub and torchvision's downloads are asked for by name",
        (
            "import requests",
            "import urllib.request",
            "from urllib import request",
            "import http.server",
            "bind(('0.0.0.0', 1))",
            "import uvicorn",
            "from starlette.applications import Starlette",
        ),
        (
            "vtrain/files/downloads.py",
            "vtrain/serve/app.py",  # what `vtrain serve` is for, to whom `serve/gate.py` lets it
            "vtrain/serve/gate.py",
            "vtrain/serve/server.py",
        ),
    ),
    "object collectives": Rule(
        "collectives of objects unpickle what a peer sent",
        ("dist.all_gather_object(a, b)", "dist.broadcast_object_list(a)"),
    ),
}

MODULES = {
    "unpickling": [
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "joblib",
        "cloudpickle",
        "marshal",
        "shelve",
    ],
    "processes": ["subprocess", "pty"],
    "temporary folders": ["tempfile"],
    "network": [
        "requests",
        "urllib.request",
        "http.client",
        "http.server",
        "ftplib",
        "smtplib",
        "aiohttp",
        "httpx",
        "socketserver",
        "uvicorn",
        "starlette",
    ],
    "yaml": ["yaml"],
    "dynamic import": ["runpy"],
}
CALLS = {
    "evaluation": ["eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"],
    "dynamic import": ["importlib.import_module", "pkgutil.resolve_name", "runpy.run_path"],
    "torch.load": ["torch.load", "torch.save"],
    "torch loaders": [
        "torch.jit.load",
        "torch.export.load",
        "torch.serialization.add_safe_globals",
        "torch.package.PackageImporter",
        "torch.ops.load_library",
        "torch.hub.load",
        "torch.hub.load_state_dict_from_url",
    ],
    "yaml": ["yaml.load", "yaml.safe_load"],
    "unsafe yaml": ["yaml.full_load", "yaml.unsafe_load"],
    "processes": ["os.system", "os.popen", "pty.spawn"],
    "archives": ["shutil.unpack_archive"],
    "writing": [
        "os.replace",
        "os.rename",
        "shutil.copy",
        "shutil.copyfile",
        "shutil.move",
        "numpy.save",
        "numpy.savez",
    ],
    "images": ["Image.open", "PIL.Image.open"],
    "image safety": ["ImageMath.eval", "ImageMath.unsafe_eval"],
}
MODE_SECOND = {"open", "io.open", "os.fdopen", "tarfile.open", "gzip.open"}
OTHER_OPEN = {"Image.open", "PIL.Image.open", "os.open", "webbrowser.open"}
METHODS = {
    "archives": ["extractall", "extract"],
    "writing": ["write_text", "write_bytes", "tofile"],
    "image safety": ["show"],
    "object collectives": [
        "all_gather_object",
        "gather_object",
        "scatter_object_list",
        "broadcast_object_list",
        "send_object_list",
        "recv_object_list",
    ],
}


Names = dict[str, str]
"""What a name stands for after the imports of a file: `F` -> `torch.nn.functional`."""


def imported(tree: ast.AST) -> Names:
    """Collect the names that a file's imports bind, wherever they stand."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def dotted(node: ast.AST, names: Names) -> str:
    """Return the full name `a.b.c` of such an expression, and an empty text for any other."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (head := dotted(node.value, names)):
        return f"{head}.{node.attr}"
    return ""


def dangers(node: ast.AST, names: Names) -> Iterator[str]:
    """Name the rules that one node breaks."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        named = [f"{source}{alias.name}." for alias in node.names]
        for rule, modules in MODULES.items():
            if any(name.startswith(f"{module}.") for name in named for module in modules):
                yield rule
    if isinstance(node, ast.Call):
        yield from dangers_of_call(node, names)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if "0.0.0.0" in node.value:
            yield "network"
        if node.value.startswith("/tmp"):
            yield "temporary folders"
    if dotted(node, names) == "os.O_CREAT":
        yield "creating"
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if dotted(target, names).endswith(("LOAD_TRUNCATED_IMAGES", "MAX_IMAGE_PIXELS")):
                yield "image safety"


def dangers_of_call(node: ast.Call, names: Names) -> Iterator[str]:
    """Name the rules that one call breaks."""
    name = dotted(node.func, names)
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    yield from (rule for rule, calls in CALLS.items() if name in calls)
    if not name.startswith(("atomic.", "vtrain.files.atomic.")):
        yield from (rule for rule, methods in METHODS.items() if method in methods)
    if name == "torch.load" and not is_true(keywords.get("weights_only")):
        yield "unsafe torch.load"
    if name == "yaml.load" and any(dotted(a, names).startswith("yaml.") for a in node.args):
        yield "unsafe yaml"
    if "allow_pickle" in keywords:
        yield "numpy"
    if "shell" in keywords or name.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
        yield "processes"
    if name in MODE_SECOND or (method == "open" and name not in OTHER_OPEN):
        position = 1 if name in MODE_SECOND else 0
        if may_write(keywords.get("mode", [*node.args, None, None][position])):
            yield "writing"


def is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def may_write(mode: ast.AST | None) -> bool:
    """Whether a mode is anything but surely reading."""
    if mode is None:
        return False
    known = isinstance(mode, ast.Constant) and isinstance(mode.value, str)
    return not known or bool(WRITING & set(mode.value))  # type: ignore[attr-defined]


def broken(source: str) -> Iterator[tuple[str, int]]:
    tree = ast.parse(source)
    names = imported(tree)
    for node in ast.walk(tree):
        for rule in dangers(node, names):
            yield rule, getattr(node, "lineno", 0)


FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "vtrain").rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_no_file_does_what_it_may_not(file: str) -> None:
    found = [
        f"{file}:{line}: {RULES[rule].danger}"
        for rule, line in broken((ROOT / file).read_text())
        if file not in RULES[rule].allowed
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "bad"), [(name, bad) for name, rule in RULES.items() for bad in rule.bad]
)
def test_each_rule_finds_what_it_forbids(rule: str, bad: str) -> None:
    assert rule in [name for name, _ in broken(bad)]


@pytest.mark.parametrize(
    "good",
    [
        "open(path)",
        "open(path, 'rb')",
        "path.open()",
        "path.open('rb')",
        "os.fdopen(descriptor, 'rb')",
        "tarfile.open(path, 'r:')",
        "path.read_text()",
        "atomic.write_text(path, text)",
        "model.eval()",
        "re.compile(text)",
        "torch.compile(model)",
        "from vtrain.files.yaml import read_yaml",
        "from urllib.parse import urlsplit",
    ],
)
def test_harmless_code_breaks_no_rule(good: str) -> None:
    assert list(broken(good)) == []


def test_each_exception_is_still_needed() -> None:
    for name, rule in RULES.items():
        for file in rule.allowed:
            assert name in [found for found, _ in broken((ROOT / file).read_text())], (name, file)


def test_the_libraries_that_read_files_are_new_enough_to_be_safe() -> None:
    # torch: CVE-2025-32434 and CVE-2026-24747 end with 2.10; Pillow: CVE-2026-59199 with 12.3;
    # PyYAML: CVE-2020-14343 with 5.4.
    floors = {"torch": (2, 10), "pillow": (12, 3), "pyyaml": (6, 0, 2)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stated = {
        name.lower(): tuple(int(part) for part in version.split("."))
        for name, _, version in (line.partition(">=") for line in project["dependencies"])
    }
    assert {name: stated[name] for name in floors if stated[name] < floors[name]} == {}


def test_no_other_index_than_the_one_that_pip_was_given() -> None:
    texts = [p.read_text() for p in (ROOT / "scripts").glob("*") if p.is_file()]
    texts += [p.read_text() for p in (ROOT / ".ci").glob("*") if p.is_file()]
    assert not any("extra-index-url" in text for text in texts)
