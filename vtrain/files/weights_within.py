"""Where other programs keep the weights in what they save during training."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from vtrain.files.checkpoint import evaluated_weights
from vtrain.files.weights_program import Stored

AVERAGED = ("state_dict_ema", "model_ema", "ema", "target_encoder")
"""Of timm; of DeiT's and torchvision's scripts; of lucidrains'; of I-JEPA. Not mmengine's
`ema_state_dict`: it exchanges the two when it saves, so that its `state_dict` holds the averaged
weights and this the others."""
USUAL = ("state_dict", "model", "model_state_dict", "teacher", "net", "network", "weights")
"""Of timm, Lightning, mmengine and MoCo; of DeiT, Swin, MAE and SimMIM; of DINO, whose teacher is
what is evaluated; of scripts."""
LAST = ("student", "module", "backbone", "encoder", "params")
AVERAGE = re.compile(r"(^|_)(ema|teacher|target|averaged|swa)(_|$)")


def weights_within(content: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the weights, read or `Stored`, and the key that they were under; else nothing.

    Averaged weights come before those that they are the average of, as where each program that
    keeps both evaluates.
    """
    # Not `Checkpoint.from_content`: weights serve even if a field beside them is missing.
    if isinstance(content.get("state"), dict):
        # Of a script that calls its weights so, it is not ours.
        with suppress(KeyError, TypeError, AttributeError):
            return _tensors(evaluated_weights(content["state"])), ""
    for key in (*AVERAGED, *USUAL):
        tensors = _below(content.get(key))
        if tensors:
            return tensors, f"{key}, averaged" if key in AVERAGED else key
    tensors = _tensors(content)
    if tensors:
        return tensors, ""
    named = ((key, _below(content.get(key))) for key in LAST)
    return next(((tensors, key) for key, tensors in named if tensors), _below_any(content))


def _below_any(content: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the weights that a script keeps under a key of its own, and that key; else nothing.

    They have the most tensors of all that is there. Of two models it is the averaged one.
    """
    named = {key: _below(value) for key, value in content.items() if isinstance(key, str)}
    most = max(map(len, named.values()), default=0)
    large = [key for key, tensors in named.items() if 2 * len(tensors) >= most > 1]
    best = sorted(large, key=lambda key: AVERAGE.search(key) is None)[:1]  # else in their order
    return next(((named[key], key) for key in best), ({}, ""))


def _below(value: Any) -> dict[str, Any]:
    """Return the tensors of a mapping, or of the one that it holds under a usual key."""
    if not isinstance(value, Mapping):
        return {}
    inner = (_tensors(value[key]) for key in USUAL if isinstance(value.get(key), Mapping))
    return next(filter(None, inner), None) or _tensors(value)


def _tensors(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        n: v for n, v in content.items() if isinstance(v, Tensor | Stored) and isinstance(n, str)
    }
