"""Every figure that the README or a page states is one that a kept result holds.

Below a paragraph or table with measured figures stands a comment, which a reader does not see:

    <!-- kept: benchmarks/results/cpu_2_cores_all_32px.txt configs/vit_digits.yaml -->

Each figure of that paragraph is in one of these files, rounded as the page states it. A paragraph
with figures and without such a line has them in a block of the same page, which other tests run, or
is in `NOT_MEASURED` or `NOT_KEPT`, with the reason.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.reference import pages
from tests.docs.test_pages import BLOCK

PAGES = [
    page
    for page in [*Path().glob("README*.md"), *sorted(Path("docs").rglob("*.md"))]
    # These are made of the code, and state its limits and defaults.
    if page not in pages() and page.name != "security.md"
]
UNIT = r"(?:%|images/s|times\b|points|ms\b|s\b|min\b|KB|MiB|MB|GB|倍|秒|分钟|个百分点|毫秒)"
NUMBER = r"\d[\d,]*(?:\.\d+)?"
FIGURE = re.compile(
    rf"(?<![\w.,])({NUMBER})(?= ?{UNIT})"
    rf"|(?<![\w.,])({NUMBER})(?= (?:to|and|到|和) {NUMBER} ?{UNIT})"
    r"|(?<![\w.])(\d[\d,]*\.\d+)(?!\.?\w)"
)
"""A number with a unit of time, size or share, the first of a range, or one with decimals."""
NO_FIGURE = re.compile(
    r"`[^`]*`|\]\([^)]*\)|arXiv:\S+|(?:torch|Python|Pillow|transformers|starlette) [\d.]+"
)
"""Code, addresses and versions."""
KEPT = re.compile(r"<!-- kept: (.+) -->")

NOT_MEASURED = {
    "data.md": {"sqrt(n f (1 - f))": "a formula", "1 %": "a limit of the program",
                "check CONFIG --data": "a default of mean and std",
                "128 MiB": "a limit of the program"},
    "results.md": {"95 %": "the level of an interval"},
    "models.md": {"4.91": "computed by test_models_page"},
    "report.md": {"95 %": "the level of an interval", "80 %": "an example of a probability"},
    "explain.md": {"95 %": "the level of an interval"},
    "together.md": {"32 x 32": "a limit of the program", "77 MB": "4 bytes times 50,000 times 384",
                    "0.07 |": "a default", "95 %": "the level of an interval"},
    "serve.md": {"408, 504": "limits of the program, as test_serve_page holds",
                 "413, 415": "limits of the program, as test_serve_page holds"},
}  # fmt: skip
"""Words of paragraphs whose figures are no measurements, in both languages, and what they are."""
NOT_KEPT = {
    "data.md": {"6.8": "scripts/bench large_jpegs"},
    "explain.md": {"0.99": "pytest -m study -s tests/explain/test_planted.py"},
    "results.md": {"18.7": "scripts/bench augment and scripts/bench data_share"},
    "serve.md": {"1.90 [1.76, 2.06]": "scripts/bench serve"},
}
"""Words of paragraphs whose figures were measured by a command that they name, before its output
was kept. This list may only become shorter."""


def paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """Yield each paragraph or row of a table of a page, with the line of its source, or nothing."""
    parts = [part.strip() for part in re.split(r"\n\s*\n", BLOCK.sub("", text)) if part.strip()]
    for part, following in pairwise([*parts, ""]):
        kept = KEPT.fullmatch(following)
        if kept is None and not KEPT.fullmatch(part) and part.startswith("|"):
            yield from ((row, "") for row in part.splitlines())
        elif not KEPT.fullmatch(part):
            yield part, kept[1] if kept else ""


def figures(text: str) -> list[str]:
    """Return the figures of a paragraph as they are written."""
    return ["".join(found) for found in FIGURE.findall(NO_FIGURE.sub(" ", text))]


def numbers(text: str) -> list[float]:
    """Return every number of a text."""
    return [float(found.replace(",", "")) for found in re.findall(NUMBER, text)]


def holds(known: list[float], figure: str) -> bool:
    """Return whether a figure is one of these numbers, rounded to its own decimals."""
    value, decimals = float(figure.replace(",", "")), len(figure.partition(".")[2])
    return any(abs(number - value) <= 0.5000001 * 10**-decimals for number in known)


def excused(page: Path, paragraph: str) -> bool:
    lists = (NOT_MEASURED, NOT_KEPT)
    return any(words in paragraph for each in lists for words in each.get(page.name, ()))


def kept(paths: str) -> str:
    """Return the results in files: all of a table, the head of a recipe."""
    texts = []
    for path in map(Path, paths.split()):
        assert path.is_relative_to("benchmarks/results") or path.is_relative_to("configs"), path
        text = path.read_text(encoding="utf-8")
        if path.is_relative_to("configs"):
            text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
        texts.append(text)
    return "\n".join(texts)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_figure_is_in_a_kept_result(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = numbers("".join(block for kind, block in BLOCK.findall(text) if kind != "sh"))
    for paragraph, source in paragraphs(text):
        if excused(page, paragraph):
            assert not source
            continue
        known = numbers(kept(source)) if source else shown
        missing = [figure for figure in figures(paragraph) if not holds(known, figure)]
        assert not missing, f"{source or 'no kept result'} does not hold {missing}: {paragraph}"


def test_what_is_excused_is_there() -> None:
    for page, words in [(p, w) for each in (NOT_MEASURED, NOT_KEPT) for p in each for w in each[p]]:
        for language in ("en", "zh"):
            place = Path("docs", language, page)
            assert not place.exists() or words in place.read_text(encoding="utf-8"), (place, words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it is 3.21 (3.02 to 3.51) times as fast", ["3.21", "3.02", "3.51"]),
        ("at 1,900 images/s after 49 to 56 s and 2 %", ["1,900", "49", "56", "2"]),
        ("快 8.3 个百分点, 用时 12 秒", ["8.3", "12"]),
        ("torch 2.15, `lr=0.1` and arXiv:2010.11929: 12 heads of 64 at 224 px", []),
        ("tokens^1.99", ["1.99"]),
    ],
)
def test_a_figure_is_told_from_other_numbers(text: str, found: list[str]) -> None:
    assert figures(text) == found


@pytest.mark.parametrize(
    ("figure", "held"), [("1.00", True), ("1.0", True), ("1.01", False), ("1,002", False)]
)
def test_a_figure_may_be_rounded_and_not_changed(figure: str, held: bool) -> None:
    assert holds(numbers("median 1.002 of 1,003 turns"), figure) is held
