"""Learning-rate schedules: pure functions from the step to a factor of the base rate.

A constructor is handed the length of the run and returns `factor(step)`, defined for the steps
0 .. total_steps - 1 and constant after them. `warmed_up` gives a constructor its warm-up, which
climbs linearly from `warmup_start` to 1 and never wastes a step at 0: step s of W has
(s + 1) / (W + 1) of the climb.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from vtrain.optim.signature import compose_signature
from vtrain.registry import SCHEDULES, Fraction, Probability

Schedule = Callable[[int], float]
"""Step -> factor of the base learning rate."""
Curve = Callable[[float, int], float]
"""(progress from the end of the warm-up to the last step, in [0, 1]; step) -> factor."""


# What a key means stands at its type where several constructors share it.
Floor = Annotated[
    Fraction, Field(description="The lowest rate, as a fraction of the base learning rate.")
]
Gamma = Annotated[Fraction, Field(description="What the rate is multiplied by at each drop.")]
WarmupEpochs = Annotated[
    NonNegativeFloat,
    Field(description="Epochs in which the rate climbs to its base value; may be a fraction."),
]
WarmupSteps = Annotated[
    NonNegativeInt,
    Field(description="Optimizer steps in which the rate climbs; set this or the epochs."),
]
WarmupStart = Annotated[
    Fraction, Field(description="Where the climb begins, as a fraction of the base learning rate.")
]
Power = Annotated[PositiveFloat, Field(description="The exponent; 1 is a straight line.")]
EveryEpochs = Annotated[PositiveFloat, Field(description="Epochs from one drop to the next.")]
Milestones = Annotated[list[PositiveFloat], Field(description="The epochs of the drops, rising.")]
DecayFraction = Annotated[
    Probability, Field(description="The part of the run in which the rate falls.")
]
WarmupFraction = Annotated[
    Fraction, Field(description="The part of the run in which the rate rises.")
]


class Length(NamedTuple):
    """How long a run is: optimizer steps in all, of an epoch, and of the warm-up."""

    total_steps: int
    steps_per_epoch: int
    warmup: int


def warmed_up(make_curve: Callable[..., Curve]) -> Callable[..., Schedule]:
    """Make a schedule of a curve, with a linear warm-up before it and the keys of both."""

    def schedule(
        total_steps: int,
        steps_per_epoch: int,
        *,
        warmup_epochs: WarmupEpochs = 0,
        warmup_steps: WarmupSteps = 0,
        warmup_start: WarmupStart = 0,
        **keywords: Any,
    ) -> Schedule:
        warmup = warmup_length(total_steps, steps_per_epoch, warmup_epochs, warmup_steps)
        curve = make_curve(Length(total_steps, steps_per_epoch, warmup), **keywords)

        def factor(step: int) -> float:
            if step < warmup:
                # + 1 on both sides: the first step moves, and the base rate comes after the climb.
                return warmup_start + (1 - warmup_start) * (step + 1) / (warmup + 1)
            step = min(step, total_steps - 1)
            # Progress is 0 at the first step after the warm-up and 1 at the run's last one.
            return curve((step - warmup) / max(1, total_steps - 1 - warmup), step)

        return factor

    return compose_signature(schedule, make_curve, last=["floor"])


@SCHEDULES.register("cosine")
@warmed_up
def cosine(_: Length, *, floor: Floor = 0) -> Curve:
    """Half a cosine from 1 to `floor`. Reference: Loshchilov, Hutter, arXiv:1608.03983."""
    return lambda progress, _: half_cosine(1.0, floor, progress)


@SCHEDULES.register("linear")
@warmed_up
def linear(_: Length, *, floor: Floor = 0) -> Curve:
    """Fall in a straight line from 1 to `floor`."""
    return lambda progress, _: floor + (1 - floor) * (1 - progress)


@SCHEDULES.register("polynomial")
@warmed_up
def polynomial(_: Length, *, power: Power = 2.0, floor: Floor = 0) -> Curve:
    """Fall as (1 - progress)**power from 1 to `floor`."""
    return lambda progress, _: floor + (1 - floor) * math.pow(1 - progress, power)


@SCHEDULES.register("constant")
@warmed_up
def constant(_: Length) -> Curve:
    """Stay at the base rate."""
    return lambda _progress, _step: 1.0


@SCHEDULES.register("step")
@warmed_up
def step(
    length: Length, *, every_epochs: EveryEpochs = 30, gamma: Gamma = 0.1, floor: Floor = 0
) -> Curve:
    """Multiply by `gamma` after every `every_epochs` epochs, counted from the start of the run."""
    interval = every_epochs * length.steps_per_epoch
    if interval < 1:
        raise ValueError(f"every_epochs ({every_epochs:g}) is less than one step of the optimizer")
    check_first_drop(length.warmup, interval, f"every_epochs ({every_epochs:g})")
    # Counted from the start of the run and not from the end of the warm-up, as papers state it.
    return lambda _, step: max(floor, gamma ** int(step / interval))


@SCHEDULES.register("multistep")
@warmed_up
def multistep(length: Length, *, milestones: Milestones, gamma: Gamma = 0.1) -> Curve:
    """Multiply by `gamma` at each of the `milestones`, in epochs from the start of the run."""
    if milestones != sorted(set(milestones)):
        raise ValueError(f"milestones ({milestones}) must rise")
    steps = [milestone * length.steps_per_epoch for milestone in milestones]
    if steps:  # an empty list is allowed: no drop at all
        check_first_drop(length.warmup, steps[0], f"milestones ({milestones})")
    return lambda _, step: gamma ** sum(step >= milestone for milestone in steps)


@SCHEDULES.register("warmup_stable_decay")
@warmed_up
def warmup_stable_decay(
    length: Length, *, decay_fraction: DecayFraction = 0.2, floor: Floor = 0
) -> Curve:
    """Stay at the base rate, then fall in a straight line over the last `decay_fraction` steps.

    Reference: Hu et al., MiniCPM, arXiv:2404.06395; Haegele et al., arXiv:2405.18392.
    """
    total_steps, _, warmup = length
    decay = round(decay_fraction * total_steps)
    if warmup + decay >= total_steps:
        raise ValueError(
            f"the warm-up ({warmup} steps) and decay_fraction ({decay_fraction:g}, {decay} steps) "
            f"leave none of the {total_steps} steps of the run for the base rate"
        )
    start = total_steps - 1 - decay  # the last step at the base rate
    # max(1, decay): with decay_fraction 0 there is no fall, and nothing may be divided by 0.
    return lambda _, step: 1 - (1 - floor) * max(0, step - start) / max(1, decay)


@SCHEDULES.register("one_cycle")
def one_cycle(
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_fraction: WarmupFraction = 0.3,
    warmup_start: WarmupStart = 0.04,
    floor: Floor = 4e-6,
) -> Schedule:
    """Rise along a cosine for `warmup_fraction` of the run, then fall along one to `floor`.

    Reference: Smith, Topin, "Super-convergence", arXiv:1708.07120; the defaults are torch's.
    """
    peak = warmup_fraction * total_steps - 1  # torch's convention: the peak may lie between steps

    def factor(step: int) -> float:
        step = min(step, total_steps - 1)
        if step <= peak:
            return half_cosine(warmup_start, 1.0, step / peak if peak > 0 else 1.0)
        return half_cosine(1.0, floor, (step - peak) / (total_steps - 1 - peak))

    return factor


def half_cosine(start: float, end: float, progress: float) -> float:
    """Return the value at `progress`, in [0, 1], of half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def warmup_length(
    total_steps: int, steps_per_epoch: int, warmup_epochs: float, warmup_steps: int
) -> int:
    """Return the number of warm-up steps.

    One that would not end before the run does takes half of the run: so a recipe can be tried for
    a few epochs.

    Raises:
        ValueError: Both keys are set.
    """
    if warmup_epochs and warmup_steps:
        raise ValueError(
            f"set warmup_epochs ({warmup_epochs:g}) or warmup_steps ({warmup_steps}), not both"
        )
    # Epochs may be fractions; a half rounds to even, as Python does.
    warmup = warmup_steps or round(warmup_epochs * steps_per_epoch)
    return warmup if warmup < total_steps else total_steps // 2


def check_first_drop(warmup: int, drop: float, key: str) -> None:
    """Refuse a drop before the first step at the base rate, to which the warm-up climbs.

    Raises:
        ValueError: `drop`, a number of steps set by `key`, is not above `warmup`.
    """
    if drop <= warmup:
        raise ValueError(f"{key} drops the rate before the warm-up of {warmup} steps has ended")


def fitted_step(step: int, total_steps: int, elapsed: float) -> int:
    """Return the step at which a run with a time budget reads its schedule.

    Progress is the larger of two fractions: steps done out of `total_steps`, and `elapsed` of the
    budget. So a run that is cut off by time has gone through the whole schedule, warm-up included.
    """
    progress = max(step / total_steps, min(elapsed, 1.0))
    # The budget may end between two steps: never read beyond the last one.
    return min(round(progress * total_steps), total_steps - 1)
