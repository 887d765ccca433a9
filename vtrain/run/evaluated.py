"""Which images an evaluation is of: the run's own, or all of another dataset's, and it says so."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from vtrain.config import Config, EvaluationConfig
from vtrain.data.datasets.folder_names import split_of
from vtrain.data.datasets.samples import Samples, SplitName
from vtrain.data.datasets.splits import MOVED, TEST_CHOOSES, Split
from vtrain.data.inspect.fingerprint import fingerprint
from vtrain.data.labels import classes_present
from vtrain.errors import ConfigError, DataError, printable
from vtrain.inference.loaded import LoadedModel
from vtrain.run.build.data import build_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """The images of an evaluation."""

    config: Config
    source: Split
    split: SplitName
    samples: Samples
    is_own: bool
    """Whether they are of the run's own dataset."""
    as_run: bool
    """Whether that is split as the run splits it."""
    is_all: bool = False
    """Whether they are taken because there are no others."""
    holds_out_others: bool = False
    """Whether they are held out of training in another way than the run's."""

    @property
    def validates(self) -> bool:
        """Whether they are what the run itself was validated on."""
        return self.is_own and self.as_run and self.split == "val"


def split_name(text: str) -> SplitName:
    """Return the split that an option names, in any of its usual words.

    Raises:
        ConfigError: There is none of that name.
    """
    if (split := split_of(text)) is not None:
        return split
    hint = f"choose one of {', '.join(get_args(SplitName))}"
    raise ConfigError(f"there is no split called '{text}'", "--split", hint)


def choose_images(
    loaded: LoadedModel, config: EvaluationConfig, split: SplitName | None
) -> Evaluated:
    """Find the images, and say how many they are, of which split and where.

    Without a `split` they are the run's own validation images or, of another dataset, its
    validation images, else its test images, else all.

    Raises:
        DataError: There are no such images.
    """
    run, as_run = loaded.checkpoint.dataset, not config.has_other_split
    # As the run's own first, with its split: the images themselves tell whether they are.
    source = build_source(config.changed, run) if _may_be_own(config) else None
    if source is not None and config.is_other_data and not _is_moved(source, run):
        source = None
    if source is not None:
        found = _find(config.changed, source, split or "val", as_run=as_run)
        found = replace(found, holds_out_others=source.holds_out and _holds_out_others(config))
    else:
        source = build_source(config.whole)
        name = split or _default(source)
        found = _find(config.whole, source, name, is_own=False, as_run=False)
        found = replace(found, is_all=split is None and name == "train")
    _say(found, run, loaded.classes)
    return found


def _holds_out_others(config: EvaluationConfig) -> bool:
    # A smaller part of what the run held out, by `limit` or `fraction`, was not trained on either.
    before, after = (c.data.model_dump() for c in (config.run, config.changed))
    return any(before.get(key) != after.get(key) for key in ("val_fraction", "fold"))


def _default(source: Split) -> SplitName:
    order: tuple[SplitName, ...] = ("val", "test", "train")
    return next((split for split in order if split in source.splits), "val")


def _may_be_own(config: EvaluationConfig) -> bool:
    # The run's dataset may have moved: the same names, sizes and classes elsewhere.
    same_kind = config.run.data.name == config.changed.data.name
    return not config.is_other_data or (same_kind and not config.has_other_split)


def _is_moved(source: Split, run: dict[str, object]) -> bool:
    """Whether a dataset elsewhere holds the very images that the run was validated on."""
    with contextlib.suppress(DataError):
        return fingerprint(source.split("val")) == run.get("val")
    return False


def _find(
    config: Config, source: Split, split: SplitName, *, is_own: bool = True, as_run: bool
) -> Evaluated:
    # What stands for validation images is theirs alone: of another dataset nothing is stood for.
    stands_in = is_own and source.official(split) in source.splits
    if not source.splits:
        source.split(split)  # which says what it looked for
    if split not in source.splits and not stands_in:
        choice = " or ".join(f"--split {name}" for name in source.splits)
        where = data_place(config)
        raise DataError(f"there is no {split} split", where, f"take {choice}" if choice else None)
    return Evaluated(config, source, split, source.split(split), is_own, as_run)


def data_place(config: Config) -> str:
    """Return the folder or the list of a dataset, or its name where it has none."""
    paths = (str(value) for _, value in config.data if isinstance(value, Path))
    return next(paths, config.data.name)


def _say(found: Evaluated, run: dict[str, object], known: tuple[str, ...]) -> None:
    log.info("images  %s", printable(_counted(found, len(known))))
    for note in _notes(found, run):
        log.log(
            logging.WARNING if note.startswith("warning") else logging.INFO,
            "note    %s",
            printable(note),
        )


def _counted(found: Evaluated, known: int) -> str:
    source, samples = found.source, found.samples
    # What there would be without `fraction` and `limit`, so that a part is known as one.
    whole = len(replace(source, fraction=1.0, limit=None).split(found.split))
    count = f"{len(samples):,}" if whole == len(samples) else f"{len(samples):,} of {whole:,}"
    if found.is_all:
        kind = "all that there are"
    elif source.holds_out and found.split == "val":
        fold, part = source.fold, source.val_fraction
        how = f"val_fraction {part:g}" if fold is None else f"fold {fold.index} of {fold.of}"
        kind = f"held out of training by {how}"
    else:
        kind = f"split {source.official(found.split)}"
    present = len(classes_present(samples.targets))
    images = "image" if count == "1" else "images"
    where = f"{count} {images} of {data_place(found.config)}"
    # Features are judged on classes that the model does not know, too.
    classes = f"{present} of {known} classes" if present <= known else f"{present} classes"
    return f"{where}, {kind}, in {classes}"


def _notes(found: Evaluated, run: dict[str, object]) -> Iterator[str]:
    """Yield what the reader of the images ignored, and what the model may know of them."""
    source, split = found.source, found.split
    yield from (n for n in source.notes if found.is_own or n != TEST_CHOOSES)
    # Of other images the run says nothing, and of the test images it trains on none.
    if not found.is_own or split == "test":
        return
    if split == "train":
        yield "warning: the model was trained on these images"
    elif found.holds_out_others:
        yield "warning: the run held out others: the model was trained on some of these"
    before = run.get(split)
    if not found.as_run or not isinstance(before, dict):
        return
    now = fingerprint(found.samples)
    if now == before:
        return
    counts = f"{before.get('images')} then, {now['images']} now"
    yield f"these images have changed since the run began: {counts}"
    if source.moves_images:
        yield f"warning: {MOVED}"
    elif split == "val" and source.holds_out:
        yield "they are held out by name, so that none of them was trained on"
