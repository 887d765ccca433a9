"""What a file is that cannot be read as an image, in words that lead to one that can."""

import io
import struct

from PIL import TiffImagePlugin

from vtrain.files.image_readers import INSTALL_HEIC

STARTS: dict[tuple[bytes, ...], tuple[str, str]] = {
    (b"<!doctype html", b"<html"): ("a web page", ""),
    (b"<svg", b"<?xml"): ("SVG or XML", ""),
    (b"version https://git-lfs",): ("a Git LFS pointer, which `git lfs pull` replaces", ""),
    (b"%pdf",): ("PDF", ""),
    (b"%!ps",): ("PostScript", ""),
    (b"\0\0\0\x0cjp  ", b"\xffo\xffq"): ("a damaged JPEG 2000", "replace or remove it"),
    (b"\xff\x0a", b"\0\0\0\x0cjxl "): ("JPEG XL", "save it as JPEG or PNG, as djxl does"),
    (b"8bps",): ("Photoshop", ""),
    (b"v/1\x01",): ("OpenEXR", ""),
    (b"\x89hdf",): ("HDF5", ""),
    (b"simple  =",): ("FITS", "save its image as a 16-bit or float TIFF"),
    (b"pk\3\4",): ("a ZIP archive", "unpack it"),
    (b"\x1f\x8b",): ("a gzip file, as NIfTI often is", "unpack it"),
    (b"fujifilmccd-raw", b"iiu\0", b"iiro", b"mmor"): ("a camera's raw file", "develop it first"),
}
"""How files begin that are often met where an image should be, in lower case -> what they are, and
what to do if that is not to save them in another format."""
BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"crx ": "a camera's raw file",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
}
"""The brand in the box `ftyp` of a file of ISO's family -> what it is; others are video."""
COMPRESSIONS = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI log",
    34677: "SGI log",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""TIFF's compressions that Pillow's own build of libtiff does not read."""
ADVICE = {"HEIC": INSTALL_HEIC, "a camera's raw file": "develop it first", "video": ""}
TIFF_STARTS = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
INSIDE = (
    ((128, 132), {b"DICM"}, "DICOM"),
    ((344, 348), {b"n+1\0", b"ni1\0"}, "NIfTI"),
)
"""Where a file says what it is, if not at its start."""
SAMPLE_FORMATS = {1: "", 2: "signed ", 3: "float ", 5: "complex ", 6: "complex float "}


def is_heic(data: bytes) -> bool:
    """Whether a file says that it is HEIC, as telephones write it."""
    return data[4:8] == b"ftyp" and BRANDS.get(data[8:12]) == "HEIC"


def is_canon_raw(data: bytes) -> bool:
    """Whether a TIFF is a raw file of Canon, whose first image is a preview that nothing marks."""
    return data[:4] in TIFF_STARTS and data[8:10] == b"CR"


def kind_of(data: bytes) -> tuple[str, str]:
    """Say what a file of no readable format is, and what to do about it, if that is known."""
    if not data:
        return "the file is empty", "replace or remove it"
    if is_canon_raw(data):
        return "a camera's raw file", ADVICE["a camera's raw file"]
    # These two are read in general: it is the kind within the format that is not.
    if data[:4] in TIFF_STARTS:
        return tiff_kind(data), "save it with 1 or 3 bands of 8 or 16 bits, uncompressed or deflate"
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_kind(data), "save it as a baseline JPEG of 8 bits, or as PNG"
    kind, advice = _looks_like(data)
    return f"it looks like {kind}" if kind else "unknown format", advice


def _looks_like(data: bytes) -> tuple[str, str]:
    if data[4:8] == b"ftyp":
        kind = BRANDS.get(data[8:12], "video")
        return kind, ADVICE.get(kind, "save it as JPEG or PNG")
    for (start, end), magic, kind in INSIDE:
        if data[start:end] in magic:
            return kind, "save its image as PNG or TIFF"
    # Text may begin with blanks; a binary file's first bytes are none of them.
    head = data[:512].lstrip(b" \t\r\n").lower()
    found = (said for starts, said in STARTS.items() if head.startswith(starts))
    return next(found, ("", ""))


def tiff_kind(data: bytes) -> str:
    """Describe the first image of a TIFF by its tags."""
    try:
        tags = tiff_tags(data)
        # 277: bands, 258: bits of each, 339: how to read the bits, 259: compression, 262: what the
        # values mean (two of these are raw sensors), 50706: a DNG's version.
        tags[256]  # every TIFF has a width
        samples = tags.get(277, 1)
        bits = tags.get(258, (1,))
        kind = SAMPLE_FORMATS.get(tags.get(339, (1,))[0], "")
    except Exception:  # Pillow's parser raises whatever a damaged directory leads to
        return "a damaged TIFF"
    if tags.get(259) in COMPRESSIONS:
        return f"a TIFF compressed as {COMPRESSIONS[tags[259]]}"
    raw = ", a camera's raw file" if 50706 in tags or tags.get(262) in {32803, 34892} else ""
    return f"a TIFF of {samples} band{'s' * (samples != 1)} of {kind}{bits[0]} bits{raw}"


def tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of the first image of a TIFF."""
    big = data[2:3] == b"+" or data[3:4] == b"+"  # BigTIFF, whose header is longer
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if big else 8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    return directory


def jpeg_kind(data: bytes) -> str:
    """Describe a JPEG by the header of its frame."""
    at = _frame(data)
    if at is None:
        return "a damaged JPEG"
    bits, components = data[at + 4], data[at + 9]
    return f"a {'lossless ' * is_lossless(data)}JPEG of {components} x {bits} bits"


def is_lossless(data: bytes) -> bool:
    """Whether a JPEG is coded without a cosine transform, as hardly anything reads it."""
    at = _frame(data)
    return at is not None and data[at + 1] in {0xC3, 0xC7, 0xCB, 0xCF}


def _frame(data: bytes) -> int | None:
    """Return where the marker of the first frame of a JPEG is."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        # The start of a frame, but for three of these numbers, which are tables or reserved.
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            return at
        # To the next segment: the marker's two bytes, and a length that counts itself.
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None
