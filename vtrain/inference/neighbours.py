"""The nearest images by cosine, and the class that they vote for: a classifier without training.

Reference: Wu et al., arXiv:1805.01978, section 3.1, as in Caron et al. (DINO), arXiv:2104.14294
(github.com/facebookresearch/dino, eval_knn.py): 20 neighbours, each with the weight
exp(cosine / 0.07).

B images that are asked about, N of which the classes are known, D features, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vtrain.errors import ConfigError

NEIGHBOURS = 20
TEMPERATURE = 0.07
ROWS = 1 << 16
"""Known images that are compared at a time."""


def nearest(features: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the cosines of the `k` nearest rows of `bank`, the nearest first, and their numbers.

    It holds the cosines of B x `ROWS` images at a time, and is computed where `features` are.

    Shape: (B, D), (N, D) -> (B, k) float32, (B, k) int64.

    Raises:
        ConfigError: There are fewer than `k` rows.
    """
    if k > len(bank):
        what = f"{k} neighbours are more than the {len(bank)} images that there are"
        raise ConfigError(what, "--k", "take fewer")
    asked = F.normalize(features.float(), dim=1)
    best = torch.empty((len(asked), 0), device=asked.device)
    numbers = torch.empty((len(asked), 0), dtype=torch.int64, device=asked.device)
    for start in range(0, len(bank), ROWS):
        known = F.normalize(bank[start : start + ROWS].to(asked.device).float(), dim=1)
        cosines = asked @ known.T  # (B, up to ROWS)
        places = torch.arange(start, start + len(known), device=asked.device)
        cosines = torch.cat([best, cosines], dim=1)
        numbers = torch.cat([numbers, places.expand(len(asked), -1)], dim=1)
        best, chosen = cosines.topk(min(k, cosines.shape[1]), dim=1)
        numbers = numbers.gather(1, chosen)
    return best, numbers


def vote(cosines: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Return each class's share of the neighbours' weights.

    Shape: cosines (B, k), the nearest first, labels (B, k) int64 -> (B, C), rows that add up to 1.
    """
    # Divided by the largest weight, which overflows at low temperatures; shares stay the same.
    weights = ((cosines - cosines[:, :1]) / temperature).exp()
    votes = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels, weights)
    return votes / votes.sum(1, keepdim=True)
