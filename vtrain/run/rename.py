"""`vtrain rename`: a checkpoint that gives its classes other names."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vtrain.data.datasets.class_names import places, read_names, tidy
from vtrain.data.datasets.folder_names import first_five
from vtrain.errors import ConfigError, counted
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import checkpoint_of
from vtrain.registry import suggest

log = logging.getLogger(__name__)


def rename(path: Path, changes: Sequence[str], names: Path | None, output: Path) -> None:
    """Save a checkpoint's weights under other class names.

    No training goes on from it. Its images may stay in folders of the old names: the fingerprint of
    the dataset keeps those, and an evaluation finds the images by them.

    Args:
        path: A checkpoint or a run folder.
        changes: Of the form OLD=NEW.
        names: A file with a name a line for all classes in their order, in place of `changes`.
        output: The new checkpoint.

    Raises:
        CheckpointError: There is no sound checkpoint.
        ConfigError: A change names no class, or two classes would have one name.
        DataError: `names` cannot be read.
        StorageError: `output` cannot be written.
    """
    found = checkpoint_of(path)
    checkpoint = Checkpoint.load(found)
    before = checkpoint.classes
    after = listed(before, names) if names is not None else changed(before, changes)
    _check_distinct(before, after)
    replace(checkpoint.with_weights(checkpoint.weights), classes=after).save(output)
    count = sum(old != new for old, new in zip(before, after, strict=True))
    log.info("%d of %d classes of %s renamed in %s", count, len(before), found, output)


def listed(before: Sequence[str], names: Path) -> tuple[str, ...]:
    """Return the names in a file, which has one for each class."""
    after = read_names(names)
    if len(after) != len(before):
        what = f"{counted(len(after), 'name')} for {counted(len(before), 'class', 'classes')}"
        raise ConfigError(
            what, names, f"a line for each class, in this order: {first_five([*before])}"
        )
    return tuple(after)


def changed(before: Sequence[str], changes: Sequence[str]) -> tuple[str, ...]:
    """Return all names, some of them changed by OLD=NEW."""
    after = list(before)
    for change in changes:
        old, equals, new = (tidy(part) for part in change.partition("="))
        if not (old and equals and new):
            raise ConfigError(f"'{change:.80}' is no new name", "command line", "write OLD=NEW")
        numbers, unknown = places([old], before)
        if unknown:
            what = f"there is no class '{old:.80}'"
            raise ConfigError(what, "command line", suggest(old, [*before]))
        after[numbers[0]] = new
    return tuple(after)


def _check_distinct(before: Sequence[str], after: Sequence[str]) -> None:
    """Refuse names that would not tell classes apart."""
    number_of = {tidy(name): number for number, name in enumerate(before)}
    seen = set()
    for number, name in enumerate(after):
        if tidy(name) in seen:
            what = f"two classes would be called '{name:.80}'"
            raise ConfigError(what, "command line", "each class needs a name of its own")
        seen.add(tidy(name))
        # Folders of images may keep the old names, so these must go on meaning what they meant.
        if number_of.get(tidy(name), number) != number:
            what = f"'{name:.80}' is the old name of another class"
            raise ConfigError(what, "command line", "choose a name that no class had")
