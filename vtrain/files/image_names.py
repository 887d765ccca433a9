"""Which file names are taken for images."""

from pathlib import Path

from vtrain.files.image_readers import HEIC_ENDINGS, reads_heic

ENDINGS = (
    "jpg jpeg jpe jfif mpo png apng bmp dib gif webp avif avifs tif tiff ppm pgm pbm pnm "
    "jp2 j2k j2c jpc jpf jpx npy"
)
EXTENSIONS = frozenset(
    f".{ending}" for ending in (ENDINGS + f" {HEIC_ENDINGS}" * reads_heic()).split()
)
"""Lower-case endings of file names that are taken for images in a folder."""


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image, in either case."""
    return Path(name).suffix.lower() in EXTENSIONS
