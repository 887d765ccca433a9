"""Advice that can be followed: what to type so that a run which has failed goes on."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vtrain.config import Config, rule_on_resume
from vtrain.errors import DataError, DivergedError, StoppedBySignal, VtrainError
from vtrain.files.runs import RunFolder
from vtrain.run.text.command import resume_command

log = logging.getLogger(__name__)

KEY = re.compile(
    r"\b(?:model|data|augment|optimizer|schedule|train|checkpoint|logging)(?:\.[a-z_]+)+"
)
SETTING = re.compile(KEY.pattern + r"=[\w.+-]+")
SLOWER = 10
"""By how much less than the rate that diverged is proposed."""


@contextmanager
def after_a_failure(run: RunFolder, config: Config) -> Iterator[None]:
    """Say what to type where the block fails and the run can go on from what is saved."""
    try:
        yield
    except StoppedBySignal:  # it says so itself
        raise
    except VtrainError as error:
        if run.last.exists():
            change = remedy(error, config)
            command = resume_command(run.path, change)
            # An image that is still damaged would end the run again.
            when = "once that is mended, what is saved goes on"
            if change or not isinstance(error, DataError):
                when = "what is saved can go on"
            log.info("%s with: %s", when, command)
        raise


def remedy(error: VtrainError, config: Config) -> list[str]:
    """Return the override, if one is needed, without which the run would fail again."""
    if isinstance(error, DivergedError) and not SETTING.search(error.hint or ""):
        lr: float = config.optimizer.lr  # type: ignore[attr-defined] # every optimizer has it
        return [f"optimizer.lr={lr / SLOWER:g}"]
    settings = SETTING.findall(error.hint or "")
    free = [s for s in settings if rule_on_resume(config, s.partition("=")[0]) != "fixed"]
    return free[:1]  # more are alternatives


def for_a_resume(hint: str | None, config: Config) -> str | None:
    """Return a hint that says so if a run that goes on cannot follow it."""
    if hint is None or "new run" in hint:
        return hint
    fixed = [key for key in KEY.findall(hint) if rule_on_resume(config, key) == "fixed"]
    return f"{hint}, in a new run: this one keeps {fixed[0]}" if fixed else hint


def for_moved_data(error: VtrainError, config: Config) -> str | None:
    """Return the hint of an error, with what to type if the run's images are gone from there."""
    places = {key: getattr(config.data, key, None) for key in ("root", "file")}
    gone = [key for key, place in places.items() if place is not None and not place.exists()]
    if not isinstance(error, DataError) or not gone:
        return error.hint
    moved = f"if it has moved, add data.{gone[0]}=PLACE"
    return moved if error.hint is None else f"{moved}; {error.hint}"
