from pathlib import Path

import pytest

from tests.harness import Vtrain
from vtrain.config import load_config
from vtrain.config.recipes import SCHEMA, recipes


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_has_every_recipe_with_its_purpose_and_result(vtrain: Vtrain) -> None:
    done = vtrain("recipes")
    assert done.code == 0
    for path in Path("configs").glob("*.yaml"):
        assert f"{path.stem}: {load_config(path).model.name}, " in done.out
    assert done.out.count("Expect: ") == len(list(Path("configs").glob("*.yaml")))


def test_a_recipe_is_shown_as_it_is(vtrain: Vtrain) -> None:
    done = vtrain("recipes", "vit_digits")
    assert done.out.rstrip() == Path("configs/vit_digits.yaml").read_text().rstrip()


def test_a_copy_trains_as_the_recipe_does(vtrain: Vtrain, elsewhere: Path) -> None:
    assert vtrain("recipes", "vit_digits", "--copy").code == 0
    assert {path.name for path in elsewhere.iterdir()} == {"vit_digits.yaml", SCHEMA}
    copy = load_config(elsewhere / "vit_digits.yaml")
    assert copy.to_yaml() == load_config(Path("vit_digits")).to_yaml()


def test_a_copy_replaces_no_file(vtrain: Vtrain, elsewhere: Path) -> None:
    (elsewhere / "vit_digits.yaml").write_text("mine")
    done = vtrain("recipes", "vit_digits", "--copy")
    assert done.code == 5
    assert "there already" in done.errors[0]
    assert (elsewhere / "vit_digits.yaml").read_text() == "mine"


def test_a_copy_leaves_the_schema_of_its_neighbour_alone(vtrain: Vtrain, elsewhere: Path) -> None:
    (elsewhere / SCHEMA).write_text("{}")
    assert vtrain("recipes", "vit_digits", "--copy").code == 0
    assert (elsewhere / SCHEMA).read_text() == "{}"


def test_what_is_for_editors_is_no_part_of_what_a_recipe_says() -> None:
    assert not [one for one in recipes() if "schema" in f"{one.purpose} {one.expect}"]


@pytest.mark.parametrize("arguments", [["vit_digit"], ["--copy"]])
def test_a_mistake_is_one_line(vtrain: Vtrain, arguments: list[str]) -> None:
    done = vtrain("recipes", *arguments)
    assert (done.code, len(done.errors)) == (2, 1)


def test_check_takes_a_name(vtrain: Vtrain, elsewhere: Path) -> None:
    assert vtrain("check", "vit_digits").code == 0
