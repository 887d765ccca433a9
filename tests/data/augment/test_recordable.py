import torch
from torch.utils._pytree import tree_leaves

from vtrain.data.augment.augment import Augment
from vtrain.data.augment.mixing import Mixing
from vtrain.data.augment.policies import RandAugment
from vtrain.data.augment.recordable import RecordableInput
from vtrain.data.loading.loader import Batch

AUGMENT = Augment(
    *(16, (0.5,) * 3, (0.25,) * 3, 0, "bicubic", False),
    crop="resized",
    policy=RandAugment(),
    contrast=0.3,
    erasing=0.5,
)
MIXING = Mixing(4, 0, mixup=0.8, cutmix=1.0, mix_off_epoch=2)


def batch(start: int = 0) -> Batch:
    images = torch.randint(0, 256, (10, 3, 20, 24), dtype=torch.uint8)
    return Batch(images, torch.arange(10) % 4, torch.arange(10) + 30, start, 20)


def test_it_is_the_augmentation_and_the_mixing() -> None:
    part = batch(start=10)
    images = AUGMENT(part.images, part.indices, 1)
    want = MIXING(images, part.targets, 10, 5, 1)
    both = RecordableInput(AUGMENT, MIXING)
    got = both.apply(part.images, part.targets, both.draw(part, 5, 1))
    for ours, theirs in zip(got, want, strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_drawn_has_the_same_shapes_whatever_it_is() -> None:
    both = RecordableInput(AUGMENT, MIXING)
    shapes = [
        [leaf.shape for leaf in tree_leaves(both.draw(batch(), step, step % 2))]
        for step in range(20)
    ]
    assert all(found == shapes[0] for found in shapes)
    assert len(tree_leaves(both.draw(batch(), 0, 2))) < len(shapes[0])  # mixing has ended
