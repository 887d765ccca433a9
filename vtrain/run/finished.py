"""What `--resume` means for a run that is finished: nothing, or a longer run."""

import json
import logging
from collections.abc import Iterable, Iterator

from vtrain.config import Config, load_config, rule_on_resume
from vtrain.errors import ConfigError
from vtrain.files.atomic import sweep
from vtrain.files.runs import RunFolder
from vtrain.run.request import Request, value_at
from vtrain.run.resume import check_fixed, differences
from vtrain.run.text.command import resume_command

log = logging.getLogger(__name__)

LONGER = {
    "train.epochs": "train.epochs={more}",
    "train.max_steps": "train.max_steps=null",
    "train.max_minutes": "train.max_minutes=null",
    "train.early_stopping": "train.early_stopping=null",
}
"""What ends a run, and what to type to train on."""


def is_complete(run: RunFolder, request: Request) -> bool:
    """Return whether there is nothing left to do: the run is finished, and not to be longer.

    Raises:
        ConfigError: A value would change that no longer can have an effect, or never may.
    """
    if not run.is_finished:
        return False
    before, after = load_config(run.config), request.config
    check_fixed(before, after, run.path)
    limit = ended_by(run, before)
    if goes_beyond(limit, before, after, run):
        return False
    changed = differences(before, after)
    command = longer_command(run, before, _kept(changed, after))
    if any(key in LONGER or rule_on_resume(after, key) != "free" for key in changed):
        what = f"the run is finished, and {', '.join(changed)} would change nothing"
        hint = f"{limit} ended it; train on with `{command}`, or start a new run"
        raise ConfigError(what, run.path, hint)
    if changed:  # they say how to train, not what: a job's own command, begun again, is no mistake
        log.info("the run is finished, so %s changes nothing", ", ".join(changed))
    log.info("the run is already complete; see %s", run.summary)
    log.info("%s ended it; to train on, for example: %s", limit, command)
    sweep(run.path)  # what is left of predictions whose writing was killed
    return True


def longer_command(run: RunFolder, config: Config, others: Iterable[str] = ()) -> str:
    """Return the command that trains a finished run for longer, with other overrides too."""
    limits = [ended_by(run, config)]
    if limits == ["train.epochs"] and config.train.max_steps is not None:
        limits.append("train.max_steps")  # it ended with the epochs, and would end the run again
    longer = [LONGER[key].format(more=2 * config.train.epochs) for key in limits]
    return resume_command(run.path, [*longer, *others])


def _kept(changed: list[str], config: Config) -> Iterator[str]:
    """Yield as overrides what was typed and may change, but for what would end the run again."""
    values = config.model_dump(mode="json")
    for key in changed:
        is_there, value = value_at(values, key)
        if is_there and not key.startswith(tuple(LONGER)):
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def ended_by(run: RunFolder, config: Config) -> str:
    """Return the key that ended a finished run."""
    reason = run.read_status().get("reason")
    if reason is None:
        epoch = run.read_summary().get("epoch")
        whole = config.train.max_steps is None or epoch == config.train.epochs
        return "train.epochs" if whole else "train.max_steps"
    return "train.max_minutes" if "train.max_minutes" in str(reason) else "train.early_stopping"


def goes_beyond(limit: str, before: Config, after: Config, run: RunFolder) -> bool:
    """Return whether a config trains longer than what ended a run, which is `limit`."""
    old, new = before.train, after.train
    changed = differences(before, after)
    step = run.read_status().get("step")
    if new.max_steps is not None and isinstance(step, int) and step >= new.max_steps:
        return False
    match limit:
        case "train.epochs":
            return new.epochs > old.epochs
        case "train.max_steps":
            return limit in changed  # none, or more than the steps done
        case "train.max_minutes":
            minutes = (old.max_minutes, new.max_minutes)
            return None in minutes or float(minutes[1] or 0) > float(minutes[0] or 0)
    return any(key.startswith(limit) for key in changed)
