"""Images that look alike although their files differ: scaled, compressed again, slightly cropped.

A signature of 128 bits says of a small grey version of an image where it becomes brighter to the
right and downwards: the difference hash (N. Krawetz, "Kind of like that", 2013), in both
directions. Images with nearly equal signatures are looked at again, somewhat larger.

N images of one split, M of the other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtrain.data.datasets.samples import Samples
from vtrain.errors import DataError

SIDE = 8
BYTES = 2 * SIDE * SIDE // 8
DISTANCE = 7
"""Bits of a signature that may differ: then one of its 8 parts of 16 bits is the same."""
COMMON = 4000
"""Images of a split that share such a part: more say that it is of a plain background."""
PAIRS = 1 << 20
"""Signatures that are compared at a time."""
LOOKED_AT = 2000
"""Pairs of which both images are read again: the nearest ones."""
LOOK = 32
"""Pixels per side at which that is done."""
LIKENESS = 0.97
"""Correlation of grey levels from which on two images are told."""
FLAT = 4.0
"""Standard deviation of grey levels below which there is nothing to compare."""

Words = NDArray[np.uint16]
ONES = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


@dataclass(frozen=True)
class Pair:
    """Two images that look alike, by their numbers in their splits."""

    one: int
    other: int
    likeness: float
    """Correlation of their grey levels, at most 1."""


def signature(image: Image.Image) -> bytes:
    """Return the signature of an RGB image: `BYTES` bytes."""
    levels = np.asarray(_small_grey(image, SIDE + 1), np.int16)
    right = levels[:-1, 1:] > levels[:-1, :-1]
    down = levels[1:, :-1] > levels[:-1, :-1]
    return np.packbits(np.concatenate([right, down])).tobytes()


class Signatures:
    """The signatures of the images of a split, in `BYTES` bytes each."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._numbers: list[int] = []

    def add(self, number: int, signature: bytes) -> None:
        self._bytes += signature
        self._numbers.append(number)

    @property
    def words(self) -> Words:
        """Shape: (N, 8)."""
        return np.frombuffer(bytes(self._bytes), np.uint16).reshape(-1, BYTES // 2)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Which images they are of. Shape: (N,)."""
        return np.array(self._numbers, np.int64)


def near(one: Words, other: Words) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows of signatures that differ in `DISTANCE` bits at most; a pair may come again.

    They share one of eight parts, so that only images that do are compared. A part that more than
    `COMMON` images share leads to none of them: another part may.

    Shape: (N, 8), (M, 8) -> pairs of (n,).
    """
    for column in range(one.shape[1]):
        order = np.argsort(one[:, column], kind="stable")
        values = one[order, column]
        first = np.searchsorted(values, other[:, column], "left")
        counts = np.searchsorted(values, other[:, column], "right") - first
        counts[counts > COMMON] = 0
        ends = np.cumsum(counts)
        start = 0
        while start < len(other):
            # As many of the other split as have `PAIRS` pairs together, and one at least.
            before = ends[start - 1] if start else 0
            stop = max(int(np.searchsorted(ends, before + PAIRS, "right")), start + 1)
            many = counts[start:stop]
            right = np.repeat(np.arange(start, stop), many)
            within = np.arange(len(right)) - np.repeat(np.cumsum(many) - many, many)
            left = order[first[right] + within]
            bits = ONES[one[left] ^ other[right]].sum(1)
            chosen = bits <= DISTANCE
            yield left[chosen], right[chosen]
            start = stop


def nearest_pairs(one: Words, other: Words, most: int) -> tuple[list[tuple[int, int]], bool]:
    """Return the pairs of rows that `near` finds, those with the fewest different bits first.

    Returns:
        Up to `most` pairs, the same each time, and whether there are more.
    """
    codes, bits, more = np.empty(0, np.int64), np.empty(0, np.int64), False
    for left, right in near(one, other):
        found = np.concatenate([codes, left * len(other) + right])
        codes = np.unique(found)
        bits = ONES[one[codes // len(other)] ^ other[codes % len(other)]].sum(1)
        if len(codes) > most:  # of very many no more than these are ever held
            kept = np.lexsort((codes, bits))[:most]
            codes, bits, more = codes[kept], bits[kept], True
    ranked = codes[np.lexsort((codes, bits))]
    return [(int(code) // len(other), int(code) % len(other)) for code in ranked], more


def alike(
    one: Signatures, other: Signatures, samples: tuple[Samples, Samples]
) -> tuple[list[Pair], bool]:
    """Return the pairs of images of two splits that look alike, the likest first.

    Of each image of the other split it is the one that it is most like.

    Returns:
        The pairs, and whether there were more to look at than `LOOKED_AT`.
    """
    left, right = one.numbers, other.numbers
    if not len(left) or not len(right):
        return [], False
    rows, more = nearest_pairs(one.words, other.words, LOOKED_AT)
    best: dict[int, Pair] = {}
    for pair in _judged([(int(left[a]), int(right[b])) for a, b in rows], samples):
        before = best.get(pair.other)
        if pair.likeness >= LIKENESS and (before is None or pair.likeness > before.likeness):
            best[pair.other] = pair
    return sorted(best.values(), key=lambda pair: (-pair.likeness, pair.other)), more


def _judged(pairs: Iterable[tuple[int, int]], samples: tuple[Samples, Samples]) -> Iterator[Pair]:
    looks: dict[tuple[int, int], NDArray[np.float64] | None] = {}
    for pair in pairs:
        for split, number in enumerate(pair):
            if (split, number) not in looks:
                looks[split, number] = _look(samples[split], number)
        one, other = looks[0, pair[0]], looks[1, pair[1]]
        if one is not None and other is not None:
            yield Pair(*pair, min(1.0, float((one * other).mean())))


def _look(samples: Samples, number: int) -> NDArray[np.float64] | None:
    """Return grey levels of mean 0 and variance 1, None of an image without contrast."""
    try:
        image = samples.image(number)
    except DataError:  # it could be read a moment ago
        return None
    levels = np.asarray(_small_grey(image, LOOK), np.float64)
    spread = levels.std()
    return None if spread < FLAT else (levels - levels.mean()) / spread


def _small_grey(image: Image.Image, side: int) -> Image.Image:
    # Reduced by a whole number first, which is fast; grey last, of few pixels. A box filter would
    # give other levels for another size of the same image.
    size = (side, side)
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
