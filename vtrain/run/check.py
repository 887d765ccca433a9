"""`vtrain check`: everything that can be known about a run without training."""

import torch

from vtrain.config import Config
from vtrain.device import choose_device, choose_precision
from vtrain.distributed import Rank
from vtrain.models.profile import Profile
from vtrain.models.weights.pretrained import load_pretrained
from vtrain.run.build.batch_size import profile_run, with_batch_size
from vtrain.run.build.data import build_augment, build_mixing, build_preprocess, build_source
from vtrain.run.build.model import build_model, build_teacher
from vtrain.run.build.optim import build_criterion, build_optimizer, build_schedule, learning_rate
from vtrain.run.build.plan import batch_size, count_steps
from vtrain.run.text.balance import balance_rows
from vtrain.run.text.curve import curve
from vtrain.run.text.screens import rate_text
from vtrain.run.text.tables import columns

GIB = 1 << 30


def check_config(config: Config) -> str:
    """Build a config's parts without data in memory and describe them.

    Raises:
        VtrainError: Something in the config, the dataset's folder or the machine is wrong.
    """
    device = choose_device(config.train.device)
    config = with_batch_size(config, device, Rank(), trial=False)
    precision = choose_precision(config.train.precision, device)
    source = build_source(config)
    preprocess = build_preprocess(config, source)
    train = source.split("train")
    build_augment(config, preprocess, train)
    build_mixing(config, len(source.classes))
    with torch.device("meta"):
        model = build_model(config, len(source.classes))
        optimizer = build_optimizer(config, model)
    start = "random"
    if config.model.pretrained is not None:
        start = str(load_pretrained(model, config.model.pretrained, source.classes))
    images = len(train)
    steps_per_epoch, total_steps = count_steps(config, images)
    schedule = build_schedule(config, steps_per_epoch)
    lr = learning_rate(config)
    build_criterion(config, model, [1] * len(source.classes))
    build_teacher(config, source.classes, preprocess, torch.device("cpu"))
    at_once = -(-min(batch_size(config), images) // config.train.accum_steps)
    found = profile_run(config, model, optimizer, precision, device, at_once)
    facts = [
        ["classes", f"{len(source.classes)}"],
        ["training images", f"{images:,}"],
        ["device", f"{device}, {precision}"],
        ["parameters", f"{found.parameters:,} ({found.trainable:,} trained)"],
        ["weights", start],
        ["GMACs per image", f"{found.gmacs:.4f}"],
        ["steps", f"{total_steps:,} ({steps_per_epoch:,} per epoch)"],
        ["learning rate", rate_text(config)],
        *map(list, balance_rows(config, source.classes, train).items()),
        ["memory estimate", f"{found.memory.total / GIB:.2f} GiB at {at_once} images at once"],
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:{width}}  {value}" for name, value in facts]
    drawn = curve(lambda step: lr * schedule(step), total_steps)
    return "\n".join([config.to_yaml(), *lines, "", *drawn, "", _stages(found)])


def _stages(found: Profile) -> str:
    rows = [["stage", "shape"]]
    for stage in found.stages:
        rows.append([stage.name, ", ".join(str(shape) for shape in stage.shapes)])
    return columns(rows)
