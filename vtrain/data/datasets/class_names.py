"""Names of classes, wherever they come from: made comparable, and looked at for usual mistakes."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from vtrain.errors import DataError

MISSING = frozenset({"nan", "none", "null", "<na>", "n/a", "na", "undefined", "nat"})
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?")


def tidy(name: str) -> str:
    """Return a name without blanks around it, its accents written in one way (Unicode's NFC).

    A Mac writes `é` as two characters, others as one: to the eye, and here, that is one name.
    """
    return unicodedata.normalize("NFC", name).strip()


def places(classes: Sequence[str], known: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return where the classes are among `known` by name, and those that are not there.

    Neither blanks around a name count nor its Unicode form, but where two of `known` differ by no
    more than that.
    """
    pairs = list(reversed(list(enumerate(known))))  # of two equal ones, the first is found
    # A name as it is written wins over one that is only tidied to it.
    numbers = {tidy(name): number for number, name in pairs} | {name: n for n, name in pairs}
    found = [numbers.get(name, numbers.get(tidy(name))) for name in classes]
    unknown = [name for name, number in zip(classes, found, strict=True) if number is None]
    return [number for number in found if number is not None], unknown


def class_notes(classes: Sequence[str]) -> list[str]:
    """Say what looks odd about the names of a dataset's classes, in their order."""
    return [*_twins(classes), *_number_order(classes), *_missing(classes)]


def alike(name: str) -> str:
    """Return a key that is the same for names that an eye, or a file system, takes for one."""
    # NFKC also makes full-width letters and ligatures plain; category Cf is invisible.
    text = unicodedata.normalize("NFKC", name).casefold()
    text = " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())
    # Spreadsheets and data frames write one number as 1, 01 or 1.0.
    return str(float(text)) if NUMBER.fullmatch(text) else text


def _twins(classes: Sequence[str]) -> list[str]:
    """Warn of names that differ only by case, blanks, or by how letters or numbers are written."""
    seen: dict[str, str] = {}
    notes = []
    for name in classes:
        # Copied to a file system that does not tell them apart, such folders become one.
        key = alike(name)
        if key in seen:
            pair = f"'{seen[key]}' and '{name}'"
            notes.append(f"warning: classes {pair} differ by {_difference(seen[key], name)} only")
        seen[key] = name
    return notes


def _difference(a: str, b: str) -> str:
    if unicodedata.normalize("NFC", a).casefold() == unicodedata.normalize("NFC", b).casefold():
        return "case or accents"
    numbers = NUMBER.fullmatch(a) and NUMBER.fullmatch(b)
    return "how a number is written" if numbers else "blanks, invisible or look-alike letters"


def _number_order(classes: Sequence[str]) -> list[str]:
    """Say that classes named by numbers are in the order of their text."""
    # "10" comes before "9": right for training, but not what a list of class names may say.
    if all(name.isdecimal() for name in classes) and list(classes) != sorted(classes, key=int):
        return [f"classes are in the order of their names as text: {', '.join(classes[:5])}, ..."]
    return []


def _missing(classes: Sequence[str]) -> list[str]:
    """Ask about names that data frames write where a value is missing."""
    found = [name for name in classes if name.casefold() in MISSING]
    return [f"warning: class '{name}' may stand for missing labels" for name in found]


def read_names(file: Path) -> list[str]:
    """Return the names of classes in a file, one a line.

    Raises:
        DataError: It cannot be read, a line is empty, or two name the same class.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DataError("cannot read the names of classes", file, "one a line, in UTF-8") from None
    names = [tidy(line) for line in lines]
    # An editor leaves blank lines at the end; one in between would move every number below it.
    while names and not names[-1]:
        del names[-1]
    seen: dict[str, int] = {}
    for line, name in enumerate(names, 1):
        if not name:
            raise DataError("a line without a class name", f"{file}:{line}", "one name a line")
        if name in seen:  # everything later goes by name: weights, evaluation, predictions
            what = f"class '{name}' stands twice, in lines {seen[name]} and {line}"
            raise DataError(what, file, "give each class a name of its own")
        seen[name] = line
    return names
