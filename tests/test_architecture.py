"""The house rules that a program can check."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from benchmarks.measures import cycles, measure, modules
from vtrain.data.datasets.torchvision_table import TABLE
from vtrain.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES, Registry

ROWS = (
    "errors interrupt limits | rng resources registry distributed files screen | threads | device"
    " | layers optim data | models engine | inference"
    " | config callbacks bench explain report export serve sweep | run | cli api | __main__"
)
RANK = {name: rank for rank, row in enumerate(ROWS.split("|")) for name in row.split()}
SOURCE = sorted(Path("vtrain").rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Parts of vtrain that a file imports, at its head or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, rest = node.module.partition(".")
            if package == "vtrain":
                yield from [rest.split(".")[0]] if rest else [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("vtrain."))


@pytest.mark.parametrize("file", SOURCE, ids=str)
def test_imports_only_point_down(file: Path) -> None:
    module = file.relative_to("vtrain").parts[0].removesuffix(".py")
    if module == "__init__":
        return
    used = set(imported(ast.parse(file.read_text()))) - {module, "__version__"}
    upward = [u for u in used if RANK[u] >= RANK[module]]
    assert not upward, f"{file} is in '{module}', which must not import {upward}"


def test_the_rows_hold_every_part_of_the_package_and_nothing_else() -> None:
    parts = {file.relative_to("vtrain").parts[0].removesuffix(".py") for file in SOURCE}
    assert set(RANK) == parts - {"__init__"}


LIMITS = {
    "files over 300 lines": 5,
    "most parameters of a function": 14,
    "worst complexity": 15,
}
"""What may not grow without a reason. `scripts/bench measures` prints these, and where they are."""


@pytest.mark.parametrize("name", LIMITS)
def test_the_code_stays_within_what_can_be_read(name: str) -> None:
    found = measure(Path())[name]
    assert found.value <= LIMITS[name], found.where


def test_no_module_imports_itself_through_others() -> None:
    found = cycles(list(modules(Path(), "vtrain")))
    assert found.value == 0, found.where


def test_only_one_package_names_torch_distributed() -> None:
    named = [
        str(file)
        for file in SOURCE
        for node in ast.walk(ast.parse(file.read_text()))
        if (
            isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.distributed")
        )
        or (
            isinstance(node, ast.Import)
            and any(alias.name.startswith("torch.distributed") for alias in node.names)
        )
    ]
    assert {Path(file).parts[1] for file in named} == {"distributed"}


def test_only_the_two_top_rows_see_the_whole_config() -> None:
    seers = [
        str(file)
        for file in SOURCE
        if "config" in imported(ast.parse(file.read_text()))
        and file.parts[1] not in ("config", "run", "cli")
    ]
    assert seers == []


@pytest.mark.parametrize("registry", [MODELS, SOURCES, OPTIMIZERS, SCHEDULES, LOSSES])
def test_every_component_is_described_and_tested(registry: Registry) -> None:
    tests = "\n".join(file.read_text() for file in Path("tests").rglob("test_*.py"))
    # The contract tests run over every model, and the tests of torchvision's datasets over a table.
    everywhere = MODELS.names() if registry is MODELS else list(TABLE)
    for name in registry.names():
        assert registry[name].summary, f"{registry.kind} {name} has no docstring"
        assert name in everywhere or name in tests, f"no test names the {registry.kind} {name}"


def test_no_folder_of_tests_is_passed_over(request: pytest.FixtureRequest) -> None:
    passed_over = request.config.getini("norecursedirs")
    folders = {folder for file in Path("tests").rglob("test_*.py") for folder in file.parents}
    names = {folder.name for folder in folders} - {""}
    assert [name for name in names if any(fnmatch(name, pattern) for pattern in passed_over)] == []
