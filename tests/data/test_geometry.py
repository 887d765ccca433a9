import numpy as np
import pytest
from PIL import Image

from vtrain.data.preprocess import Preprocess


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
@pytest.mark.parametrize("size", [(64, 64), (120, 90), (90, 120), (37, 200), (301, 47), (32, 32)])
def test_the_seen_box_is_what_the_square_shows(resize, size) -> None:
    """A picture whose colours are its coordinates says which part of it a square is."""
    fraction = 0.875 if resize == "crop" else 1.0
    preprocess = Preprocess(32, resize=resize, crop_fraction=fraction, interpolation="bilinear")
    width, height = size
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    picture = np.stack([across, down, np.full(across.shape, 0.0)], -1).round().astype(np.uint8)
    square = preprocess(Image.fromarray(picture)).double()
    left, top, right, bottom = preprocess.seen_box(size)
    for x, y in [(16, 16), (14, 18), (18, 12)]:  # inside also where the square is filled up
        wanted_x = left + (x + 0.5) * (right - left) / 32
        wanted_y = top + (y + 0.5) * (bottom - top) / 32
        if 2 < wanted_x < width - 2 and 2 < wanted_y < height - 2:
            found_x = square[0, y, x] / 255 * (width - 1) + 0.5
            found_y = square[1, y, x] / 255 * (height - 1) + 0.5
            # Bytes are whole numbers, and so are the sides after scaling.
            assert abs(found_x - wanted_x) <= 0.5 + width / 255 + (right - left) / 64
            assert abs(found_y - wanted_y) <= 0.5 + height / 255 + (bottom - top) / 64
    if resize == "crop":
        assert left >= -0.5
        assert right <= width + 0.5
    if resize == "letterbox" and width != height:
        assert (left < 0) == (height > width)
        assert (top < 0) == (width > height)
