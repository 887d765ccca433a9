"""The learning-rate range test: train with a rising rate and see where the loss falls fastest.

Reference: Smith, "Cyclical learning rates", arXiv:1506.01186, section 3.3.
"""

import math
from collections.abc import Sequence

SETTLED = 20
"""Steps after which the moving average is of about as many losses as it ever is."""


def rates(low: float, high: float, steps: int) -> list[float]:
    """Return `steps` learning rates from `low` to `high`, each the same factor above the last."""
    if not 0 < low < high:
        raise ValueError(f"the lowest rate ({low:g}) must lie between 0 and the highest ({high:g})")
    if steps < 2:
        raise ValueError(f"a range test needs 2 steps or more, not {steps}")
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def moving_average(losses: Sequence[float], keep: float = 0.9) -> list[float]:
    """Return the exponential moving average of the losses, without its bias towards 0."""
    average, smooth = 0.0, []
    # Divided by the sum of the weights so far, as Adam corrects its moments.
    for count, loss in enumerate(losses, start=1):
        average = keep * average + (1 - keep) * loss
        smooth.append(average / (1 - keep**count))
    return smooth


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether the test can end: the smoothed loss is 4 times its lowest, or not finite."""
    smooth = moving_average(losses)
    return bool(smooth) and not smooth[-1] <= 4 * min(smooth)


def suggested_rate(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate at which the smoothed loss falls fastest per factor of rate.

    Raises:
        ValueError: The loss never falls by 1 % of its start.
    """
    smooth = [loss for loss in moving_average(losses) if math.isfinite(loss)]
    lowest = smooth.index(min(smooth)) if smooth else 0
    # The first averages are of a few losses only, and fall or rise by chance.
    begin = max(1, min(SETTLED, lowest // 2))
    # The rates are a geometric series: equal steps of log(rate), so a plain difference is a slope.
    slopes = [smooth[i + 1] - smooth[i - 1] for i in range(begin, lowest)]
    if not slopes or smooth[lowest] > 0.99 * smooth[0]:
        raise ValueError(
            f"the loss never falls between the rates {rates[0]:g} and {rates[-1]:g}: "
            "test lower ones, or more steps"
        )
    return rates[begin + slopes.index(min(slopes))]
