"""What a soup is made of, as a person or a program reads it."""

import json

from vtrain.errors import printable
from vtrain.files.plain import plain
from vtrain.run.soup import Soup
from vtrain.run.text.command import argument
from vtrain.run.text.tables import columns


def soup_text(soup: Soup, as_json: bool) -> str:
    """Return each model's figures and whether it is in, those of the mean, and what to do next."""
    if as_json:
        return json.dumps(plain(soup.to_dict()))  # NaN is no JSON
    names = [soup.chosen_by, "val/loss"]
    rows = [["checkpoint", *names, ""]]
    said = [(one.path, one.metrics, "in" if one.is_in else "") for one in soup.members]
    for path, metrics, what in [*said, (soup.path, soup.metrics, "soup")]:
        rows.append([printable(str(path)), *(f"{metrics[name]:.6f}" for name in names), what])
    advice = (
        "These are the images that chose what is in it, so the last row is too good: judge it on "
        f"others, for example\n  vtrain eval --ckpt {argument(soup.path)} --split test"
    )
    return f"{columns(rows)}\n{advice}"
