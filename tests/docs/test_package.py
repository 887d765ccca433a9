"""What pip installs: the wheel has every file that the program reads, and needs no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.docs.wheel import ROOT, build_wheel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and wheel from the tracked files, and unpack the wheel."""
    target = tmp_path_factory.mktemp("target")
    wheel = build_wheel(tmp_path_factory.mktemp("source"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_the_wheel_has_every_file_of_the_package_and_none_of_the_tests(installed: Path) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.typed", "*.html", "*.css", "*.js")
        for path in (ROOT / "vtrain").rglob(pattern)
    } | {f"vtrain/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    found = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert expected <= found
    assert not [name for name in found if name.startswith(("tests", "benchmarks", "scripts"))]


def test_it_trains_a_recipe_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "vtrain", "fit", "vit_digits", "train.max_steps=2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/vit_digits/*/summary.json"))
