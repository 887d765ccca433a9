from pathlib import Path

import pytest

from vtrain.config import load_config
from vtrain.config.recipes import (
    FOLDER,
    Recipe,
    config_file,
    existing_config,
    find_recipe,
    recipes,
)
from vtrain.errors import ConfigError


def test_every_config_of_the_project_is_shipped_under_its_name() -> None:
    assert FOLDER.resolve() == Path("configs").resolve(), "one copy of each file"
    assert [recipe.name for recipe in recipes()] == sorted(
        p.stem for p in Path("configs").glob("*.yaml")
    )


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_a_recipe_says_what_it_is_for_and_what_was_measured(recipe: Recipe) -> None:
    head = recipe.path.read_text().split("seed:")[0]
    assert recipe.purpose.split()[0] == head.split()[1], "the first word after the #"
    assert "Run:" not in recipe.purpose
    assert recipe.expect
    assert recipe.expect.split()[-1] in head


def test_a_name_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("vit_digits")).model.embed_dim == 96


def test_a_file_of_the_user_comes_before_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vit_digits").write_text("mine")
    assert config_file(Path("vit_digits")) == Path("vit_digits")


@pytest.mark.parametrize("given", ["a.yaml", "folder/vit_digits", "/vit_digits", "../vit_digits"])
def test_a_path_is_not_taken_for_a_name(given: str) -> None:
    assert config_file(Path(given)) == Path(given)


def test_a_name_that_is_nearly_right_gets_the_right_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'swin_t_cifar'"):
        config_file(Path("swin_t_cifr"))


@pytest.mark.parametrize("name", ["../vit_digits", "/etc/passwd", "", "."])
def test_no_other_file_is_a_recipe(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no recipe"):
        find_recipe(name)


@pytest.mark.parametrize("given", ["swin_t_cifar.yaml", "configs/swin_t_cifar.yml"])
def test_the_file_of_a_recipe_is_answered_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean 'swin_t_cifar' \(a recipe\)"):
        existing_config(Path(given))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("Photo", "did you mean 'photos'?"),
        ("smal", "did you mean 'small.yaml'?"),
        ("swin_t_cifr", "did you mean 'swin_t_cifar' (a recipe)?"),
        ("Nosuch", "give a YAML file, a run folder, a folder of images, or what `vtrain recipes`"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_what_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Path("small.yaml").touch()
    with pytest.raises(ConfigError, match="no such config, run, folder or recipe") as caught:
        config_file(Path(given))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("sub/smal.yaml", "did you mean 'sub/small.yaml'?"),
        ("sub/small.yml", "did you mean 'sub/small.yaml'?"),
        ("sub/x/small.yaml", "give a YAML file, a run folder, a folder of images"),
    ],
)
def test_a_file_that_is_not_there_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/small.yaml").touch()
    with pytest.raises(ConfigError, match="the config was not found") as caught:
        load_config(Path(given))
    assert hint in str(caught.value)


def test_a_mistake_in_a_recipe_names_it_as_it_was_typed() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Path("swin_t_cifar"), ["model.name=vit_s"])
    lines = Path("configs/swin_t_cifar.yaml").read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "window_size" in line)
    assert caught.value.lines()[0].startswith("vit_s has no key model.window_size, as the ")
    assert f" (recipe swin_t_cifar:{number}): " in caught.value.lines()[0]
