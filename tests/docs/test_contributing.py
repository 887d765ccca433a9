"""CONTRIBUTING.md names what there is, and all of it; the other pages name what there is."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path("CONTRIBUTING.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
PLACES = ("vtrain/", "tests/", "benchmarks/", "scripts/", "configs/", ".ci/")
QUESTIONS = {
    "the training loop": ("vtrain/engine/trainer.py", "Trainer.fit"),
    "a batch augmented": ("vtrain/data/input.py", "Input"),
    "a checkpoint's schema": ("vtrain/files/checkpoint.py", "Checkpoint"),
    "logits asked for outside of training": ("vtrain/inference/outputs.py", "outputs_of"),
    "a new command to go": ("vtrain/run/", "vtrain/cli/"),
    "a new model to go": ("vtrain/models/", "@MODELS.register"),
}


def defined(file: Path) -> set[str]:
    """Return the classes, functions, methods and constants of a file."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def rows(section: str) -> dict[str, str]:
    """Return the two columns of the tables of a section, their heads left out."""
    table = re.findall(r"^\| (.+?) \| (.+) \|$", SECTIONS[section], re.M)
    return {left: right for left, right in table if right not in ("answer", "does", "touch")}


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "README.md", "SECURITY.md", "benchmarks/README.md"]
)
def test_every_path_exists(page: str) -> None:
    code = "|".join(map(re.escape, PLACES))
    text = Path(page).read_text()
    paths = set(re.findall(rf"[`\n](?:\w+ \w+ )?((?:{code})[^`\s]*)", text))
    assert paths
    # What has a placeholder is a file to be written, or that of a user: its folder exists.
    missing = [p for p in paths if not (Path(p).parent if "<" in p else Path(p)).exists()]
    assert not missing
    for name in re.findall(r"scripts/bench (\w+)", text):
        assert importlib.util.find_spec(f"benchmarks.{name}"), name


def test_every_room_is_in_the_map_once_and_in_the_order_of_the_rows() -> None:
    from tests.test_architecture import RANK

    (drawing,) = re.findall(r"```\n(.*?)```", SECTIONS["The map"], re.S)
    found = {}
    for number, line in enumerate(drawing.splitlines()):
        for name, slash in re.findall(r"(?:^|(?<=  ))(\w+)(/?)(?=  |$)", line):
            if name in RANK and not line.startswith("  "):
                assert name not in found, f"{name} is in the map twice"
                assert Path("vtrain", name).is_dir() == bool(slash)
                found[name] = number
    assert set(found) == set(RANK) - {"__main__"}
    ranks = [RANK[name] for name in sorted(found, key=lambda name: found[name])]
    assert ranks == sorted(ranks, reverse=True)


def test_the_map_shows_the_inner_rooms_of_run_and_data() -> None:
    for room in ("run", "data"):
        inner = {path.parent.name for path in Path("vtrain", room).glob("*/__init__.py")}
        (text,) = re.findall(rf"^{room}/.*\n((?:  .*\n)+)", SECTIONS["The map"], re.M)
        assert set(re.findall(r"\b(\w+)/", text)) == inner


def test_every_script_and_every_measurement_is_in_a_table() -> None:
    named = " ".join(rows("The scripts"))
    for script in Path("scripts").iterdir():
        assert f"`{script}" in named
    commands = [
        file.parent.name if file.stem == "__main__" else file.stem
        for file in Path("benchmarks").rglob("*.py")
        if re.search("^if __name__", file.read_text(), re.M) and not file.stem.endswith("_arm")
    ]
    assert set(commands) == set(re.findall(r"scripts/bench (\w+)", named))


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_an_answer_of_one_line_that_names_what_exists(question: str) -> None:
    answer = rows("Where is ...?")[question]
    for name in QUESTIONS[question]:
        assert f"`{name}`" in answer or f"`{name}" in answer
    # A name in front of a file is defined in it.
    for name, file in re.findall(r"`@?([\w.]+)`[^`|]*? (?:in|of) `([\w/]+\.py)`", answer):
        assert name.removesuffix(".register") in defined(Path(file))
    assert len(answer) < 160


@pytest.mark.parametrize("what", rows("To add something"))
def test_what_is_to_be_touched_names_what_exists(what: str) -> None:
    answer = rows("To add something")[what]
    for name, file in re.findall(r"`(\w+)`[^`|]*? (?:in|of) `([\w/]+\.py)`", answer):
        assert name in defined(Path(file))
    for name in re.findall(r"`@(\w+)\.register", answer):
        assert name in defined(Path("vtrain/registry.py"))
