"""How much of everything one request, and all of them together, may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What the server accepts; beyond it a request is refused, and nothing else suffers."""

    body_bytes: int = 20 * 2**20
    """Of one image file."""
    all_bytes: int = 256 * 2**20
    """Of all image files that are being read or wait."""
    pixels: int = 32_000_000
    """Of an image; a JPEG of up to four times as many is decoded at half its size."""
    band_bytes: int = 128 * 2**20
    """Of the bands of a TIFF that is no picture; to unpack them takes four times as much memory."""
    waiting: int = 64
    """Requests that are being answered."""
    batch: int = 16
    """Images that the model is asked about together."""
    gather_seconds: float = 0.005
    """How long an image waits for others that are being decoded."""
    read_seconds: float = 15.0
    """Until a body must have arrived."""
    answer_seconds: float = 60.0
    """Until an answer must be there, and then until it must have been read."""
    head_seconds: float = 10.0
    """Until the head of a request must have arrived."""
    connections: int = 256
    """That are open at once."""
