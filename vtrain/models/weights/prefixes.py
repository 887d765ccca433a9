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
HEADS = re.compile(r"head\.(fc\.)?(weight|bias)")


def below_prefix(state: State) -> tuple[str, State, tuple[str, ...]]:
    """Take a model out of what holds it: return its prefix, its tensors, and the other names.

    What `torch.compile` and data parallelism leave in names is removed first. A linear head beside
    the model is the model's, where that has none.
    """
    state = {n.removeprefix("module.").replace("_orig_mod.", ""): t for n, t in state.items()}
    prefixes = {match["prefix"]: None for match in map(STEM.fullmatch, state) if match}
    if not prefixes or "" in prefixes:
        return "", state, ()
    prefix = max(prefixes, key=lambda p: bool(BETTER.search(p)) - bool(WORSE.search(p)))
    inner = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    if not any(name.startswith("head.") for name in inner):
        inner |= {name: tensor for name, tensor in state.items() if HEADS.fullmatch(name)}
    beside = (n for n in state if not n.startswith(prefix) and n not in inner)
    return prefix, inner, tuple(beside)
