"""`scripts/bench`: every measuring command is listed, can be named, and runs."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """\
model: {name: vit_ti, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 64}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 2, batch_size: 16, device: cpu, precision: fp32}
"""


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["scripts/bench", *arguments], capture_output=True, text=True)


def listed() -> dict[str, str]:
    """Return each command that is listed, with what the list says of it."""
    return dict(re.findall(r"^  (\w+) +(.+)$", bench().stdout, re.M))


def test_what_can_be_started_is_listed_with_the_first_line_of_its_docstring() -> None:
    found = listed()
    files = [*Path("benchmarks").glob("*.py"), *Path("benchmarks").glob("*/__main__.py")]
    started = [file for file in files if 'if __name__ == "__main__":' in file.read_text()]
    texts = {}
    for file in started:
        name = file.parent.name if file.stem == "__main__" else file.stem
        importlib.import_module(f"benchmarks.{name}")  # it names nothing that is gone
        texts[name] = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
    assert found == texts
    assert all(line.endswith(".") for line in found.values())


@pytest.mark.parametrize("name", ["bench_peers", "verdict", "../vtrain", "t.ees"])
def test_an_unknown_name_is_refused_with_the_names_there_are(name: str) -> None:
    done = bench(name)
    assert done.returncode == 2
    assert f"no measurement '{name}', only:\n  attention" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("attention --shape 2,2,9,8 --repeats 1", 10),  # five ways in each of two dtypes
        ("linear --shape 64,32,32 --repeats 1", 5),
        ("checkpoint_overhead small.yaml --pairs 1 --steps 1", 6),
        ("augment --image-size 16 --batch-size 4 --batches 1 --rounds 1 --cpu-time", 9),
    ],
)
def test_a_command_that_has_no_test_of_its_own_prints_its_table(
    tmp_path: Path, command: str, rows: int
) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    name, *arguments = command.replace("small.yaml", str(tmp_path / "small.yaml")).split()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == rows
