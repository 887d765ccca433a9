"""Mean and std of a run: the user's, else those of the weights it starts from, else the data's."""

import logging
from collections.abc import Sequence

from vtrain.config import Config
from vtrain.data.datasets.samples import Source
from vtrain.files.weights_colours import Colours
from vtrain.run.build.data import build_preprocess, for_channels

log = logging.getLogger(__name__)

Pair = tuple[tuple[float, ...], tuple[float, ...]]
CLOSE = 1e-3
"""Such numbers are published with three or four digits."""


def with_colours(config: Config, colours: Colours | None) -> Config:
    """Return the config of a run that starts from weights of these colours.

    Where the user has set neither `data.mean` nor `data.std`, they are those of the weights: what a
    run saves states them, so that whatever reads the run uses them. A run of one channel takes the
    means over three.
    """
    pair = _of_channels(colours, config.data.channels)
    if pair is None or is_set(config):
        return config
    data = config.data.model_copy(update=dict(zip(("mean", "std"), pair, strict=True)))
    return config.model_copy(update={"data": data})


def is_set(config: Config) -> bool:
    """Return whether a config says by itself which mean or which std."""
    return config.data.mean is not None or config.data.std is not None


def say_colours(config: Config, colours: Colours | None, source: Source) -> str:
    """Say which mean and std a run has that starts from weights, and why.

    Args:
        config: As the user gave it.
        colours: Of the weights.
        source: The dataset, which has a mean and std of its own.
    """
    preprocess = build_preprocess(with_colours(config, colours), source)
    own = preprocess.mean, preprocess.std
    pair = _of_channels(colours, preprocess.channels)
    if is_set(config):
        if colours is not None and pair is not None and _differ(own, pair):
            log.warning(
                "the weights were trained with %s (%s), and this run has %s: set theirs, unless "
                "that is meant",
                *(_shown(pair), colours.said_by, _shown(own)),
            )
        return f"{_shown(own)}, as set"
    if colours is not None and pair is not None:
        return f"{_shown(own)}, taken over from {colours.said_by}"
    why = "the weights do not say theirs"
    if colours is not None:
        why = f"those of the weights are of {len(colours.mean)} channels"
    return f"{_shown(own)} of the dataset, as {why}"


def _of_channels(colours: Colours | None, channels: int) -> Pair | None:
    """Return mean and std for so many channels; None where nothing says them."""
    if colours is None:
        return None
    if len(colours.mean) == channels:
        return colours.mean, colours.std
    if channels == 1 and len(colours.mean) == 3:
        mean, std = (for_channels(row, 1) for row in (colours.mean, colours.std))
        return mean, std
    return None


def _differ(one: Pair, other: Pair) -> bool:
    return any(
        abs(a - b) > CLOSE
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )


def _shown(pair: Pair) -> str:
    mean, std = map(_row, pair)
    return f"data.mean={mean} data.std={std}"


def _row(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
