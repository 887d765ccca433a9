"""What happens to a run when an image cannot be read."""

import logging
import math
from typing import Literal, TypeAlias

from vtrain.errors import DataError, VtrainError

OnBadImage: TypeAlias = Literal["error", "skip"]
MAX_SKIPPED = 0.01
"""The part of a dataset that `skip` may leave out before it is an error after all."""
FEW = 10
"""Images that may be left out of a small dataset even so, as long as they are a tenth at most."""
MAX_WARNINGS = 10
"""Images that are named in a warning; the others are named in the log file only."""

logger = logging.getLogger(__name__)


def most_skipped(count: int) -> int:
    """Return how many of `count` images `skip` may leave out."""
    return min(max(math.ceil(MAX_SKIPPED * count), min(FEW, count // 10)), count - 1)


class Unreadable:
    """The images that cannot be read: the first one is an error, or some may be left out.

    Args:
        policy: `error` ends the run at the first one; `skip` leaves each out of its batch.
        count: Images in all.
        hint: What a user can do about one, in place of the decoder's advice.

    Attributes:
        left_out: Which images have been left out so far.
    """

    def __init__(self, policy: OnBadImage, count: int, hint: str | None = None) -> None:
        self.policy, self.count, self.hint = policy, count, hint
        self.left_out: set[int] = set()

    @property
    def skipped(self) -> int:
        """How many images have been left out."""
        return len(self.left_out)

    def report(self, index: int, error: VtrainError) -> None:
        """Stop at an image, or note that it is left out.

        Raises:
            DataError: The policy is `error`, or too many images are left out.
        """
        if self.policy == "error":
            # Notes hold the traceback of a mistake in a transform: no advice on images helps then.
            if self.hint is None or hasattr(error, "__notes__"):
                raise error
            raise DataError(error.what, error.where, self.hint) from error
        index %= self.count  # repeated views of an image have numbers beyond the last image
        if index in self.left_out:  # it was named in an earlier epoch
            return
        self.left_out.add(index)
        skipped = self.skipped
        level = logging.WARNING if skipped <= MAX_WARNINGS else logging.INFO
        logger.log(level, "left out: %s", error)
        if skipped > (most := most_skipped(self.count)):
            what = f"{skipped} of {self.count} images cannot be read, and {most} may be left out"
            hint = "mend or remove what `vtrain check CONFIG --data` lists"
            raise DataError(f"{what}; the last one is {error.what}", error.where, hint)
