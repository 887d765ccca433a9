"""Batched augmentation on the training device, one set of random parameters per sample."""

from vtrain.data.augment.augment import Augment

__all__ = ["Augment"]
