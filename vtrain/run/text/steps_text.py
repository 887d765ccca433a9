"""The table of `vtrain models NAME --shapes`."""

import torch

from vtrain.errors import ConfigError
from vtrain.models.steps import Step, steps, without_repeats
from vtrain.registry import MODELS, suggest


def steps_text(name: str) -> str:
    """Return every step of one image through a model at the size it was published for.

    Raises:
        ConfigError: No model has that name.
    """
    if name not in MODELS.names():
        hint = suggest(name, MODELS.names())
        raise ConfigError(f"--shapes is for one model, and none is called '{name}'", hint=hint)
    with torch.device("meta"):  # the largest would take gigabytes
        model = MODELS[name]()
    image = (1, model.in_channels, model.image_size, model.image_size)
    rows = [("step", "part", "returns", "MMACs", ""), ("", "image", str(image), "", "")]
    rows += [_row(line) for line in without_repeats(steps(model))]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(
            (
                *(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=False)),
                row[3].rjust(widths[3]),
                row[4],
            )
        ).rstrip()
        for row in rows
    )


def _row(line: Step | tuple[str, str, str]) -> tuple[str, str, str, str, str]:
    if isinstance(line, tuple):
        first, last, like = line
        return first if first == last else f"{first} to {last}", f"as {like}", "", "", ""
    shapes = " ".join(str(shape) for shape in line.shapes)
    macs = f"{line.macs / 1e6:,.2f}" if line.macs else ""
    return line.name, line.kind, shapes, macs, line.note
