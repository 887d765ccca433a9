"""A place in [0, 1) for each image, by its name alone: what decides on which side of a split it is.

No other image has a say, so that adding or removing some moves no other from one side to the other.
The price is that a class gives its share on average and not to the image: of n images of any names
a share f is n f, give or take sqrt(n f (1 - f)). Names that end in a running number cost next to
nothing: the places of ten in a row (10 to 19) lie in ten different tenths, those of a hundred in a
hundred different hundredths.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtrain import rng

Numbers: TypeAlias = NDArray[np.uint64]

COPRIME = torch.tensor([1, 3, 7, 9])
"""Times one of these, plus anything, modulo 10 is a permutation of the digits."""
LEVELS = 2
"""Decimals of a place in which the images of a row differ."""
STEP = np.uint64(0x9E3779B97F4A7C15)  # any odd number: no two blocks of a row share a draw


def places(names: Iterable[str]) -> Tensor:
    """Return the place of each name. Shape: N names -> (N,) float64 in [0, 1)."""
    rows, numbers = _rows_and_numbers(names)
    place = torch.zeros(len(rows), dtype=torch.float64)
    # Digit after digit of the number, the last one first: a decimal each, permuted in every ten.
    for level in range(LEVELS):
        numbers, digits = np.divmod(numbers, np.uint64(10))
        factor, shift = _draws(rows, numbers, level).unbind(1)
        decimal = torch.from_numpy(digits.astype(np.int64)) * COPRIME[(factor * 4).long()]
        place = 10 * place + (decimal + (shift * 10).long()) % 10
    rest = _draws(rows, numbers, LEVELS)[:, 0]
    return (place + rest).div(10**LEVELS)


def _draws(rows: Numbers, blocks: Numbers, level: int) -> Tensor:
    """Draw two numbers in [0, 1) for each block of each row. Shape: (N,), (N,) -> (N, 2)."""
    return rng.uniforms(torch.from_numpy((rows + blocks * STEP).view(np.int64)), 2, level)


def _rows_and_numbers(names: Iterable[str]) -> tuple[Numbers, Numbers]:
    """Hash each name without its number, which it may end in, and return that, too.

    Shape: N names -> (N,), (N,).
    """
    rows, numbers = [], []
    last, row = None, 0
    for name in names:
        # The same name in whatever way its accents or the image are written.
        stem = os.path.splitext(unicodedata.normalize("NFC", name))[0]  # noqa: PTH122 - of a million
        head = stem.rstrip("0123456789")
        head = head if len(stem) - len(head) <= 18 else stem  # no running number, nor 64 bits
        if head != last:  # those of a row follow each other
            digest = hashlib.blake2b(head.encode(errors="surrogateescape"), digest_size=8)
            last, row = head, int.from_bytes(digest.digest(), "big")
        rows.append(row)
        numbers.append(int(stem[len(head) :] or 0))
    return np.array(rows, np.uint64), np.array(numbers, np.uint64)
