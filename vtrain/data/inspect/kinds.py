"""Say what is used of images that hold more than one picture of 8 bits."""

from collections.abc import Iterator

from vtrain.data.unused import CHANNELS_UNUSED, PAGES_UNUSED
from vtrain.errors import counted

FEW_LEVELS = 64
"""A quarter: deep images that take fewer levels declare a range that they do not use."""


def kind_lines(
    paged: int,
    banded: int,
    deep: int,
    levels: tuple[int, int] | None,
    values: tuple[float, float] | None,
) -> Iterator[str]:
    """Yield lines on pages, channels and depths: what of them is used, and in which range."""
    if paged:
        yield f"  pages: {counted(paged, 'file has', 'files have')} {PAGES_UNUSED}"
    if banded:
        yield f"  channels: {counted(banded, 'image has', 'images have')} {CHANNELS_UNUSED}"
    if levels is None or values is None:
        return
    (low, high), (least, most) = levels, values
    images = counted(deep, "image of over 8 bits takes", "images of over 8 bits take")
    yield (
        f"  range: {images} levels {low} to {high} of 0 to 255 "
        f"(their values are {least:.10g} to {most:.10g})"
    )
    if high - low < FEW_LEVELS and least < most:  # no range makes one value many
        yield (
            f"    they are nearly of one grey: set data.value_range=[{least:.10g}, {most:.10g}], "
            "or what black and white are to you; or state their white in TIFF's tag 281 "
            "(MaxSampleValue: 4095 for 12 bits)"
        )
