"""What docs/en/data.md says of folders, against what is used of 1,000 random ones."""

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.datasets.folder_trees import (
    CLASSES,
    INNER,
    LEFTOVERS,
    LIKE_SPLITS,
    SPLITS,
    TRAINING,
    expected,
    random_tree,
)
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain
from vtrain.config import config_from_text
from vtrain.data.datasets import folder_names
from vtrain.data.datasets.folder_names import class_name
from vtrain.data.datasets.samples import Samples
from vtrain.errors import DataError
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.run.build.resolve import resolve
from vtrain.run.evaluate import prepare
from vtrain.run.find_images import find_images

Found = dict[str, set[tuple[str, ...]]]
SOME, ALL = 60, 1000


def test_the_readme_lists_every_name_that_has_a_meaning() -> None:
    assert {name for name in LEFTOVERS if name[0] != "."} == {
        name for name in folder_names.LEFTOVERS if name[0] != "."
    }
    assert SPLITS == folder_names.SPLIT_NAMES


def by_class(samples: Samples, classes: tuple[str, ...], folder: Path) -> Found:
    """Return the images of each class, each found once."""
    found: Found = {name: set() for name in classes}
    for index, target in enumerate(samples.targets.tolist()):
        place = Path(samples.name(index)).relative_to(folder).parts
        assert place not in found[classes[target]]
        found[classes[target]].add(place)
    return found


def compare(seed: int, folder: Path, image: Path) -> str:
    """Compare what is used of one tree; return how it ended."""
    tree, follow_links = random_tree(seed)
    tree.write(folder, image)
    splits, model = expected(tree, follow_links)
    text = over_photographs(SMALL_RUN).replace("root: photos", f"root: {folder}/set")
    config = config_from_text(text, "x", [f"data.follow_links={str(follow_links).lower()}"])
    try:
        plan = resolve(config, trial=False)
        for split, classes in splits.items():
            samples = plan.train if split == "train" else plan.source.split(split)
            found = by_class(samples, plan.source.classes, folder)
            assert tuple(found) == tuple(sorted(found))
            assert {k: v for k, v in found.items() if v} == {k: v for k, v in classes.items() if v}
    except DataError as error:
        (line,) = error.lines()
        assert any(re.search(rule, line) for rule in model.refused), (line, model.refused)
        return "refused"
    assert not model.refused
    assert any("if those are the classes" in note for note in plan.source.notes) == model.asks
    return "asked" if model.asks else "used"


def predicted(seed: int, folder: Path) -> None:
    """Compare what predict finds below the folder of a tree."""
    tree, _ = random_tree(seed)
    _, model = expected(tree, True)
    wanted = list(model.images(("set",), ("set",), set()))
    if not wanted:
        with pytest.raises(DataError, match="no image was found"):
            find_images([f"{folder}/set"])
        return
    found = [path.relative_to(folder).parts for path in find_images([f"{folder}/set"])]
    assert found == wanted


def evaluated(seed: int, folder: Path, loaded: LoadedModel) -> None:
    """Compare what is evaluated of one tree by a model that knows every class."""
    tree, follow_links = random_tree(seed)
    splits, model = expected(tree, follow_links)
    split = next(name for name in ("val", "test", "train") if name in splits)
    reasons = model.refused - set(TRAINING)
    overrides = [f"data.root={folder}/set", f"data.follow_links={str(follow_links).lower()}"]
    try:
        samples = prepare(loaded, overrides).samples
    except DataError as error:
        (line,) = error.lines()
        assert any(re.search(rule, line) for rule in reasons), (line, reasons)
        return
    found = by_class(samples, loaded.classes, folder)
    assert {k: v for k, v in found.items() if v} == {k: v for k, v in splits[split].items() if v}


@pytest.fixture
def loaded(small_run: Path, vtrain: Vtrain) -> LoadedModel:
    """Train a model, for nothing, on every class that the random folders may have."""
    names = {class_name(name) for name in (*CLASSES, *LIKE_SPLITS, *INNER, "link")}
    plant_photographs({"train": dict.fromkeys(names, 1), "val": dict.fromkeys(names, 1)})
    small_run.write_text(over_photographs(SMALL_RUN))
    done = vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    assert done.code == 0, done.err
    return load_model(Path("run"))


def try_all(seeds: range, tmp_path: Path, loaded: LoadedModel) -> set[str]:
    image = tmp_path / "image.png"
    Image.new("RGB", (4, 4)).save(image)
    ends = set()
    for seed in seeds:
        folder = tmp_path / str(seed)
        try:
            ends.add(compare(seed, folder, image))
            predicted(seed, folder)
            evaluated(seed, folder, loaded)
        except Exception as error:
            error.add_note(f"tree {seed}")
            raise
    return ends


def test_some_random_folders_are_used_as_the_readme_says(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    assert try_all(range(SOME), tmp_path, loaded) == {"used", "asked", "refused"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_random_folders_are_used_as_the_readme_says(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    try_all(range(SOME, ALL), tmp_path, loaded)
