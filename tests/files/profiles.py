"""Colour profiles of a matrix and an exponent, made by hand (ICC.1:2001-04)."""

import struct

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float64]
# Columns: red, green, blue in XYZ of D50, as the profiles' tags have them (both by Bradford).
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
GAMMA = 2.19921875  # as a curve of one number has it, in 8.8 fixed point


def profile(name: str, matrix: Levels = DISPLAY_P3) -> bytes:
    """A profile of version 2: three primaries and one exponent."""

    def fixed(values: Levels) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(np.array([0.9642, 1.0, 0.8249])),
        **{
            key: b"XYZ " + bytes(4) + fixed(matrix[:, i])
            for i, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        },
        **dict.fromkeys(
            (b"rTRC", b"gTRC", b"bTRC"),
            b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256)),
        ),
    }
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for key, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += key + struct.pack(">II", start + len(body), len(content))
        body += padded
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(np.array([0.9642, 1.0, 0.8249]))
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body
