"""What renders every page: all that is put in is escaped, and numbers are said in one way."""

import math

import jinja2

from vtrain.report.facts import flat

DASH = "\u2013"  # stands for what is not defined


def environment() -> jinja2.Environment:
    """Return what renders the pages: everything that is put in is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vtrain.report", "templates"),
        autoescape=True,  # names of classes, files and runs are a stranger's text
        undefined=jinja2.StrictUndefined,  # a misspelt name fails and leaves no blank
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "count": count,
        "threshold": threshold,
        "value": value,
        "fact": fact,
        "figure": figure_text,
        "flat": flat,
    }
    return environment


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return DASH if share is None or math.isnan(share) else f"{share * 100:.{digits}f}\u00a0%"


def number(amount: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, a small one with so many significant digits."""
    if amount is None or math.isnan(amount):
        return DASH
    # Below that the decimals would hold one significant digit at most.
    small = 0 < abs(amount) < 10 ** -(digits - 1) and digits > 1
    return f"{amount:.{digits}g}" if small else f"{amount:,.{digits}f}"


def threshold(probability: float) -> str:
    """Return a threshold to be typed: never rounded up, which would shut out what reached it."""
    missing = 1 - probability
    if probability <= 0 or missing <= 0:
        return f"{probability:.0f}"
    # Four digits of it, and two of what is missing to 1.
    digits = max(3 - math.floor(math.log10(probability)), 1 - math.floor(math.log10(missing)))
    return f"{math.floor(probability * 10**digits) / 10**digits:.{digits}f}"


def count(amount: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return DASH if amount is None else f"{amount:,.0f}"


def figure_text(amount: float | None, name: str) -> str:
    """Return a figure of a run in the form that its name calls for."""
    if name.endswith(("top-1", "top-5")):
        return percent(amount, 2)
    if name == "seconds":
        return number(amount, 1)
    if name in ("parameters", "images/s", "peak MB"):
        return count(amount)
    return number(amount) if name != "epochs" else count(amount)


def fact(anything: object, name: str) -> str:
    """Return a measured value, of which the name says what it is, as a person reads it."""
    if isinstance(anything, bool) or not isinstance(anything, int | float):
        return value(anything)
    if name.endswith("bytes"):
        return f"{anything / 1e6:,.1f} MB"
    if name.endswith("seconds") and math.isfinite(anything):
        minutes, seconds = divmod(round(anything), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{anything:,}" if isinstance(anything, int) else value(anything)


def value(anything: object) -> str:
    """Return a value of a config or of a summary as a person would write it."""
    if isinstance(anything, float):
        return f"{anything:.6g}"
    if anything is None:
        return DASH
    if isinstance(anything, bool):
        return "true" if anything else "false"
    if isinstance(anything, list | tuple):
        return "[" + ", ".join(value(item) for item in anything) + "]"
    return str(anything)
