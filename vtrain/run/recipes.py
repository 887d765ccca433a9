"""`vtrain recipes`: the configs that come with vtrain."""

import textwrap
from pathlib import Path

from vtrain.config import Config, load_config
from vtrain.config.recipes import SCHEMA, Recipe, find_recipe, recipes
from vtrain.errors import StorageError, counted
from vtrain.files.atomic import write_text
from vtrain.run.keys import schema_text


def recipes_text() -> str:
    """Return what there is: name, model, parameters, purpose and what was measured of each."""
    return "\n\n".join(map(_entry, recipes())) + (
        "\n\nParameters are counted with ten classes. `vtrain fit NAME` trains one,\n"
        "`vtrain recipes NAME` shows its file, and `vtrain recipes NAME --copy` writes it here."
    )


def _entry(recipe: Recipe) -> str:
    config = load_config(recipe.path)
    model = f"{config.model.name}, {_parameters(config) / 1e6:.1f} M parameters"
    pixels, epochs = config.data.image_size, config.train.epochs
    title = f"{recipe.name}: {model}, {pixels} x {pixels} pixels, {counted(epochs, 'epoch')}"
    texts = (recipe.purpose, f"Expect: {recipe.expect}")
    return "\n".join([title, *(textwrap.indent(textwrap.fill(text, 96), "  ") for text in texts)])


def _parameters(config: Config) -> int:
    """Count the weights of a recipe's model, with a head of ten classes."""
    import torch

    from vtrain.models.profile import count_parameters
    from vtrain.run.build.model import build_model

    with torch.device("meta"):
        return count_parameters(build_model(config, 10))


def recipe_text(name: str) -> str:
    """Return a recipe's file.

    Raises:
        ConfigError: There is no such recipe.
    """
    return find_recipe(name).path.read_text(encoding="utf-8")


def copy_recipe(name: str, folder: Path = Path()) -> Path:
    """Write a recipe into a folder, to edit it, and return where it is.

    Beside it lies what editors complete and check it with; one that is there already stays.

    Raises:
        ConfigError: There is no such recipe.
        StorageError: A file of that name is there, or it cannot be written.
    """
    path = folder / f"{name}.yaml"
    text = recipe_text(name)
    if path.exists():
        raise StorageError("the file is there already", path, "move it, or go to another folder")
    write_text(path, text)
    if not (schema := folder / SCHEMA).exists():
        write_text(schema, schema_text())
    return path
