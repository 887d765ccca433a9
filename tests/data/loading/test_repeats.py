import pytest
import torch

from vtrain.data.loading.loader import repeated


@pytest.mark.parametrize(("images", "repeats", "batch"), [(60, 3, 12), (61, 3, 12), (50, 4, 8)])
def test_an_epoch_has_as_many_views_as_there_are_images(
    images: int, repeats: int, batch: int
) -> None:
    order = torch.randperm(images)
    views = repeated(order, repeats, batch)
    assert len(views) == images
    assert len(views.unique()) == images
    chosen = views % images
    assert set(chosen.tolist()) == set(order[: -(-images // repeats)].tolist())
    assert torch.bincount(chosen).max() == repeats


def test_all_views_of_an_image_are_in_one_batch_and_never_partners() -> None:
    views = repeated(torch.randperm(120), 3, 24)
    for batch in views.view(5, 24) % 120:
        assert (torch.bincount(batch)[batch] == 3).all()
        assert (batch[0::2] != batch[1::2]).all()


def test_one_view_is_the_order_itself() -> None:
    order = torch.randperm(17)
    assert torch.equal(repeated(order, 1, 5), order)


def test_no_view_at_all_is_a_bug_here() -> None:
    with pytest.raises(ZeroDivisionError):
        repeated(torch.randperm(17), 0, 5)
