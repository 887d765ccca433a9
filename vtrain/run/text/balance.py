"""What is done for rare classes, said with the number of images of each."""

from collections.abc import Sequence

from vtrain.run.build.optim import build_loss
from vtrain.run.build.plan import Plan

MOST = 10
"""Classes that are named one by one; of more, only the rarest and the commonest."""


def balance_rows(plan: Plan) -> dict[str, str]:
    """Say how often classes are shown, and what they weigh, if that is not as they come.

    The rarest class comes first.
    """
    classes, counts = plan.source.classes, plan.class_counts
    rows = {}
    if plan.config.data.balanced:  # type: ignore[attr-defined] # a key of TrainLoader
        present = sum(count > 0 for count in counts)
        named = _named(classes, counts, [f"{count:,}" for count in counts])
        rows["balance"] = (
            f"each class is shown about {len(plan.train) / present:,.0f} times per epoch; "
            f"images: {named}"
        )
    # Only a loss with class weights has them; they are those of the run, from the same counts.
    weights = getattr(build_loss(plan.config, counts), "weights", None)
    if weights is not None:
        texts = [
            f"{weight:.3g} ({count:,})"
            for weight, count in zip(weights.tolist(), counts, strict=True)
        ]
        rows["loss"] = f"class weights (images): {_named(classes, counts, texts)}"
    return rows


def _named(classes: Sequence[str], counts: Sequence[int], texts: Sequence[str]) -> str:
    order = sorted(range(len(classes)), key=lambda label: counts[label])
    parts = [f"{classes[label]} {texts[label]}" for label in order]
    if len(parts) > MOST:
        parts[MOST // 2 : -MOST // 2] = ["..."]
    return ", ".join(parts)
