"""What stands before every name: the attribute in which a training program keeps the model."""

import re

from vtrain.models.weights.rearrange import State

STEM = re.compile(
    r"(?P<prefix>(?:.+?\.)??)"
    r"(?:(?:patch_embed|pixel_embed)\.proj|(?:backbone\.)?patch_embed\.projection|conv_proj"
    r"|(?:(?:vit|deit|swin|swinv2|dinov2\w*)\.)?embeddings\.patch_embeddings\.projection|features\.0\.0"
    r")\.weight"
)
"""The kernel of the patches, which every model has under one of these names: whatever is in front
of it, other than what its own key mapping knows, is the place of the model in a larger one."""
BETTER = re.compile(r"(^|[._])(ema|teacher|averaged|swa)([._]|$)")
WORSE = re.compile(r"(^|[._])(student|momentum|momentum_encoder)([._]|$)")
"""Of two copies, the average is used; but MoCo's slow encoder only gives targets, as its authors
use the other."""
COUNT = "n_averaged"
"""Of `torch.optim.swa_utils.AveragedModel`: of how many weights it is the mean."""
HEADS = re.compile(r"head\.(fc\.)?(weight|bias)")


def below_prefix(state: State) -> tuple[str, State, tuple[str, ...]]:
    """Take a model out of what holds it: return its prefix, its tensors, and the other names.

    What `torch.compile` and data parallelism leave in names is removed first, and the count that
    torch keeps beside averaged weights. A linear head beside the model is the model's, where that
    has none.
    """
    state, counts = without_wrappers(state)
    prefixes = {match["prefix"]: None for match in map(STEM.fullmatch, state) if match}
    if not prefixes or "" in prefixes:
        return "", state, counts
    prefix = max(prefixes, key=lambda p: bool(BETTER.search(p)) - bool(WORSE.search(p)))
    inner = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    if not any(name.startswith("head.") for name in inner):
        inner |= {name: tensor for name, tensor in state.items() if HEADS.fullmatch(name)}
    beside = (n for n in state if not n.startswith(prefix) and n not in inner)
    return prefix, inner, (*beside, *counts)


def without_wrappers(state: State) -> tuple[State, tuple[str, ...]]:
    """Return the tensors by the names that the model itself has, and the names of all others."""
    inner = {n.removeprefix("module.").replace("_orig_mod.", ""): t for n, t in state.items()}
    counts = inner.keys() & {COUNT}
    return {name: inner[name] for name in inner if name not in counts}, tuple(counts)
