"""What a run says at its start and its end, on the screen and in `env.json` and `summary.json`."""

import logging
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

import vtrain
from vtrain import distributed
from vtrain.callbacks.history import History
from vtrain.callbacks.progress import clock, worth_showing
from vtrain.device import describe, peak_memory
from vtrain.errors import counted, printable
from vtrain.files.runs import RunFolder
from vtrain.report.label_scores import per_label
from vtrain.report.predictions import Predictions
from vtrain.run.build.optim import build_loss, fitted
from vtrain.run.build.parts import Parts
from vtrain.run.build.plan import Plan
from vtrain.run.finished import longer_command
from vtrain.run.judgement import Judgement
from vtrain.run.text.command import argument
from vtrain.run.text.late import late_numbers
from vtrain.run.text.verdict import verdict

log = logging.getLogger(__name__)

RATE_KEYS = ("train.epochs", "train.max_minutes", "schedule.", "optimizer.lr")
"""What the learning rate of a step depends on."""
WEAKEST = 3
"""Classes that the end of a run names as those of which the least was right."""
MOST = 10
"""Classes that are named one by one; of more, only the rarest and the commonest."""


def say_start(parts: Parts, folder: Path, resumed_from: Path | None) -> None:
    """Say what is about to be trained, on what, and where the results go."""
    plan, config = parts.plan, parts.plan.config
    parameters = sum(p.numel() for p in parts.model.parameters())
    trainable = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    frozen = "" if trainable == parameters else f", {trainable:,} trained"
    size = parts.preprocess.image_size
    train, val = len(plan.train), len(parts.val)
    rows = {
        "model": f"{config.model.name}, {parameters:,} parameters{frozen}",
        "data": f"{config.data.name}, {counted(len(plan.source.classes), 'class', 'classes')}, "
        f"{train:,} training and {counted(val, 'validation image')}, {size} x {size} pixels",
        "device": device_text(plan),
        "steps": steps_text(plan),
        "lr": rate_text(plan),
        "run": str(folder),
    }
    rows |= balance_rows(plan)
    if config.train.distillation is not None:
        rows["teacher"] = config.train.distillation.teacher
    for name, text in rows.items():
        log.info("%-7s %s", name, printable(text))
    # What the dataset's reader converted, ignored or missed, and what the run is too short for:
    # a line each, as one of them may say that the classes are the wrong ones.
    for note in (*plan.source.notes, *late_numbers(plan)):
        level = logging.WARNING if note.startswith("warning") else logging.INFO
        log.log(level, "note    %s", printable(note))
    if resumed_from is not None:
        state = parts.state
        steps, epochs = counted(state.step, "step"), counted(state.epoch, "epoch")
        log.info("resume  %s", printable(f"{resumed_from.name}: {steps}, {epochs} done"))


def device_text(plan: Plan) -> str:
    """Say what computes, in which precision, how many of it there are, and if one must wait."""
    text = f"{describe(plan.device)}, {plan.precision}"
    count = distributed.world_size()
    if count > 1:
        text = f"{text}, {count} processes ({plan.config.train.parallel})"
    return f"{text}, compiled in the first step" if plan.compiles else text


def steps_text(plan: Plan) -> str:
    """Say how long the run is."""
    minutes = plan.config.train.max_minutes
    limit = "" if minutes is None else f", or {minutes:g} minute{'s' * (minutes != 1)}"
    # A dataset smaller than a batch is one step.
    images = min(plan.batch_size, len(plan.train))
    size, per_epoch = counted(images, "image"), f"{plan.steps_per_epoch:,} per epoch"
    return f"{plan.total_steps:,} of {size}, {per_epoch}{limit}"


def rate_text(plan: Plan) -> str:
    """Say how fast the weights move at most, and why."""
    optimizer = plan.config.optimizer
    names = f"{optimizer.name}, {plan.config.schedule.name}"
    if optimizer.lr_base_size is None:
        return f"at most {plan.lr:.4g} ({names})"
    lr: float = optimizer.lr  # type: ignore[attr-defined] # a key of every optimizer
    product = f"{lr:g} * {plan.batch_size} / {optimizer.lr_base_size}"
    return f"at most {plan.lr:.4g}, which is {product} ({names})"


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
    weights = getattr(build_loss(plan), "weights", None)
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


def say_end(
    parts: Parts,
    run: RunFolder,
    history: History,
    seconds: float,
    judged: Judgement | None,
) -> None:
    """Say what was reached, why so early, what it is worth, where it is, and what to type next."""
    config, state, folder = parts.plan.config, parts.state, run.path
    shown = worth_showing(history.val, len(parts.plan.source.classes))
    reached = [f"{name} {value:.4f}" for name, value in shown]
    log.info("done in %s  %s", clock(seconds), "  ".join(reached))
    if state.stop_reason is not None:
        log.info("stopped early: %s", state.stop_reason)
    if state.best is not None:
        metric = parts.plan.best_metric
        rows = run.read_metrics()
        epochs = [row["epoch"] for row in rows if row.get(metric) == state.best]
        when = f", of epoch {epochs[0]}" if epochs and epochs[0] else ""
        log.info("%s has %s %.4f%s", RunFolder.best, metric, state.best, when)
    train_on = False
    if judged is not None:
        if weakest := weakest_text(judged.best):
            log.info("weakest %s", printable(weakest))
        last = history.val[parts.task.right], len(judged.best.targets)
        text, train_on = verdict((judged.known_right, judged.known), last)
        log.info("verdict %s", text)
    log.info("results in %s", printable(str(folder)))
    log.info("next:")
    # Quoted, so that the lines can be pasted whatever the folder is called.
    name = argument(folder)
    if train_on:
        log.info("  %s", longer_command(run, config))
    log.info("  vtrain report %s", name)
    log.info("  vtrain eval --ckpt %s", name)
    log.info("  vtrain predict IMAGE --ckpt %s", name)
    if config.logging.tensorboard:
        log.info("  tensorboard --logdir %s", name)


def weakest_text(predictions: Predictions) -> str:
    """Name up to `WEAKEST` classes of which the smallest part was right; nothing if all were."""
    if predictions.has_several:
        return _weakest_labels(predictions)
    scores, count = predictions.scores(), len(predictions.classes)
    images = np.bincount(scores.targets, minlength=count)
    right = np.bincount(scores.targets[scores.correct], minlength=count)
    missed = [k for k in range(count) if right[k] < images[k]]
    # Of equal shares the one of more images says more.
    missed.sort(key=lambda k: (right[k] / images[k], -images[k]))
    # In quotes: a class may be called `8`.
    named = [f"'{predictions.classes[k]}' {right[k]:,} of {images[k]:,}" for k in missed[:WEAKEST]]
    return ", ".join([f"{named[0]} right", *named[1:]]) if named else ""


def _weakest_labels(predictions: Predictions) -> str:
    """Name the classes whose images are ranked worst among all."""
    figures = per_label(predictions.label_scores())
    weak = [k for k in figures.worst_first() if figures.average_precision[k] < 1]
    return ", ".join(
        f"'{predictions.classes[k]}' AP {figures.average_precision[k]:.3f} "
        f"({counted(int(figures.support[k]), 'image')})"
        for k in weak[:WEAKEST]
    )


def summary(parts: Parts, history: History, seconds: float) -> dict[str, Any]:
    """Return what `summary.json` holds; times and speed are those of this process."""
    state = parts.state
    return {
        # Of the last log and the last evaluation, also of the run before a resume.
        "final": {**history.train, **history.val},
        "best": {parts.plan.best_metric: state.best},
        "step": state.step,
        "epoch": state.epoch,
        "stop_reason": state.stop_reason,
        "wall_seconds": seconds,
        "images_per_second": history.images_per_second,
        "peak_memory_bytes": peak_memory(parts.plan.device),
    }


def say_changed_keys(parts: Parts, changes: list[str]) -> None:
    """Say which keys have other values than before, and where a changed rate goes on."""
    if not changes:
        return
    log.info("change  %s", printable("; ".join(changes)))
    plan, state = parts.plan, parts.state
    if any(change.startswith(RATE_KEYS) for change in changes):
        rate = plan.lr * fitted(parts.schedule, plan.schedule_steps, state)(
            state.step - state.skipped
        )
        log.info(
            "lr      goes on at %.4g, as in a run of %d epochs with these values from its start",
            rate,
            plan.config.train.epochs,
        )


def say_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say what computes otherwise than when the run was last trained."""
    # Only what can change the last bits: not the host, the number of workers or the command.
    changes = [
        f"{name} {printable(str(before[name]))} -> {now[name]}"
        for name in ("vtrain", "torch", "device", "precision", "processes")
        if name in before and before[name] != now[name]
    ]
    if changes:
        log.warning(
            "changed since the last start, and so may the last bits: %s", "; ".join(changes)
        )


def environment(parts: Parts) -> dict[str, Any]:
    """Return what `env.json` holds: versions, machine and command; no environment variables."""
    return {
        "vtrain": vtrain.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cuda": torch.version.cuda,
        "device": describe(parts.plan.device),
        "precision": parts.plan.precision,
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "command": sys.argv,
    }
