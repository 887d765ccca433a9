"""Count what makes code hard to read: lines, parameters, complexity, comments, import cycles.

Complexity is McCabe's number ("A complexity measure", 1976): one, and one more for each branch,
loop, handler, `and` or `or`, and for each loop and condition of a comprehension. What a nested
function does counts for itself alone. `self` and `cls` are no parameters. Comments stand on a line
of their own or behind code; docstrings, and the texts under fields, are neither comments nor code.
An import inside a function, or for type checkers alone, makes no cycle.
"""

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median, quantiles

LONG_FILE, LONG_FUNCTION = 300, 50
LAYOUT = {getattr(tokenize, name) for name in ("NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER")}
"""Tokens that stand for no code."""
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Figure:
    """One number, and where it was found if it belongs to one place."""

    value: float
    where: str = ""

    def __str__(self) -> str:
        return f"{self.value:,.1f}".removesuffix(".0") + (f"  {self.where}" if self.where else "")


@dataclass(frozen=True)
class Module:
    """A file of the package."""

    name: str
    """With dots, as it is imported."""
    path: str
    """Below the package."""
    text: str
    tree: ast.Module


def main() -> None:
    """Print the measures of one tree, or of two side by side."""
    parser = argparse.ArgumentParser("scripts/bench measures", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds the package")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another tree, shown first")
    parser.add_argument("--package", default="vtrain")
    given = parser.parse_args()
    roots = [root for root in (given.against, given.root) if root is not None]
    columns = [measure(root, given.package) for root in roots]
    for name, *figures in zip(columns[0], *(column.values() for column in columns), strict=True):
        print(f"{name:42}" + "".join(f"{figure!s:60}" for figure in figures).rstrip())


def measure(root: Path, package: str = "vtrain") -> dict[str, Figure]:
    """Return every measure of a package by its name.

    Raises:
        SystemExit: There is no such package.
    """
    found = list(modules(root, package))
    if not found:
        raise SystemExit(f"{root} has no package '{package}'")
    files = [Figure(len(m.text.splitlines()), m.path) for m in found]
    # Methods and nested functions, too.
    functions = [
        (m, node) for m in found for node in ast.walk(m.tree) if isinstance(node, Function)
    ]
    lengths = [at(m, node, (node.end_lineno or 0) - node.lineno + 1) for m, node in functions]
    code, comments = (sum(column) for column in zip(*(lines(m) for m in found), strict=True))
    return {
        "modules": Figure(len(found)),
        "lines": Figure(sum(figure.value for figure in files)),
        f"files over {LONG_FILE} lines": Figure(sum(f.value > LONG_FILE for f in files)),
        **spread("lines of a file", files),
        f"functions over {LONG_FUNCTION} lines": Figure(
            sum(f.value > LONG_FUNCTION for f in lengths)
        ),
        **spread("lines of a function", lengths),
        "most parameters of a function": max(at(m, f, parameters(f)) for m, f in functions),
        "most fields of a dataclass": max(fields(found), default=Figure(0)),
        "worst complexity": max(at(m, f, complexity(f)) for m, f in functions),
        "comments per 100 lines of code": Figure(100 * comments / code),
        "import cycles": cycles(found),
    }


def modules(root: Path, package: str) -> Iterator[Module]:
    """Yield the files of a package."""
    for file in sorted((root / package).rglob("*.py")):
        path, text = file.relative_to(root), file.read_text()
        # A package is imported by the name of its folder.
        name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        yield Module(name, str(path.relative_to(package)), text, ast.parse(text))


def at(module: Module, node: Function | ast.ClassDef, value: int) -> Figure:
    """Return a number with the place that it belongs to."""
    return Figure(value, f"{module.path}:{node.lineno} {node.name}")


def spread(name: str, figures: list[Figure]) -> dict[str, Figure]:
    """Return the median, the ninth decile and the largest."""
    values = [figure.value for figure in figures]
    decile = quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]
    return {
        f"{name}: median": Figure(median(values)),
        f"{name}: 9 of 10 have at most": Figure(decile),
        f"{name}: longest": max(figures),
    }


def lines(module: Module) -> tuple[int, int]:
    """Return how many lines hold code, and how many a comment."""
    texts: set[int] = set()  # lines of docstrings, and of texts under fields
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - texts), len(comments)


def parameters(function: Function) -> int:
    """Return the number of parameters, `*args` and `**kwargs` included."""
    given = function.args
    # A lone `*` is no parameter: the parser does not list it.
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")]) + sum(
        star is not None for star in (given.vararg, given.kwarg)
    )


def fields(found: list[Module]) -> Iterator[Figure]:
    """Yield the number of fields of each dataclass."""
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                yield at(module, node, sum(isinstance(n, ast.AnnAssign) for n in node.body))


def complexity(function: Function) -> int:
    """Return one more than the number of decisions."""
    decisions = 0
    for node in own_nodes(function):
        decisions += isinstance(node, BRANCHES)
        if isinstance(node, ast.BoolOp):
            # `a and b and c` is one node with two places to leave it.
            decisions += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            # A comprehension loops once for each `for`, and each `if` in it is a branch.
            decisions += 1 + len(node.ifs)
    return 1 + decisions


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is inside of a node, but not inside of functions, or for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        yield child
        inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not inner and not for_types:
            yield from own_nodes(child)


def cycles(found: list[Module]) -> Figure:
    """Return the number of import cycles that share no module, and the first of them."""
    graph = imports(found)
    first, count = "", 0
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
            first, count = first or " -> ".join(cycle), count + 1
            graph.pop(cycle[0])  # breaks it; what imports this module is a leaf there from now on
            graph = {name: used - {cycle[0]} for name, used in graph.items()}
        else:
            return Figure(count, first)


def imports(found: list[Module]) -> dict[str, set[str]]:
    """Return the modules of the package that each one imports when it is imported itself."""
    names = {module.name for module in found}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for module in found:
        for node in own_nodes(module.tree):
            if isinstance(node, ast.Import):
                used = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                # `from package import name`: the name is a module or something inside of one.
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                used = {name if name in names else node.module for name in whole}
            else:
                continue
            # What is not of this package is not our cycle.
            graph[module.name] |= used & names
    return graph


if __name__ == "__main__":
    main()
