"""The table of a model's stages in `vtrain check`, and what it says about padding."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from vtrain.models.profile import Attention, Profile, Stage
from vtrain.run.text.tables import columns

HEADER = ["stage", "shape", "parameters", "heads", "attends to", "shift"]


def stages_text(cost: Profile) -> str:
    """Return a line for each part of a model: what it returns, learns, and who attends to whom."""
    rows = [HEADER, *map(_row, cost.stages)]
    # Class tokens and position embeddings belong to the model itself and to no part of it.
    rest = cost.parameters - sum(stage.parameters for stage in cost.stages)
    if rest:
        rows.append(["tokens, positions", "", f"{rest:,}", "", "", ""])
    used = [i for i in range(len(HEADER)) if any(row[i] for row in rows[1:])]
    return columns([[row[i] for i in used] for row in rows])


def _row(stage: Stage) -> list[str]:
    shapes = ", ".join(map(str, stage.shapes))
    heads = _joined(f"{found.heads}" for found in stage.attention)
    shifts = _joined(f"{found.shift}" for found in stage.attention if found.level == "patches")
    is_cut = any(found.side is not None and found.level == "patches" for found in stage.attention)
    return [
        stage.name,
        shapes,
        f"{stage.parameters:,}",
        heads,
        _joined(map(_meeting, stage.attention)),
        shifts if is_cut else "",
    ]


def _joined(texts: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _meeting(found: Attention) -> str:
    """Say which tokens attend to one another."""
    if found.level == "words":
        return f"{found.side} x {found.side} words"
    if found.side is None:
        return f"all {found.rows} x {found.columns}"
    return f"{found.side} x {found.side} of {found.rows} x {found.columns}"


def padding_notes(stages: Sequence[Stage]) -> Iterator[str]:
    """Say where windows or the halving of a map need rows and columns of zeros."""
    attending = [(stage.name, stage.attention[0]) for stage in stages if stage.attention]
    for name, found in attending:
        side, rows, columns_ = found.side, found.rows, found.columns
        if side is not None and (rows % side or columns_ % side):
            padded = f"{rows + -rows % side} x {columns_ + -columns_ % side}"
            yield (
                f"{name}: windows of {side} x {side} do not fit the map of {rows} x {columns_}, "
                f"which is padded to {padded}"
            )
    for (name, before), (_, after) in pairwise(attending):
        if after.rows < before.rows and (before.rows % 2 or before.columns % 2):
            padded = f"{before.rows + before.rows % 2} x {before.columns + before.columns % 2}"
            yield (
                f"{name}: the map of {before.rows} x {before.columns} is padded to {padded} "
                "before it is halved"
            )
