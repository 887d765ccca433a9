"""What the model is trained on, as a person sees it: augmented images above their labels."""

from PIL import Image

from vtrain import rng
from vtrain.data.input import Input
from vtrain.data.inspect.grid import grid, target_titles
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.preprocess import Preprocess


def augmented(
    loader: TrainLoader,
    make_input: Input,
    preprocess: Preprocess,
    classes: tuple[str, ...],
    count: int,
) -> Image.Image:
    """Return `count` training images as the first epoch's first step would see them.

    The choice of images is always the same one, so that two pictures of one dataset show what a
    change of the config changes.

    Raises:
        DataError: One of the images cannot be read.
    """
    # By seed 0, whatever the run's: a picture of another seed shows the same images.
    batch = loader.take(rng.permutation(len(loader.samples), 0)[:count])
    images, targets = make_input(batch, step=0, epoch=0)
    return grid(preprocess.denormalise(images).cpu(), target_titles(targets.cpu(), classes))
