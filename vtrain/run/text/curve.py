"""A curve as lines of text, for a terminal."""

from collections.abc import Callable

WIDTH, HEIGHT = 60, 8  # characters


def curve(value: Callable[[int], float], steps: int) -> list[str]:
    """Draw `value(0)` to `value(steps - 1)`, none below 0, from 0 to the largest that is drawn."""
    columns = min(WIDTH, steps)
    at = [round(i * (steps - 1) / max(1, columns - 1)) for i in range(columns)]
    values = [value(step) for step in at]
    top = max(values)
    rows = [round((HEIGHT - 1) * v / top) if top > 0 else 0 for v in values]
    labels = {HEIGHT - 1: f"{top:.3g}", 0: "0"}
    lines = [
        f"{labels.get(row, ''):>9} |" + "".join("*" if r == row else " " for r in rows).rstrip()
        for row in reversed(range(HEIGHT))
    ]
    end = f"step {at[-1]:,}"
    return [*lines, " " * 11 + "0" + end.rjust(columns - 1)]
