"""Images that are alike as a person, a program or a spreadsheet reads them."""

from collections.abc import Iterable, Iterator

from vtrain.errors import printable
from vtrain.run.similar import Similar
from vtrain.run.text.predictions import Form, csv_line, json_lines


def similar_lines(found: Iterable[Similar], form: Form) -> Iterator[str]:
    """Yield the text of each image's likes, whole lines at a time, as soon as they are known."""
    if form in ("json", "jsonl"):
        yield from json_lines(found, form)
    elif form == "csv":
        yield csv_line(["image", "rank", "similar", "similarity", "class", "error"])
        for one in found:
            yield from _csv_rows(one)
    else:
        yield from ("\n".join(_table_rows(one)) for one in found)


def _csv_rows(found: Similar) -> Iterator[str]:
    if found.error is not None:
        yield csv_line([found.image, "", "", "", "", found.error])
    for rank, one in enumerate(found.nearest, start=1):
        yield csv_line([found.image, rank, one.image, f"{one.similarity:.6f}", one.label, ""])


def _table_rows(found: Similar) -> Iterator[str]:
    # Names come from files and folders, and must not move the cursor of a terminal.
    yield printable(found.image)
    if found.error is not None:
        yield f"  error: {found.error}"
    for one in found.nearest:
        label = "" if one.label is None else f"  ({one.label})"
        yield printable(f"  {one.similarity:7.4f}  {one.image}{label}")
