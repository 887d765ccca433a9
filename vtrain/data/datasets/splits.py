"""Which samples train and which validate: held-out parts, folds, and small shares for quick runs.

An image that has a name is chosen by it alone (see `places`), so that new images move no others
between training and validation. Those of an array are chosen by their positions, in exact shares of
each class. No choice depends on a run's `seed`, so that runs with several seeds are comparable.
"""

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Annotated, get_args

from pydantic import Field, PositiveInt
from torch import Tensor

from vtrain.data.datasets.folder_names import absent_classes, printable_name
from vtrain.data.datasets.places import places
from vtrain.data.datasets.samples import (
    Photographs,
    Samples,
    Source,
    SplitName,
    Triple,
    subset,
)
from vtrain.data.datasets.stratified import (
    Fold,
    first_of_each,
    hold_out,
    in_fold,
    only_ones,
    stratified_sample,
)
from vtrain.data.labels import classes_present, strata
from vtrain.data.progress import said_if_long
from vtrain.errors import DataError
from vtrain.registry import Probability

TEST_CHOOSES = (
    "warning: there are no validation images, so the test images choose best.pt and any early end "
    "of the run, and are no test any more; data.val_fraction=0.1 holds out training images instead"
)
MOVED = (
    "the run held images out by their positions, as older versions did, and the images have "
    "changed: its split cannot be kept, and some of those held out now were trained on"
)


@dataclass(frozen=True)
class Split:
    """A source of which only some samples are used, split in another way.

    Args:
        source: The whole dataset.
        only: The split that is taken whichever is asked for, such as to evaluate on what is trained
            on; None takes the one that is asked for.
        kept: Names of images that are trained on although their places are among those held out:
            of a run that goes on or is evaluated, what its `kept_names` were.
        by_position: Whether images are chosen by their positions even if they have names, as those
            of runs of older versions were.
        val_fraction: The part of the training images that is held out and becomes `val`; at 0, the
            dataset's own validation images are used. Chosen by name, the part of a class is right
            on average: of n images, give or take sqrt(n f (1 - f)).
        fold: Hold out this fold instead.
        fraction: The part of each split that is used.
        limit: The number of images of each split that are used at most.

    Raises:
        ValueError: Two of the values contradict each other.
    """

    source: Source
    only: SplitName | None = None
    kept: tuple[str, ...] = ()
    by_position: bool = False
    _: KW_ONLY
    val_fraction: Probability = 0.0
    fold: Fold | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    limit: PositiveInt | None = None
    _read: dict[SplitName, Samples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.fold is not None and self.val_fraction:
            raise ValueError(f"fold and val_fraction ({self.val_fraction}) exclude each other")
        if self.fold is not None and self.fold.index >= self.fold.of:
            raise ValueError(
                f"fold.index ({self.fold.index}) must be less than fold.of ({self.fold.of})"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def mean(self) -> Triple:
        return self.source.mean

    @property
    def std(self) -> Triple:
        return self.source.std

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source says, and what is odd about the split once it has been made."""
        notes = [*self.source.notes]
        if self.official("val") == "test" and not self.holds_out:
            notes.append(TEST_CHOOSES)
        # Not worth the listing of a million files for a note: only if the split was asked for.
        if "_held_out" in vars(self):
            notes += self._absent_classes()
        return tuple(notes)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits that there are, without those that others stand for."""
        own = self.source.splits
        made = {"val"} if self.holds_out and "train" in own else set()
        return tuple(name for name in get_args(SplitName) if name in {*own, *made})

    @property
    def holds_out(self) -> bool:
        """Whether the validation images are taken from the training images."""
        return bool(self.val_fraction or self.fold)

    @property
    def moves_images(self) -> bool:
        """Whether new images move others between training and validation."""
        return self.by_position and self.holds_out and self._official("train").key(0) is not None

    @property
    def kept_names(self) -> tuple[str, ...]:
        """Names of images that are trained on so that their class is, sorted; see `kept`."""
        return self._held_out[1] if self.val_fraction else ()

    def official(self, name: SplitName) -> SplitName:
        """Return the split of the source that stands for one: test images, if none validate."""
        own = self.source.splits
        return "test" if name == "val" and "val" not in own and "test" in own else name

    def check_training(self) -> None:
        """Refuse a dataset that nothing can be learnt from.

        Raises:
            DataError: It has one class alone, or a class without a training image.
        """
        if isinstance(self.source, Photographs):  # published sets are whole
            self.source.check_training(self.classes)

    def split(self, name: SplitName) -> Samples:
        """Return the samples that are chosen for a split."""
        # First which images belong to the split, then how many of them: a quick run's validation
        # images are a part of a full run's.
        samples = self._whole(self.only or name)
        count = max(round(self.fraction * len(samples)), 1)
        if self.limit is not None:
            count = min(count, self.limit)
        if count >= len(samples):
            return samples
        groups = strata(samples.targets)
        chosen = stratified_sample(groups, count)
        if self._has_names(samples):  # as many of each class, but the first by place
            chosen = first_of_each(groups, self._places(samples), groups[chosen])
        return subset(samples, chosen)

    def _whole(self, name: SplitName) -> Samples:
        if name == "test" or not self.holds_out:
            return self._official(self.official(name))
        # Both parts come from the training images; official validation images stay unused.
        samples, (held_out, _) = self._official("train"), self._held_out
        chosen = held_out if name == "val" else ~held_out
        if not chosen.any():
            what = f"there are too few images to hold some out of {len(samples)}"
            raise DataError(what, None, self._larger())
        return subset(samples, chosen.nonzero()[:, 0])

    @cached_property
    def _held_out(self) -> tuple[Tensor, tuple[str, ...]]:
        """Which training images are held out, and the names of those that only seem to be."""
        samples = self._official("train")
        groups = strata(samples.targets)
        if not self._has_names(samples):
            if self.fold is not None:
                return in_fold(groups, self.fold), ()
            return hold_out(groups, self.val_fraction), ()
        place = self._places(samples)
        if self.fold is not None:
            return (place * self.fold.of).long() == self.fold.index, ()
        held_out, before = place < self.val_fraction, set(self.kept)
        kept = [
            i for i in held_out.nonzero()[:, 0].tolist() if before and _key(samples, i) in before
        ]
        held_out[kept] = False
        # After the run's own are back in training: a class that has one of them needs no other.
        kept += only_ones(groups, place, held_out)
        held_out[kept] = False
        return held_out, tuple(sorted(_key(samples, i) for i in kept))

    def _larger(self) -> str:
        """Say what would hold an image out where nothing does."""
        samples = self._official("train")
        if not self.val_fraction or not self._has_names(samples):
            return "add images, or take fewer folds" if self.fold else "add images"
        groups = strata(samples.targets)
        several = groups.bincount()[groups] > 1  # an only one is trained on
        if not several.any():
            return "add images: one of each class is trained on"
        least = float(self._places(samples)[several].min())
        return f"add images, or set data.val_fraction={math.floor(100 * least + 1) / 100:g} or more"

    def _absent_classes(self) -> Iterator[str]:
        """Say which classes have no image in a part of the split."""
        targets, (held_out, _) = self._official("train").targets, self._held_out

        def classes_in(chosen: Tensor) -> list[str]:
            return [self.classes[k] for k in classes_present(chosen).tolist()]

        known = classes_in(targets)
        parts = {"the held-out part": held_out, "the part left for training": ~held_out}
        for part, chosen in parts.items():
            yield from absent_classes(part, known, classes_in(targets[chosen]))

    def _has_names(self, samples: Samples) -> bool:
        return not self.by_position and len(samples) > 0 and samples.key(0) is not None

    def _places(self, samples: Samples) -> Tensor:
        with said_if_long("choosing images by their names"):
            return places(samples.key(i) or "" for i in range(len(samples)))

    def _official(self, name: SplitName) -> Samples:
        """Return a split of the source, which is read once: it may be a million files."""
        if name not in self._read:
            self._read[name] = self.source.split(name)
        return self._read[name]


def _key(samples: Samples, index: int) -> str:
    """Return a sample's name as text that a checkpoint can hold."""
    return printable_name(samples.key(index) or "")
