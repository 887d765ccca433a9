"""Where the pixels of an evaluated image go: resize, crop and padding, by Pillow alone.

Nothing here needs torch: an exported model is asked without it.
"""

from typing import Literal

from PIL import Image

Resize = Literal["crop", "squash", "letterbox"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Triple = tuple[float, float, float]


def fit_image(
    image: Image.Image,
    image_size: int,
    resize: Resize,
    crop_fraction: float,
    interpolation: Interpolation,
    mean: Triple,
) -> Image.Image:
    """Bring an RGB image to `image_size` pixels per side; `Preprocess` explains the arguments.

    An image that already has that size is not changed.
    """
    S = image_size
    if image.size == (S, S):  # small datasets have the model's size as they are
        return image
    filter_ = Image.Resampling[interpolation.upper()]
    if resize == "squash":
        return image.resize((S, S), filter_)
    # The floor is the convention of published evaluation numbers: 224 / 0.875 = 256.
    target = int(S / crop_fraction) if resize == "crop" else S
    # Which side becomes `target`: the shorter one is cropped to S, the longer one fits into S.
    reference = min(image.size) if resize == "crop" else max(image.size)
    width, height = (max(1, target * side // reference) for side in image.size)
    image = image.resize((width, height), filter_)
    left, top = round((width - S) / 2), round((height - S) / 2)
    if resize == "crop":
        return image.crop((left, top, left + S, top + S))
    red, green, blue = (round(255 * m) for m in mean)
    canvas = Image.new("RGB", (S, S), (red, green, blue))
    canvas.paste(image, (-left, -top))
    return canvas
