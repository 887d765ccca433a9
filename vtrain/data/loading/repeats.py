"""Repeated augmentation: an epoch of several views of fewer images.

Reference: Hoffer et al., "Augment your batch", arXiv:1901.09335; Touvron et al., DeiT,
arXiv:2012.12877, section 6.
"""

import torch
from torch import Tensor


def repeated(order: Tensor, repeats: int, batch_size: int) -> Tensor:
    """Turn an order of N images into one of N views: `repeats` views of each of N / repeats images.

    View v of image i is the number i + v N. Augmentation hashes that number, so that every view
    looks different; the image to read is the number modulo N. All views of an image are in one
    global batch (where `repeats` divides `batch_size`), and as far apart there as possible, so
    that mixing does not pair an image with itself.

    Args:
        order: A permutation of the images.
        repeats: Views of each image.
        batch_size: Images per step, over all processes.

    Shape: (N,) int64 -> (N,) int64 in [0, N repeats).
    """
    images = len(order)
    chosen = order[: -(-images // repeats)]
    views = [
        block + view * images
        for block in chosen.split(max(1, batch_size // repeats))  # type: ignore[no-untyped-call]
        for view in range(repeats)
    ]
    return torch.cat(views)[:images]
