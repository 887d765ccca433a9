"""Advice that can be followed: what to type so that a run which has failed goes on."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vtrain.config import Config, rule_on_resume
from vtrain.errors import (
    DataError,
    DivergedError,
    StoppedBySignal,
    VtrainError,
    shortened,
)
from vtrain.files.runs import RunFolder
from vtrain.run.text.command import argument, quoted, resume_command

log = logging.getLogger(__name__)

PLACE = re.compile(r"\b(vtrain (?:fit|check)) CONFIG\b")
"""What messages write where they do not know the config that was typed."""
KEY = re.compile(
    r"\b(?:model|data|augment|optimizer|schedule|train|checkpoint|logging)(?:\.[a-z_]+)+"
)
SETTING = re.compile(KEY.pattern + r"=[\w.+-]+")
SLOWER = 10
"""By how much less than the rate that diverged is proposed."""


@contextmanager
def naming_the_config(path: Path, overrides: Iterable[str] = ()) -> Iterator[None]:
    """Let errors of the block name the config that was typed, so that their advice can be pasted.

    Overrides that are wrong themselves are left out of it.
    """
    try:
        yield
    except VtrainError as error:
        errors = [error, *getattr(error, "others", ())]
        wrong = " ".join(str(each.where) for each in errors)
        right = [o for o in overrides if f"'{shortened(o)}'" not in wrong]
        for each in errors:
            if each.hint is not None:
                each.hint = with_config(each.hint, path, right)
        raise


def with_config(text: str, path: Path, overrides: Iterable[str] = ()) -> str:
    """Return a text whose commands name this config in place of `CONFIG`."""
    typed = " ".join([argument(path), *map(quoted, overrides)])
    return PLACE.sub(lambda found: f"{found[1]} {typed}", text)


@contextmanager
def after_a_failure(
    run: RunFolder, config: Config, *, accept_data_change: bool = False
) -> Iterator[None]:
    """Say what to type where the block fails and the run can go on from what is saved.

    With `accept_data_change` that is of other images, which are still others when it goes on.
    """
    try:
        yield
    except StoppedBySignal:  # it says so itself
        raise
    except VtrainError as error:
        if run.last.exists():
            change = remedy(error, config)
            accept = ["--accept-data-change"] if accept_data_change else []
            command = resume_command(run.path, accept + change)
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
