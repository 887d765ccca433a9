"""What several models, or views, are worth together, as a person or a program reads it."""

import json

from vtrain.callbacks.progress import worth_showing
from vtrain.errors import printable
from vtrain.files.plain import plain
from vtrain.run.text.tables import metrics_text
from vtrain.run.together import Together


def together_text(found: Together, as_json: bool) -> str:
    """Return the metrics of all together, those of each, and the gain with its interval."""
    if as_json:
        return json.dumps(plain(found.to_dict()))  # NaN is no JSON
    assert found.predictions is not None, "of what is not finite there is nothing to show"
    count = len(found.predictions.classes)
    lines = [metrics_text(dict(worth_showing(found.metrics, count)), as_json)]
    for one in found.members:
        metric = found.chosen_by
        lines.append(f"  {one.metrics[metric]:.6f}  {metric} of {printable(one.name)}")
    return "\n".join([*lines, f"{'gain':12} {printable(found.gain_text())}"])
