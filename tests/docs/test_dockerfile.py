"""The Dockerfile, as far as it can be checked without a daemon."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from vtrain.cli.commands import app
from vtrain.config.recipes import find_recipe

TEXT = Path("Dockerfile").read_text()
LINES = [
    tuple(line.split(" ", 1))
    for line in TEXT.replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def of(kind: str) -> list[str]:
    return [rest for name, rest in LINES if name == kind]


def words(rest: str) -> list[str]:
    """Return the words of a command, in either of the two forms."""
    found = rest.partition("CMD ")[2] or rest
    return json.loads(found) if found.startswith("[") else shlex.split(found)


def ignored(name: str) -> bool:
    """Apply .dockerignore: the last rule that fits decides."""
    decision = False
    for rule in Path(".dockerignore").read_text().split("\n"):
        if rule and not rule.startswith("#") and Path(name).match(rule.removeprefix("!")):
            decision = not rule.startswith("!")
    return decision


def test_its_instructions_are_known_and_in_order() -> None:
    kinds = [name for name, _ in LINES]
    known = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}
    assert set(kinds) <= known
    assert kinds[0] == "FROM"
    assert kinds[-1] == "CMD"
    assert kinds.count("CMD") == kinds.count("FROM") == 1


def test_the_base_is_pinned_and_new_enough() -> None:
    (base,) = of("FROM")
    found = re.fullmatch(r"python:(\d+)\.(\d+)\.(\d+)-slim-\w+", base)
    assert found, f"{base} is not pinned"
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    oldest = tuple(map(int, re.findall(r"\d+", project["requires-python"])))
    assert tuple(map(int, found.groups())) >= oldest
    # What SECURITY.md asks for of that minor version.
    patched = re.findall(rf"{found[1]}\.{found[2]}\.(\d+)", Path("SECURITY.md").read_text())
    assert all(int(found[3]) >= int(patch) for patch in patched)


def test_all_that_is_copied_exists_and_is_not_ignored() -> None:
    copied = [name for rest in of("COPY") for name in rest.split()[:-1]]
    assert {"pyproject.toml", "vtrain", "configs"} <= set(copied)
    for name in copied:
        assert Path(name).exists(), name
        assert not ignored(name), name
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert project["readme"] in copied  # the build reads it
    for name in ("runs", "data", ".git", ".venv", "tests"):
        assert ignored(name), name


def test_what_is_installed_exists() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = re.findall(r'"\.\[(\w+)\]"', TEXT)
    assert extras == ["serve"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert "extra-index-url" not in TEXT


def test_nobody_runs_it_as_root_and_no_secret_is_in_it() -> None:
    kinds = [name for name, _ in LINES]
    (user,) = of("USER")
    assert f"useradd --create-home --uid 1000 {user}" in TEXT
    assert user not in ("root", "0")
    assert kinds.index("USER") < kinds.index("CMD")
    last = len(LINES) - 1 - [rest.startswith("vtrain fit") for _, rest in LINES][::-1].index(True)
    assert kinds.index("USER") < last, "what is trained belongs to the user"
    assert "VTRAIN_TOKEN" not in "".join(rest for _, rest in LINES)


@pytest.mark.parametrize("rest", [r for r in of("RUN") + of("CMD") if words(r)[0] == "vtrain"])
def test_its_commands_are_vtrain_s_and_parse(rest: str) -> None:
    _, name, *arguments = words(rest)
    command = typer.main.get_command(app).commands[name]
    with command.make_context(name, list(arguments)) as context:
        given = context.params
    if name == "fit":
        assert find_recipe(str(given["config"]))
    else:
        assert str(given["ckpt"]) == "digits"  # what was trained
        assert given["token"] is None  # comes with the container
        assert of("EXPOSE") == [str(given["port"])]
        assert f"127.0.0.1:{given['port']}/health" in of("HEALTHCHECK")[0]


def test_the_page_on_it_says_what_the_file_does() -> None:
    page = Path("docs/en/serve.md").read_text()
    assert "docker build -t vtrain ." in page
    assert "docker run --rm -p 127.0.0.1:8000:8000 -e VTRAIN_TOKEN=" in page
    assert "docker build -t vtrain ." in TEXT
