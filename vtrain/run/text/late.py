"""Numbers of a config that lie behind the run's last step, and so have no effect, or a smaller one.

Whoever tries a recipe for a few epochs has them: none is an error, and each is said.
"""

from collections.abc import Iterator

from vtrain.run.build.plan import Plan

Late = Iterator[tuple[str, object, str]]
"""A key, its value, and what the run's end makes of it."""


def late_numbers(plan: Plan) -> list[str]:
    """Say of each number that the run ends before it, and what happens instead."""
    found = [*_of_the_schedule(plan), *_of_other_sections(plan)]
    return [f"{key} ({value}) {what}" for key, value, what in found]


def _length(plan: Plan) -> str:
    epochs = plan.config.train.epochs
    return f"{epochs} epoch{'s' * (epochs > 1)}"


def _of_the_schedule(plan: Plan) -> Late:
    keys, epochs = plan.config.schedule.model_dump(), plan.config.train.epochs
    half = f"is not shorter than the run of {_length(plan)}: half of it is warm-up"
    warmup_epochs, warmup_steps = keys.get("warmup_epochs", 0), keys.get("warmup_steps", 0)
    if warmup_epochs and round(warmup_epochs * plan.steps_per_epoch) >= plan.schedule_steps:
        yield "schedule.warmup_epochs", f"{warmup_epochs:g}", half
    if warmup_steps and warmup_steps >= plan.schedule_steps:
        yield "schedule.warmup_steps", warmup_steps, half
    late = [f"{epoch:g}" for epoch in keys.get("milestones", ()) if epoch >= epochs]
    if late:
        what = f"come too late: the run ends before, after {_length(plan)}"
        yield "schedule.milestones", ", ".join(late), what
    if keys.get("every_epochs", 0) >= epochs:
        what = f"means no drop: the run ends before, after {_length(plan)}"
        yield "schedule.every_epochs", f"{keys['every_epochs']:g}", what


def _of_other_sections(plan: Plan) -> Late:
    train, epochs = plan.config.train, plan.config.train.epochs
    off = plan.config.augment.model_dump().get("mix_off_epoch")
    if off is not None and off >= epochs:
        what = f"comes too late: the run ends before, after {_length(plan)}"
        yield "augment.mix_off_epoch", off, what
    if train.max_steps is not None and train.max_steps > plan.schedule_steps:
        yield "train.max_steps", train.max_steps, f"is more than the run has: {plan.schedule_steps}"
    if train.eval_every > epochs:
        yield "train.eval_every", train.eval_every, "means one evaluation, at the end"
    if train.early_stopping is not None:
        patience = train.early_stopping.model_dump()["patience"]
        evaluations = -(-epochs // train.eval_every)
        # The first evaluation is the best so far; after it `patience` more have to follow.
        if patience >= evaluations:
            what = f"cannot end a run of {evaluations} evaluation{'s' * (evaluations > 1)}"
            yield "train.early_stopping.patience", patience, what
