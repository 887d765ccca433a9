"""A run's folder among the images would be a class or a split at the next listing."""

from pathlib import Path

from vtrain.config import Config
from vtrain.data.datasets.folder_layout import read_layout
from vtrain.data.datasets.folder_names import split_of
from vtrain.errors import ConfigError
from vtrain.files.runs import RunFolder


def refuse_among_images(folder: Path, config: Config) -> None:
    """Refuse a folder that the next listing of the images would take for a class or a split.

    Raises:
        ConfigError: It lies in a split's folder, is called like a split, or is the dataset's own.
    """
    root = getattr(config.data, "root", None)
    if config.data.name != "image_folder" or root is None or RunFolder(folder).is_started:
        return
    layout, place, top = read_layout(root), folder.resolve(), root.resolve()
    if place == top:
        what = "the run's folder would be that of the images"
    elif images := next((s for s in layout.splits.values() if _is_in(place, s)), None):
        what = f"the run's folder would be a class of the images, as it lies in {images}"
    elif place.is_relative_to(top) and split_of(place.relative_to(top).parts[0]) is not None:
        what = "the run's folder would be a split of the images, by its name"
    else:
        return
    raise ConfigError(what, folder, "name one elsewhere, for example --run-dir ../run")


def _is_in(place: Path, folder: Path) -> bool:
    return place.is_relative_to(folder.resolve())
