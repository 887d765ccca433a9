"""Tables and JSON for stdout."""

import fnmatch
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtrain.data.progress import said_if_long
from vtrain.errors import ConfigError, printable
from vtrain.files.plain import plain
from vtrain.registry import MODELS, Component, suggest

if TYPE_CHECKING:
    from vtrain.run.export import Exported


def metrics_text(metrics: Mapping[str, Any], as_json: bool) -> str:
    """Return metrics as one JSON object, or a line each."""
    if as_json:
        return json.dumps(plain(metrics))  # NaN is no JSON
    return "\n".join(f"{name:12} {value:.6f}" for name, value in metrics.items())


def labels_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of each class of a model of several labels as a table."""
    names = {"average_precision": "AP", "f1": "F1", "precision": "precision", "recall": "recall"}
    lines = [["class", "images", "named", *names.values(), "threshold"]]
    for row in rows:
        figures = [f"{value:.4f}" if (value := row[key]) is not None else "-" for key in names]
        counts = [f"{row['support']:,}", f"{row['predicted']:,}"]
        lines.append([printable(row["class"]), *counts, *figures, f"{row['threshold']:.4f}"])
    return f"\n{columns(lines)}"


def exported_text(exported: "Exported") -> str:
    """Say what was written, how it compares, and what to type next."""
    size = sum(file.stat().st_size for file in exported.files)
    lines = [f"{printable(str(exported.path))}  {size / 1e6:.2f} MB", str(exported.proof)]
    return "\n".join([*lines, *(f"  {hint}" for hint in exported.hints)])


def columns(rows: list[list[str]], most: int = sys.maxsize) -> str:
    """Align rows of text; all but the first column are numbers or short words.

    Columns that do not fit into `most` characters follow below, each time behind the first one.
    """
    # The first column is names, read from the left; the others are compared digit by digit.
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    parts: list[list[int]] = [[]]
    for i, width in enumerate(widths[1:], start=1):
        taken = widths[0] + sum(2 + widths[k] for k in parts[-1])
        if parts[-1] and taken + 2 + width > most:
            parts.append([])
        parts[-1].append(i)
    return "\n\n".join(
        "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in part)]).rstrip()
            for row in rows
        )
        for part in parts
    )


def models_text(pattern: str) -> str:
    """Return the zoo as a table: name, parameters, GMACs at the native size, reference.

    One model named exactly is described in full, with every argument that a config may give it.
    """
    names = MODELS.names()
    if pattern in names:
        return f"{_models_table([pattern])}\n\n{_arguments_text(MODELS[pattern])}"
    chosen = [name for name in names if fnmatch.fnmatch(name, pattern) or pattern in name]
    if not chosen:
        raise ConfigError(f"no model matches '{pattern}'", hint=suggest(pattern, names))
    return _models_table(chosen)


def _models_table(names: list[str]) -> str:
    import torch

    from vtrain.models.profile import count_macs, count_parameters

    rows = [["name", "parameters", "GMACs", "pixels"]]
    references = ["reference"]
    with said_if_long("counting operations"):
        for name in names:
            with torch.device("meta"):  # the largest would take gigabytes
                model = MODELS[name]()
            macs = f"{count_macs(model) / 1e9:.2f}"
            rows.append([name, f"{count_parameters(model):,}", macs, str(model.image_size)])
            references.append(MODELS[name].reference)
    table = columns(rows).splitlines()
    return "\n".join(f"{line}  {text}" for line, text in zip(table, references, strict=True))


def _arguments_text(component: Component) -> str:
    # As JSON: `null`, `true` and lists are written like this in a config, too.
    rows = [["argument", "default"]]
    rows += [[name, json.dumps(default)] for name, _, default in component.parameters()]
    where = (
        "A config sets the arguments below under `model`, beside `name`, `pretrained` (weights to "
        "start from)\nand `freeze` (`backbone`, or the first N blocks); image_size is "
        "`data.image_size`, and the dataset says\nhow many classes there are."
    )
    return f"{inspect.getdoc(component.constructor)}\n\n{where}\n\n{columns(rows)}"
