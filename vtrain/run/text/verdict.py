"""The sentence that judges a run: whether it learnt too little, or too much by heart."""

from math import sqrt

KNOWN = 0.9
"""Part of the training images that a model names rightly once it has learnt what they show."""
GAP = 0.1
"""How much worse the held-out images may fare; chance alone must not explain it, either."""
SURE = 1.96
"""Standard errors: a difference that is larger has another cause than chance, at 95 %."""


def verdict(known: tuple[int, int], held_out: tuple[float, int]) -> tuple[str, bool]:
    """Judge the end of a training by its images and by images that it has never seen.

    Args:
        known: Training images that are named rightly, without augmentation, and all of them.
        held_out: The part of the held-out images that is named rightly, and their number.

    Returns:
        A sentence, and whether more training is what it recommends.
    """
    (knows, learnt), (q, seen) = known, held_out
    p = knows / learnt
    error = sqrt(p * (1 - p) / learnt + q * (1 - q) / seen)
    shares = (
        f"at the end {p:.0%} of {learnt:,} training images are right, "
        f"and {q:.0%} of {seen:,} held out"
    )
    if p - q > max(GAP, SURE * error):
        advice = "more images, pretrained weights or stronger augmentation may help"
        return f"over-fitted: {shares}; {advice}", False
    if p < KNOWN:
        return f"under-fitted: {shares}; a longer run or a larger model may help", True
    return f"well fitted: {shares}", False
