"""Which images a user means by files, folders and globs on the command line."""

import glob
import logging
import os
from pathlib import Path

from vtrain.data.datasets.folder_listing import images_below
from vtrain.data.datasets.folder_names import LEFTOVERS, is_leftover, leftover_kind
from vtrain.data.datasets.passed_over import PassedOver
from vtrain.data.progress import said_if_long
from vtrain.errors import ConfigError, DataError, printable
from vtrain.files.image_names import is_image_name
from vtrain.files.runs import RunFolder
from vtrain.run.text.command import argument

log = logging.getLogger(__name__)


MODELS = (".pt", ".pth", ".safetensors", ".onnx")
"""Endings of files that are no images, whatever they are called."""


def is_model(path: Path) -> bool:
    """Whether a path is that of a run or of a file with a model."""
    return path.suffix.lower() in MODELS or (path.is_dir() and RunFolder(path).is_started)


def find_images(patterns: list[str]) -> list[Path]:
    """Return the image files that files, folders and globs name, in their order, each once.

    Below a folder the rules of training hold; links are followed. What is passed over is said. One
    among several that names no image stays as it is: who reads it meets a file that there is not.

    Raises:
        DataError: None of them names an image.
        ConfigError: One of them is a URL, a run or a checkpoint.
    """
    paths: list[Path] = []
    absent: list[tuple[str, str]] = []
    for pattern in patterns:
        if "://" in pattern:
            raise ConfigError("only local images are read", pattern, "download the file first")
        passed = PassedOver()
        path = Path(pattern)
        if is_model(path):
            what = "this is a model or a run, not an image"
            raise ConfigError(what, pattern, f"write --ckpt {argument(path)} behind the images")
        # A broken link is named by the user: it is an image that cannot be read, not no image.
        if path.exists() or path.is_symlink():
            found = _of(path, passed)
        else:
            found = _matches(pattern, passed)
        if not found:
            absent.append((pattern, f"no image was found{passed.said()}"))
            found = [path]
        for text in passed.reasons().values():
            log.info("ignored %s in %s", text, pattern)
        paths += found
    if len(absent) == len(patterns):
        pattern, what = absent[0]
        raise DataError(what, pattern, "give a file, a folder or a glob")
    for pattern, what in absent:
        log.warning("%s (%s)", what, pattern)
    return _each_once(paths)


def _each_once(paths: list[Path]) -> list[Path]:
    """Leave out what has come before: it would count twice in whatever is made of the answers."""
    once: dict[str, Path] = {}
    for path in paths:
        once.setdefault(os.path.normpath(path), path)
    again = len(paths) - len(once)
    if again:
        words = "1 image is" if again == 1 else f"{again} images are"
        log.info("%s named more than once: taken once", words)
    return list(once.values())


def _of(path: Path, passed: PassedOver) -> list[Path]:
    """Return a file, or the images below a folder."""
    is_folder = path.is_dir()
    # A shell's `*` names the leftovers of a system, but a hidden folder only who means it.
    if path.name.casefold() in LEFTOVERS or (is_leftover(path.name) and not is_folder):
        passed.leftovers[leftover_kind(path.name)] += 1
        return []
    if not is_folder:
        return [path]
    found, below = images_below(path)
    passed.add(below)
    return found


def _matches(pattern: str, passed: PassedOver) -> list[Path]:
    """Return the images that a glob stands for, each once."""
    parts = Path(pattern).parts
    literal = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    # One that names an ending means it, whatever files of that kind hold.
    ending = Path(pattern).suffix
    is_open = not ending or glob.has_magic(ending)
    found: list[Path] = []
    folders: set[Path] = set()
    with said_if_long(f"looking for {printable(pattern)}"):
        matched = glob.glob(pattern, recursive=True)  # noqa: PTH207 - absolute patterns too
    for path in sorted(map(Path, matched)):
        if not folders.isdisjoint(path.parents):  # `**` names folders and also what is in them
            continue
        leftover = next((part for part in path.parts[literal:] if is_leftover(part)), None)
        if leftover is not None:
            passed.leftovers[leftover_kind(leftover)] += 1
        elif path.is_dir():
            folders.add(path)
            found += _of(path, passed)
        elif is_open and not is_image_name(path.name):
            passed.endings[path.suffix.lower()] += 1
        else:
            found.append(path)
    return found
