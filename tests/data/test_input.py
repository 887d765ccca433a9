from dataclasses import replace

import pytest
import torch

from tests.data.augment.flat import augment_of
from vtrain.data.augment.mixing import Mixing
from vtrain.data.augment.policies import RandAugment
from vtrain.data.input import Input, no_augmentation
from vtrain.data.loading.batches import Batch

AUGMENT = augment_of(
    *(16, (0.5,) * 3, (0.25,) * 3, 0, "bicubic", False),
    crop="resized",
    policy=RandAugment(),
    contrast=0.3,
    erasing=0.5,
)
MIXING = Mixing(4, 0, mixup=0.8, cutmix=1.0, mix_off_epoch=2)


def batch(start: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, 20, 24), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(10) % 4, torch.arange(10) + 30, start, 20)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_it_is_the_augmentation_by_index_and_then_the_mixing_by_step(epoch: int) -> None:
    part = batch(start=10)
    images = AUGMENT(part.images, part.indices, epoch)
    want = MIXING(images, part.targets, 10, 5, epoch)  # start, step, epoch
    for ours, theirs in zip(Input(AUGMENT, MIXING)(part, 5, epoch), want, strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_drawn_depends_on_step_epoch_index_and_start_but_not_on_pixels() -> None:
    both = Input(AUGMENT, MIXING)
    black = replace(batch(), images=torch.zeros_like(batch().images))
    drawn = [
        both.draw(part, step, epoch)
        for part, step, epoch in [
            *((batch(), 5, 1), (black, 5, 1), (batch(), 6, 1), (batch(), 5, 0), (batch(4), 5, 1)),
            (replace(batch(), indices=torch.arange(10)), 5, 1),
        ]
    ]
    boxes = [d.augment.crop_flip.crops for d in drawn]
    assert [torch.equal(boxes[0], other) for other in boxes] == [True] * 3 + [False, True, False]
    mixed = [d.mixing.shares for d in drawn if d.mixing is not None]
    assert [torch.equal(mixed[0], other) for other in mixed] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_batch_that_is_ready_stays_as_it_is() -> None:
    part = batch()
    images, targets = no_augmentation(part, 0, 0)
    assert images is part.images
    assert targets is part.targets
