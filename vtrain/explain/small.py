"""A map over a thumbnail, without axes or scale: a picture among many, drawn in a millisecond."""

import matplotlib as mpl
import numpy as np
from PIL import Image

from vtrain.explain.draw import COLOURS, OPACITY, Array, Box, Panel, muted, scale_of


def overlaid(image: Image.Image, box: Box, values: Array, side: int) -> Image.Image:
    """Return a grey photograph with a map over what the model saw of it.

    The scale is the map's own, as in `draw.picture`.

    Shape: `values` (rows, columns), not negative -> an RGB image of at most `side` x `side` pixels.
    """
    grey = muted(image)
    grey.thumbnail((side, side))
    across, down = grey.width / image.width, grey.height / image.height
    left, right = (round(box[i] * across) for i in (0, 2))
    top, bottom = (round(box[i] * down) for i in (1, 3))
    colours = coloured(values, (max(1, right - left), max(1, bottom - top)))
    photograph = grey.convert("RGB")
    covered = photograph.copy()
    # What lies beyond the photograph, where the model saw a filling, is cut off by `paste`.
    covered.paste(colours, (left, top))
    return Image.blend(photograph, covered, OPACITY)


def coloured(values: Array, size: tuple[int, int]) -> Image.Image:
    """Return a map in colours, on a scale of its own, brought to a size of (width, height).

    Shape: `values` (rows, columns), not negative -> an RGB image.
    """
    share = scale_of([Panel("", values)])(values).clip(0, 1)
    smooth = Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colours = mpl.colormaps[COLOURS](np.asarray(smooth), bytes=True)[..., :3]
    return Image.fromarray(np.ascontiguousarray(colours))
