"""Findings have the stated form: head, pins, a line in the table; they stay out of the wheel."""

import os
import re
import tomllib
from pathlib import Path

import pytest

FINDINGS = sorted(Path("findings").glob("*_*.sh"))
FIELDS = ["Software", "Input", "Guess", "Seen", "Matters", "vtrain"]


@pytest.mark.parametrize("script", FINDINGS, ids=lambda path: path.stem)
def test_a_finding_has_its_head_and_pins_and_does_without_vtrain(script: Path) -> None:
    text = script.read_text()
    head = text[: text.index("\nsource ")]
    assert re.findall(r"^# (\w+): \S", head, re.M) == FIELDS
    (line,) = re.findall(r"^install (.+)$", text, re.M)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in line.split())
    assert not re.search(r"(import|from|install.*) vtrain\b", text)
    assert os.access(script, os.X_OK)


def test_the_table_has_each_finding_once() -> None:
    table = re.findall(r"^\| `(\w+\.sh)` \| .+ \|$", Path("findings/README.md").read_text(), re.M)
    assert table == [path.name for path in FINDINGS]


def test_the_wheel_does_not_hold_findings() -> None:
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == ["vtrain*"]
