"""What `vtrain explain` prints."""

import json
from typing import Literal

from vtrain.errors import printable
from vtrain.run.explain import Answer


def answer_text(answer: Answer, form: Literal["table", "json"]) -> str:
    """Return, for each image, its class, where the evidence is strongest, and its picture."""
    if form == "json":
        return json.dumps(answer.to_dict(), indent=2)
    rows: list[str] = []
    for one in answer.images:
        rows.append(printable(one.prediction.image))
        if one.prediction.error is not None:
            rows.append(f"  error: {one.prediction.error}")
        rows += [f"  {p:7.2%}  {printable(name)}" for name, p in one.prediction.classes[:1]]
        for found in one.maps:
            named = ": ".join(part for part in (found["class"], found["name"]) if part)
            x, y = found["hottest"]
            place = found["flat"] or f"strongest at x {x:.0f}, y {y:.0f}"
            rows.append(printable(f"  {answer.method}{named and ': '}{named}  {place}"))
        if one.picture is not None:
            rows.append(f"  {printable(one.picture)}")
    return "\n".join(rows)
