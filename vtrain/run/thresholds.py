"""What a model of several labels names, and what it cannot be asked; nothing here needs torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vtrain.errors import CheckpointError, ConfigError
from vtrain.inference.files import Prediction
from vtrain.inference.onnx_model import OnnxModel

if TYPE_CHECKING:
    from vtrain.inference.loaded import LoadedModel


def limits_of(
    model: "OnnxModel | LoadedModel", members: Sequence["LoadedModel"], threshold: float | None
) -> dict[str, float]:
    """Return the probability from which on each class is named; none of one class an image.

    It is `threshold`, else the model's own, or the mean of those of `members`.

    Raises:
        CheckpointError: A member names several labels, and another one class.
    """
    if isinstance(model, OnnxModel):
        every = [dict(zip(model.classes, model.thresholds, strict=False))]
    else:
        every = [dict(zip(one.classes, one.task.thresholds, strict=False)) for one in members]
    first = every[0]
    for member, own in zip(members, every, strict=False):
        if bool(own) != bool(first):
            what = f"one of this and {model.path} names several labels an image, the other one"
            raise CheckpointError(what, member.path, "take models of one kind")
    if threshold is not None:
        return dict.fromkeys(first, threshold)
    return {name: sum(own[name] for own in every) / len(every) for name in first}


def refuse_without_meaning(
    thresholds: Collection[object],
    *,
    reject: float | None = None,
    conformal: float | None = None,
    threshold: float | None = None,
) -> None:
    """Refuse options without a meaning for a model of several labels, or of one class an image.

    Raises:
        ConfigError: There is one, and it says what to do.
    """
    if not thresholds and threshold is not None:
        what = "--threshold is for models of several labels, and this one names one class"
        raise ConfigError(what, "command line", "--reject says of which images it is unsure")
    for name, value in {"--reject": reject, "--conformal": conformal}.items():
        if thresholds and value is not None:
            what = f"{name} is for models of one class an image, and this one names several labels"
            raise ConfigError(what, "command line", "--threshold P names those above P")


def named(prediction: Prediction, limits: Mapping[str, float], top_k: int | None) -> Prediction:
    """Keep the classes that reach their limits, `top_k` of them at most."""
    chosen = [(name, p) for name, p in prediction.classes if p >= limits[name]]
    return replace(prediction, classes=chosen[:top_k], has_several=True)
