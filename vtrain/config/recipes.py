"""The recipes that come with vtrain: YAML files of `configs/`, found by name from any folder."""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import vtrain
from vtrain.errors import ConfigError, printable, shortened
from vtrain.registry import suggest

YAML = (".yaml", ".yml")
# A link in a checkout, and a copy of the files in what pip installs.
FOLDER = Path(vtrain.__file__).parent / "configs"
SCHEMA = "vtrain.schema.json"
"""What editors complete and check a config with, beside the recipes, which name it."""
FOR_EDITORS = "# yaml-language-server: "


@dataclass(frozen=True)
class Recipe:
    """A config that is shipped, and what its first comment says of it."""

    path: Path
    purpose: str
    expect: str
    """What it reaches, and where that was measured."""

    @property
    def name(self) -> str:
        """What `vtrain fit NAME` calls it."""
        return self.path.stem

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """Read the comment at the head of a recipe: its purpose, then lines such as `Expect:`."""
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [x for x in lines[: _length_of_head(lines)] if not x.startswith(FOR_EDITORS)]
        head = [line.removeprefix("#").strip() for line in comments]
        # `Word:` at the start of a line begins a part; what comes before the first is the purpose.
        purpose, *parts = re.split(r"\n(?=[A-Z]\w+: )", "\n".join(head))
        named = dict(part.split(":", 1) for part in parts)
        return cls(path, " ".join(purpose.split()), " ".join(named.get("Expect", "").split()))


def _length_of_head(lines: list[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


def recipes() -> list[Recipe]:
    """Return every recipe, by name."""
    return [Recipe.read(path) for path in sorted(FOLDER.glob("*.yaml"))]


def recipe_names() -> list[str]:
    """Return the name of every recipe, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        ConfigError: None is called so; the message offers the nearest ones.
    """
    path, names = FOLDER / f"{name}.yaml", recipe_names()
    if name not in names:  # and not: if the path exists, for a name may hold `../`
        raise ConfigError(f"there is no recipe '{name}'", "command line", suggest(name, names))
    return Recipe.read(path)


def config_file(given: Path) -> Path:
    """Return the YAML file that `given` means: itself, or the recipe of this name.

    A file or folder that is there comes first: a recipe must not hide a user's own file.

    Raises:
        ConfigError: It looks like a recipe's name, and there is no such recipe.
    """
    if "=" in given.name and not given.exists():
        hint = "the config comes first, or a folder of images, and KEY=VALUE behind it"
        raise ConfigError("no config is named", f"command line '{shortened(str(given))}'", hint)
    if given.suffix or len(given.parts) != 1 or given.exists():
        return given
    names = recipe_names()
    if given.name in names:
        return find_recipe(given.name).path
    raise ConfigError("no such config, run, folder or recipe", given, _meant(given, names))


def existing_config(given: Path) -> Path:
    """Return the YAML file that `given` means, which is there.

    Raises:
        ConfigError: It is not; the message names what is nearest to it.
    """
    path = config_file(given)
    if str(given).startswith(("http:/", "https:/")):
        raise ConfigError("only local configs are read", given, "download the file first")
    if not path.exists():
        # Of a recipe only the name is written: its file is not in this folder.
        names = recipe_names() if given.suffix.lower() in YAML else ()
        raise ConfigError("the config was not found", given, _meant(given, names))
    return path


def _meant(given: Path, names: Collection[str]) -> str:
    """Say what may be meant by a name that is not there: what lies there, or a recipe."""
    try:
        there = sorted(p for p in given.parent.iterdir() if p.is_dir() or p.suffix in YAML)
    except OSError:  # the folder is not there, either
        there = []
    for part in ("name", "stem"):  # of `a.yml` the nearest is `a.yaml`, of `a` it is that as well
        of = {getattr(path, part).lower(): path for path in there}
        near = difflib.get_close_matches(getattr(given, part).lower(), of, n=1, cutoff=0.75)
        if near:
            return f"did you mean '{printable(str(of[near[0]]))}'?"
    near = difflib.get_close_matches(given.stem, names, n=1)
    if near:
        return f"did you mean '{near[0]}' (a recipe)?"
    return "give a YAML file, a run folder, a folder of images, or what `vtrain recipes` lists"
