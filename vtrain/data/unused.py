"""Say once of images that are read what is not used of them: further pages, further channels."""

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from vtrain.errors import counted
from vtrain.files.surplus import Surplus

PAGES_UNUSED = "several pages or frames: only the first is used"
CHANNELS_UNUSED = (
    "more channels than are used (data.channels), such as transparency, which is put on white"
)
SAID = {Surplus.PAGES: PAGES_UNUSED, Surplus.CHANNELS: CHANNELS_UNUSED}

T = TypeVar("T")

log = logging.getLogger(__name__)


class Unused:
    """Remembers which images have more than is used of them, until that is said.

    It may be told by several threads at once.

    Args:
        whose: What the images are for, such as `training `, in what is said.
        is_part: Whether other processes read others of the images.
    """

    def __init__(self, whose: str = "", is_part: bool = False) -> None:
        self.whose, self.least = whose, "at least " * is_part
        self.found: dict[int, Surplus] = {}
        self._said = False

    def note(self, index: int, surplus: Surplus) -> None:
        """Note what image `index` has beyond what is used."""
        if surplus:
            self.found[index] = surplus

    def said_after(self, results: Iterable[T]) -> Iterator[T]:
        """Pass results on, and say at their end what was not used of their images."""
        try:
            yield from results
        finally:  # also where nobody asks for the rest
            self.say()

    def say(self) -> None:
        """Say how many images have what, unless it was said before or there are none."""
        if self._said:
            return
        for kind, text in SAID.items():
            count = sum(kind in surplus for surplus in self.found.values())
            if count:
                self._said = True
                have = "has" if count == 1 else "have"
                images = self.least + counted(count, f"{self.whose}image")
                log.info("note    %s %s %s", images, have, text)
