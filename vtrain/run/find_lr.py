"""`vtrain check --lr-find`: train with a rising rate, and see where the loss falls fastest."""

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vtrain.config import Config
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.progress import Progress
from vtrain.engine.callback import Callback
from vtrain.engine.state import Metrics, TrainState
from vtrain.errors import DivergedError
from vtrain.files.atomic import write_bytes
from vtrain.files.paths import unused
from vtrain.optim.range_test import has_diverged, moving_average, rates, suggested_rate
from vtrain.run.build.data import build_source
from vtrain.run.build.parts import build_parts
from vtrain.run.build.plan import Plan
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer

log = logging.getLogger(__name__)

LOW, HIGH, STEPS = 1e-5, 1.0, 200
PICTURE = Path("lr_find.png")


class RangeTest(Callback):
    """Collects the loss of each step, and stops once it has left all bounds."""

    def __init__(self, progress: Progress) -> None:
        self.losses: list[float] = []
        self.progress = progress

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.losses.append(metrics["train/loss"])
        self.progress.add(1)
        if has_diverged(self.losses):
            state.stop_reason = "the loss grows"


def find_lr(config: Config, listed: ImageFolder | None = None) -> str:
    """Make a range test of a config, draw it in `lr_find.png`, and return what it suggests.

    If there is such a file, the picture gets a name with a number. `listed` is the folder of images
    that the config was made for.

    Raises:
        VtrainError: The config's parts cannot be built, or the picture cannot be written.
    """
    plan = range_plan(config, listed)
    tested = rates(LOW, HIGH, STEPS)
    log.info("up to %d steps with rates from %g to %g", STEPS, LOW, HIGH)
    losses = losses_at(tested, plan)
    path = unused(PICTURE)
    try:
        best = suggested_rate(tested, losses)
    except ValueError as error:
        write_bytes(path, picture(tested, losses))
        return f"no suggestion: {error}; see {path}"
    write_bytes(path, picture(tested, losses, best))
    # Steps were made at the rates themselves; the key is what `lr_base_size` scales to them.
    lr: float = config.optimizer.lr  # type: ignore[attr-defined] # a key of every optimizer
    change = f"optimizer.lr={best * lr / plan.lr:.2g}"
    return f"suggested: {change}; see {path}\n  vtrain fit CONFIG {change}"


def range_plan(config: Config, listed: ImageFolder | None = None) -> Plan:
    """Return the plan of a range test, which ends by itself and whose weights nobody evaluates."""
    plain = {"ema_decay": None, "max_minutes": None, "max_steps": None}
    train = config.train.model_copy(update=plain)
    config = config.model_copy(update={"train": train})
    return resolve(config, source=build_source(config, listed=listed))


def losses_at(tested: Sequence[float], plan: Plan) -> list[float]:
    """Train a model from its start, a step with each rate, and return the losses."""
    parts, test = build_parts(plan), RangeTest(Progress("trying rates", "steps", len(tested)))
    trainer = build_trainer(parts, [test])
    # Each step has the next rate and logs its loss; nothing is evaluated.
    trainer = replace(
        trainer,
        schedule=lambda step: tested[min(step, len(tested) - 1)],
        evaluate=dict,
        lr=1.0,
        intervals=replace(
            trainer.intervals, total_steps=len(tested), eval_every=sys.maxsize, log_every=1
        ),
    )
    with test.progress, suppress(DivergedError):  # that is how a range test may end
        trainer.fit(parts.train_loader)
    parts.train_loader.close()
    return test.losses


def picture(tested: Sequence[float], losses: Sequence[float], best: float | None = None) -> bytes:
    """Draw the losses, as they were and smoothed, over their rates, and return a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    shown = tested[: len(losses)]
    axes.plot(shown, losses, color="tab:blue", alpha=0.3, label="loss of each step")
    axes.plot(shown, moving_average(losses), color="tab:blue", label="smoothed")
    if best is not None:
        axes.axvline(best, color="tab:orange", label=f"steepest at {best:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    if losses:  # the last ones, which grow without bound, would hide the rest
        axes.set_ylim(0.9 * min(losses), 1.1 * max(losses[: 1 + len(losses) // 2]))
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
