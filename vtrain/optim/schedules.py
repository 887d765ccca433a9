"""Learning-rate schedules: pure functions from the step to a factor of the base rate.

A constructor is handed the length of the run and returns `factor(step)`, defined for the steps
0 .. total_steps - 1 and constant after them. The warm-up climbs linearly from `warmup_start` to 1
and never wastes a step at 0: step s of W has (s + 1) / (W + 1) of the climb.
"""

import math
from collections.abc import Callable

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from vtrain.registry import SCHEDULES, Fraction, Probability

Schedule = Callable[[int], float]
"""Step -> factor of the base learning rate."""


@SCHEDULES.register("cosine")
def cosine(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
    floor: Fraction = 0,
) -> Schedule:
    """Half a cosine from 1 to `floor`. Reference: Loshchilov, Hutter, arXiv:1608.03983."""
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)

    def shape(progress: float, _: int) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("linear")
def linear(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
    floor: Fraction = 0,
) -> Schedule:
    """Fall in a straight line from 1 to `floor`."""
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)

    def shape(progress: float, _: int) -> float:
        return floor + (1 - floor) * (1 - progress)

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("polynomial")
def polynomial(
    total_steps: int,
    steps_per_epoch: int,
    *,
    power: PositiveFloat = 2.0,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
    floor: Fraction = 0,
) -> Schedule:
    """Fall as (1 - progress)**power from 1 to `floor`."""
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)

    def shape(progress: float, _: int) -> float:
        return floor + (1 - floor) * math.pow(1 - progress, power)

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("constant")
def constant(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
) -> Schedule:
    """Stay at the base rate."""
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    return warmed_up(lambda _progress, _step: 1.0, warmup, warmup_start, total_steps)


@SCHEDULES.register("step")
def step(
    total_steps: int,
    steps_per_epoch: int,
    *,
    every_epochs: PositiveFloat = 30,
    gamma: Fraction = 0.1,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
    floor: Fraction = 0,
) -> Schedule:
    """Multiply by `gamma` after every `every_epochs` epochs, counted from the start of the run."""
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    check_first_drop(warmup, every_epochs * steps_per_epoch, f"every_epochs ({every_epochs:g})")

    def shape(_: float, step: int) -> float:
        return max(floor, gamma ** int(step / (every_epochs * steps_per_epoch)))

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("multistep")
def multistep(
    total_steps: int,
    steps_per_epoch: int,
    *,
    milestones: list[PositiveFloat],
    gamma: Fraction = 0.1,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
) -> Schedule:
    """Multiply by `gamma` at each of the `milestones`, in epochs from the start of the run."""
    if milestones != sorted(set(milestones)):
        raise ValueError(f"milestones ({milestones}) must rise")
    if milestones and milestones[-1] * steps_per_epoch >= total_steps:
        raise ValueError(
            f"milestones ({milestones}) must lie before the end of the run, at epoch "
            f"{total_steps / steps_per_epoch:g}"
        )
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    if milestones:
        check_first_drop(warmup, milestones[0] * steps_per_epoch, f"milestones ({milestones})")

    def shape(_: float, step: int) -> float:
        return gamma ** sum(step >= milestone * steps_per_epoch for milestone in milestones)

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("warmup_stable_decay")
def warmup_stable_decay(
    total_steps: int,
    steps_per_epoch: int,
    *,
    decay_fraction: Probability = 0.2,
    warmup_epochs: NonNegativeFloat = 0,
    warmup_steps: NonNegativeInt = 0,
    warmup_start: Fraction = 0,
    floor: Fraction = 0,
) -> Schedule:
    """Stay at the base rate, then fall in a straight line over the last `decay_fraction` steps.

    Reference: Hu et al., MiniCPM, arXiv:2404.06395; Haegele et al., arXiv:2405.18392.
    """
    warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
    decay = round(decay_fraction * total_steps)
    if warmup + decay >= total_steps:
        raise ValueError(
            f"the warm-up ({warmup} steps) and decay_fraction ({decay_fraction:g}, {decay} steps) "
            f"leave none of the {total_steps} steps of the run for the base rate"
        )
    start = total_steps - 1 - decay  # the last step at the base rate

    def shape(_: float, step: int) -> float:
        return 1 - (1 - floor) * max(0, step - start) / max(1, decay)

    return warmed_up(shape, warmup, warmup_start, total_steps)


@SCHEDULES.register("one_cycle")
def one_cycle(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_fraction: Fraction = 0.3,
    warmup_start: Fraction = 0.04,
    floor: Fraction = 4e-6,
) -> Schedule:
    """Rise along a cosine for `warmup_fraction` of the run, then fall along one to `floor`.

    Reference: Smith, Topin, "Super-convergence", arXiv:1708.07120; the defaults are torch's.
    """
    peak = warmup_fraction * total_steps - 1  # torch's convention: the peak may lie between steps

    def factor(step: int) -> float:
        step = min(step, total_steps - 1)
        if step <= peak:
            return _between(warmup_start, 1.0, step / peak if peak > 0 else 1.0)
        return _between(1.0, floor, (step - peak) / (total_steps - 1 - peak))

    return factor


def _between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warmup_length(
    total_steps: int, steps_per_epoch: int, warmup_epochs: float, warmup_steps: int
) -> int:
    """Return the number of warm-up steps.

    Raises:
        ValueError: Both keys are set, or the warm-up does not end before the run does.
    """
    if warmup_epochs and warmup_steps:
        raise ValueError(
            f"set warmup_epochs ({warmup_epochs:g}) or warmup_steps ({warmup_steps}), not both"
        )
    warmup = warmup_steps or round(warmup_epochs * steps_per_epoch)
    if warmup >= total_steps > 0 and warmup > 0:
        key = f"warmup_steps ({warmup})" if warmup_steps else f"warmup_epochs ({warmup_epochs:g})"
        raise ValueError(
            f"{key} must end before the run does, at step {total_steps} "
            f"(epoch {total_steps / steps_per_epoch:g})"
        )
    return warmup


def check_first_drop(warmup: int, drop: float, key: str) -> None:
    """Refuse a drop before the first step at the base rate, to which the warm-up climbs.

    Raises:
        ValueError: `drop`, a number of steps set by `key`, is not above `warmup`.
    """
    if drop <= warmup:
        raise ValueError(f"{key} drops the rate before the warm-up of {warmup} steps has ended")


def warmed_up(
    shape: Callable[[float, int], float], warmup: int, warmup_start: float, total_steps: int
) -> Schedule:
    """Join a linear warm-up and a shape: (progress after the warm-up in [0, 1], step) -> factor."""

    def factor(step: int) -> float:
        if step < warmup:
            return warmup_start + (1 - warmup_start) * (step + 1) / (warmup + 1)
        step = min(step, total_steps - 1)
        return shape((step - warmup) / max(1, total_steps - 1 - warmup), step)

    return factor


def fitted_step(step: int, total_steps: int, elapsed: float) -> int:
    """Return where on the schedule a run with a time budget stands.

    The further of two clocks counts: steps done out of `total_steps`, and the fraction `elapsed` of
    the budget. A run that is cut off by time has thus seen the whole schedule, warm-up included.
    """
    progress = max(step / total_steps, min(elapsed, 1.0))
    return min(round(progress * total_steps), total_steps - 1)
