"""Say what is used of images that hold more than one picture of 8 bits."""

from collections.abc import Iterator

FEW_LEVELS = 64
"""A quarter: deep images that take fewer levels declare a range that they do not use."""


def kind_lines(paged: int, deep: int, levels: tuple[int, int] | None) -> Iterator[str]:
    """Yield lines on files of several pages, and on the levels that deep images take."""
    if paged:
        yield f"  pages: {paged:,} files have several pages or frames: only the first is used"
    if levels is None:
        return
    low, high = levels
    yield f"  range: {deep:,} images of over 8 bits take levels {low} to {high} of 0 to 255"
    if high - low < FEW_LEVELS:
        yield (
            "    they are nearly of one grey: state their white in TIFF's tag 281 (MaxSampleValue: "
            "4095 for 12 bits), or stretch their values first"
        )
