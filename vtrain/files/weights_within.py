"""Where other programs keep the weights in what they save during training."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vtrain.files.checkpoint import evaluated_weights
from vtrain.files.weights_program import Stored

AVERAGED = ("state_dict_ema", "model_ema", "ema")
"""Of timm, DeiT and lucidrains' scripts. Not mmengine's `ema_state_dict`: it exchanges the two when
it saves, so that its `state_dict` holds the averaged weights and this the others."""
USUAL = ("state_dict", "model", "model_state_dict", "teacher", "net", "network", "weights")
"""Of timm, Lightning, mmengine and MoCo; of DeiT, Swin, MAE and SimMIM; of DINO, whose teacher is
what is evaluated; of scripts."""
LAST = ("student", "module", "backbone", "encoder", "params")


def weights_within(content: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the weights, read or `Stored`, and the key that they were under; else nothing.

    Averaged weights come before those that they are the average of, as where each program that
    keeps both evaluates.
    """
    # Not `Checkpoint.from_content`: weights serve even if a field beside them is missing.
    if isinstance(content.get("state"), dict):
        try:
            return _tensors(evaluated_weights(content["state"])), ""
        except (KeyError, TypeError, AttributeError):
            return {}, ""
    for key in (*AVERAGED, *USUAL):
        tensors = _below(content.get(key))
        if tensors:
            return tensors, f"{key}, averaged" if key in AVERAGED else key
    tensors = _tensors(content)
    if tensors:
        return tensors, ""
    named = ((key, _below(content.get(key))) for key in LAST)
    return next(((tensors, key) for key, tensors in named if tensors), ({}, ""))


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
