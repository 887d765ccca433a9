"""Stochastic depth: drop a residual branch for some samples of a batch.

Reference: Huang et al., "Deep networks with stochastic depth", arXiv:1603.09382.
"""

from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero a branch for each sample with probability `rate`; scale the survivors by 1 / (1 - rate).

    The identity in evaluation. Shape: (B, ...) -> (B, ...).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        # One number for each sample, (B, 1, ..., 1): broadcast over its tokens and channels.
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.4g}"


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Return the rate of each block: linear from 0 at the first to `rate` at the last."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]
