"""The page of a sweep: its best trials, what mattered, and how good the best really is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vtrain.report import figures
from vtrain.report.figures import Series
from vtrain.report.render import environment, value

SHOWN = 10
"""Trials in the table of the best; another one has all of them."""
WIDE = 50
"""From this ratio of the largest to the smallest value on, an axis shows factors."""


@dataclass(frozen=True)
class Slice:
    """The metric by the values of one key."""

    key: str
    figure: Markup
    names: Sequence[str]
    """What 0, 1, ... stand for, where the values are no numbers."""


def sweep_page(data: Mapping[str, Any]) -> str:
    """Return the page of what `sweep.json` says."""
    done = [trial for trial in data["trials"] if trial["state"] == "finished"]
    is_larger = data["direction"] == "maximize"
    ranked = sorted(done, key=lambda t: (-t["value"] if is_larger else t["value"], t["number"]))
    keys = list(dict.fromkeys(key for trial in data["trials"] for key in trial["values"]))
    context = {
        "d": data,
        "best": ranked[:SHOWN],
        "keys": keys,
        "history": _history(done, data["metric"], is_larger) if done else None,
        "slices": [_slice(n, key, done) for n, key in enumerate(keys)] if done else [],
        "states": [t["state"] for t in data["trials"]],
    }
    return environment().get_template("sweep.html").render(context)


def _history(done: Sequence[Mapping[str, Any]], metric: str, is_larger: bool) -> Markup:
    """Draw each trial's value, and the best until then."""
    numbers = [trial["number"] for trial in done]
    values = [trial["value"] for trial in done]
    best = max if is_larger else min
    so_far = [best(values[: n + 1]) for n in range(len(values))]
    return figures.curves(
        "history", [Series(numbers, values), Series(numbers, so_far)], "trial", metric
    )


def _slice(number: int, key: str, done: Sequence[Mapping[str, Any]]) -> Slice:
    given = [trial["values"].get(key) for trial in done]
    metric = [trial["value"] for trial in done]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
        wide = min(given) > 0 and max(given) / min(given) >= WIDE
        return Slice(key, figures.points(f"slice{number}", given, metric, log=wide), ())
    names = sorted({value(v) for v in given})
    places = [names.index(value(v)) for v in given]
    return Slice(key, figures.points(f"slice{number}", places, metric), names)
