"""A model that cannot be held is refused before memory is taken; all others are built."""

from functools import partial

import pytest

from vtrain.models.limits import check_fits_memory, largest_output
from vtrain.registry import MODELS

ViT = partial(MODELS["vit_ti"], num_classes=10)
Swin = partial(MODELS["swin_t"], num_classes=10)


@pytest.mark.parametrize("name", MODELS.names())
def test_no_model_of_the_zoo_is_too_large(name: str) -> None:
    size = MODELS[name].default("image_size")
    model = check_fits_memory(partial(MODELS[name], num_classes=1000, image_size=size))
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (partial(ViT, image_size=32, patch_size=4, embed_dim=192 * 10**6), "weights and tables"),
        (partial(ViT, image_size=32, patch_size=4, num_registers=10**30), "any memory"),
        (partial(ViT, image_size=32, patch_size=4, mlp_ratio=1e30), "any memory"),
        (partial(ViT, image_size=10**6, patch_size=1), "weights and tables"),
        (
            partial(ViT, image_size=20_000, patch_size=1, position_embedding="none"),
            "a layer of one image",
        ),
        (partial(Swin, image_size=7 * 2**14, patch_size=1), "weights and tables"),
    ],
)
def test_a_model_that_no_machine_holds_is_refused(build: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_fits_memory(build)  # type: ignore[arg-type]


def test_the_largest_output_is_that_of_the_first_dense_layer_of_an_mlp() -> None:
    model = check_fits_memory(partial(ViT, image_size=32, patch_size=4, mlp_ratio=8.0))
    assert largest_output(model) == (8 * 8 + 1) * 192 * 8
