"""What the model is trained on, as a person sees it: augmented images above their labels."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from vtrain import rng
from vtrain.data.input import Input
from vtrain.data.inspect.lettering import draw_line
from vtrain.data.labels import NO_LABEL
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.normalise import to_image
from vtrain.data.preprocess import Preprocess

TILE = 112  # pixels per side below which a tile is too small to see
TEXT = 11  # height of a letter, in pixels


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


def grid(images: Tensor, titles: Sequence[str]) -> Image.Image:
    """Tile images, each above its title, in rows about as long as there are columns.

    Small images are enlarged by a whole factor, without interpolation.

    Shape: (N, C, H, W) uint8, N titles.
    """
    H, W = images.shape[2:]
    factor = -(-TILE // min(H, W))
    width, height = W * factor, H * factor
    columns = math.ceil(math.sqrt(len(images)))
    rows = -(-len(images) // columns)
    lines = max(title.count("\n") + 1 for title in titles)
    cell_width, cell_height = width + 4, height + lines * (TEXT + 4) + 4
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    for i, (pixels, title) in enumerate(zip(images.cpu(), titles, strict=True)):
        row, column = divmod(i, columns)
        left, top = column * cell_width + 2, row * cell_height + 2
        tile = to_image(pixels).convert("RGB")
        sheet.paste(tile.resize((width, height), Image.Resampling.NEAREST), (left, top))
        # On a strip of its own: a long name ends with its tile, and covers no other name.
        strip = Image.new("RGB", (width, lines * (TEXT + 4)), "white")
        for number, line in enumerate(title.split("\n")):
            draw_line(ImageDraw.Draw(strip), 0, number * (TEXT + 4), line, TEXT)
        sheet.paste(strip, (left, top + height))
    return sheet


def target_titles(targets: Tensor, classes: Sequence[str]) -> list[str]:
    """Name the class of each target; of several, or mixed ones, each in a line with its share.

    Shape: (N,) int64 or (N, K) float.
    """
    if targets.ndim == 1:
        return [classes[target] for target in targets.tolist()]
    titles = []
    for row in targets.tolist():
        parts = [(share, name) for share, name in zip(row, classes, strict=True) if share > 0]
        parts.sort(key=lambda part: -part[0])
        lines = (name if share == 1 else f"{share:.2f} {name}" for share, name in parts)
        titles.append("\n".join(lines) or NO_LABEL)
    return titles
