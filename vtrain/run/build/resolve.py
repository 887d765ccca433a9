"""Resolve a config into a plan: which device and precision, which images, how many in a step."""

import torch

from vtrain.config import Config
from vtrain.data.datasets.splits import Split
from vtrain.data.labels import has_several
from vtrain.device import check_compiler, choose_device, choose_precision
from vtrain.distributed import Rank
from vtrain.errors import ConfigError
from vtrain.run.build.batch_size import SAMPLE, find_batch_size
from vtrain.run.build.data import build_source
from vtrain.run.build.plan import Plan

ALONE = Rank()


def resolve(
    config: Config,
    device: torch.device | None = None,
    rank: Rank = ALONE,
    *,
    batch_size: int | None = None,
    source: Split | None = None,
    trial: bool = True,
) -> Plan:
    """Decide what a run will compute on, in which precision, on which images, so many at a time.

    `device` and `source` stand in for what the config names. Where it says `auto`, `batch_size` is
    that of a run that goes on; None looks for the largest one that fits: with `trial` by real steps
    on a GPU, which is exact, else by an estimate.

    Raises:
        VtrainError: The device or the dataset cannot be used, or not even one image fits.
    """
    device = choose_device(config.train.device) if device is None else device
    precision = choose_precision(config.train.precision, device)
    check_compiler(config.train.compile, device)
    source = build_source(config) if source is None else source
    source.check_training()
    # The training split is read here and nowhere else before the parts: `Split` keeps it.
    plan = Plan(config, device, precision, rank, source, source.split("train"))
    if config.train.batch_size != "auto":
        return plan
    # Found out only for a new run: the same steps with other batches would be another run.
    if batch_size is None:
        few = plan.changed(batch_size=min(len(plan.train), SAMPLE))
        batch_size = find_batch_size(few, trial=trial)
    return plan.changed(batch_size=batch_size)


def check_watched(plan: Plan) -> None:
    """Refuse to choose or stop by a metric that there is not, or that is always 1.

    Raises:
        ConfigError: It is of the other kind of labels; or it is top-5 accuracy, and there are at
            most five classes.
    """
    config, known, num_classes = plan.config, plan.task.metrics, len(plan.source.classes)
    watched = {"checkpoint.best_metric": plan.best_metric}
    if config.train.early_stopping is not None:
        rule = config.train.early_stopping
        watched["train.early_stopping.metric"] = rule.metric  # type: ignore[attr-defined]
    for key, metric in watched.items():
        if metric not in known:
            labels = "several labels" if has_several(plan.train.targets) else "one class"
            what = f"there is no {metric} of images of {labels} each"
            raise ConfigError(what, key, f"choose one of {', '.join(known)}")
        if metric == "val/top5" and num_classes <= 5:
            what = f"val/top5 is always 1 with {num_classes} classes, so that no epoch is better"
            raise ConfigError(what, key, "take val/top1 or val/loss")
