"""What reads image files beside Pillow, and how Pillow's libraries are kept quiet."""

import contextlib
import ctypes
import importlib.util
import logging
import warnings
from functools import cache
from pathlib import Path

HEIC_ENDINGS = "heic heif hif"
INSTALL_HEIC = "pip install pillow-heif, or save it as JPEG or PNG"


def reads_heic() -> bool:
    """Whether the package that reads HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def heic_formats() -> tuple[str, ...]:
    """Have Pillow read HEIC, and return its name of the format; nothing where it cannot."""
    if not reads_heic():
        return ()
    import pillow_heif

    pillow_heif.register_heif_opener()
    return ("HEIF",)


def hush_pillow() -> None:
    """Keep remarks on odd files off the terminal; real damage raises."""
    # Not `catch_warnings`, which is not safe in threads; repeated because tests reset the filters.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    pillow = logging.getLogger("PIL")
    if pillow.level != logging.CRITICAL:
        pillow.setLevel(logging.CRITICAL)
    _hush_libtiff()


@cache
def _hush_libtiff() -> None:
    """Take from libtiff the function that prints errors, which are raised as well."""
    # Pillow does so with warnings alone. The library is the one that Pillow has loaded: where it
    # cannot be found, as on other systems than Linux, its lines stay.
    with contextlib.suppress(OSError, AttributeError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths = {line.split(maxsplit=5)[-1] for line in lines if "/libtiff" in line}
        for path in paths:
            ctypes.CDLL(path).TIFFSetErrorHandler(None)
