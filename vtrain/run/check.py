"""`vtrain check`: everything that can be known about a run without training."""

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from vtrain import screen
from vtrain.config import Config
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.progress import said_if_long
from vtrain.errors import printable
from vtrain.run.build.batch_size import profile_run
from vtrain.run.build.data import build_input, build_preprocess, build_source, build_train_loader
from vtrain.run.build.maps import check_maps
from vtrain.run.build.model import build_model, build_teacher, choose_trained, load_start
from vtrain.run.build.optim import build_criterion, build_optimizer, build_schedule
from vtrain.run.build.resolve import check_watched, resolve
from vtrain.run.text.late import late_numbers
from vtrain.run.text.screens import balance_rows, rate_text
from vtrain.run.text.stages import padding_notes, stages_text

GIB = 1 << 30
WIDTH, HEIGHT = 60, 8  # characters of the curve
LABELS = 11  # characters before it


def check_config(config: Config, listed: ImageFolder | None = None) -> str:
    """Build a config's parts without data in memory and describe them.

    `listed` is the folder of images that the config was made for.

    Raises:
        VtrainError: Something in the config, the dataset's folder or the machine is wrong.
    """
    plan = resolve(config, source=build_source(config, listed=listed), trial=False)
    config, source = plan.config, plan.source
    num_classes = len(source.classes)
    check_watched(plan)
    check_maps(config)
    val = source.split("val")
    # Shapes without memory: a model that this machine could not hold is checked all the same.
    with torch.device("meta"):
        model = build_model(config, num_classes)
    start = load_start(config, model, source)
    config = start.config
    plan = replace(plan, config=config)
    preprocess = build_preprocess(config, source)
    input_ = build_input(config, preprocess, plan.train, num_classes)
    with torch.device("meta"):
        choose_trained(config, model)
        optimizer = build_optimizer(config, model)
    schedule = build_schedule(plan)
    # What is built here and not used is built for its errors.
    build_train_loader(plan, input_.augment.geometry(preprocess))
    build_criterion(plan, model)
    build_teacher(config, source.classes, preprocess, torch.device("cpu"))
    with said_if_long("counting what a step costs"):
        cost = profile_run(plan, model, optimizer, plan.images_at_once)
    at_once = f"{plan.images_at_once} images at once"
    facts = [
        ["classes", f"{num_classes}"],
        ["training images", f"{len(plan.train):,}"],
        ["validation images", f"{len(val):,}"],
        ["device", f"{plan.device}, {plan.precision}"],
        ["parameters", f"{cost.parameters:,} ({cost.trainable:,} trained)"],
        ["weights", start.weights],
        *([["colours", start.colours]] * bool(start.colours)),
        ["GMACs per image", f"{cost.gmacs:.4f}"],
        ["steps", f"{plan.total_steps:,} ({plan.steps_per_epoch:,} per epoch)"],
        ["learning rate", rate_text(plan)],
        *map(list, balance_rows(plan).items()),
        *(["note", text] for text in late_numbers(plan)),
        ["memory estimate", f"{cost.memory.total / GIB:.2f} GiB at {at_once}"],
        *(["note", text] for text in padding_notes(cost.stages)),
        *(["note", printable(note)] for note in source.notes),
    ]
    # Facts come after the config, so that they are what is left on the screen.
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:{width}}  {value}" for name, value in facts]
    drawn = curve(lambda step: plan.lr * schedule(step), plan.total_steps)
    return "\n".join([config.to_yaml(), *lines, "", *drawn, "", stages_text(cost)])


def curve(value: Callable[[int], float], steps: int) -> list[str]:
    """Draw `value(0)` to `value(steps - 1)`, none below 0, from 0 to the largest that is drawn."""
    width = min(WIDTH, steps, max(1, screen.width(sys.stdout) - LABELS))
    at = [round(i * (steps - 1) / max(1, width - 1)) for i in range(width)]
    values = [value(step) for step in at]
    top = max(values)
    rows = [round((HEIGHT - 1) * v / top) if top > 0 else 0 for v in values]
    labels = {HEIGHT - 1: f"{top:.3g}", 0: "0"}
    lines = [
        f"{labels.get(row, ''):>9} |" + "".join("*" if r == row else " " for r in rows).rstrip()
        for row in reversed(range(HEIGHT))
    ]
    end = f"step {at[-1]:,}"
    return [*lines, " " * 11 + "0" + end.rjust(width - 1)]
