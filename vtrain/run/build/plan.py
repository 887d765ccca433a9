"""Numbers that follow from a config: the batch, the steps."""

from vtrain.config import Config


def batch_size(config: Config) -> int:
    """Return the images of a step, once `auto` has been replaced."""
    assert config.train.batch_size != "auto", "see run.batch_size"
    return config.train.batch_size


def count_steps(config: Config, images: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch and of the whole run."""
    steps_per_epoch = -(-images // batch_size(config))  # a partial last batch is a step
    total = config.train.epochs * steps_per_epoch
    return steps_per_epoch, min(total, config.train.max_steps or total)
