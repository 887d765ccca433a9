"""NumPy archives (`.npz`), written atomically and read without pickle.

They are stored without compression, so that none can be a bomb: no array that is read is larger
than the file. Of other programs compressed ones are read where that is asked for, up to a
size that is stated with them.
"""

import io
import zipfile
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vtrain.errors import CheckpointError
from vtrain.files.atomic import replacing

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
MAX_BYTES = 2**36
"""Of a file: the logits of 17 million images of 1,000 classes."""

MOST_ARRAYS = 10_000
"""Of a file: the largest model of the zoo has some hundreds."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Replace the content of `path` by arrays, which `numpy.load` reads by their names.

    The same arrays are the same bytes: no date is written.

    Raises:
        StorageError: It cannot be written; what was at `path` is untouched.
    """
    with (
        replacing(path, size=sum(array.nbytes for array in arrays.values())) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, array in arrays.items():
            # `ZipInfo` of a name alone has the same date always.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), memoryview(array_bytes(array)))


def array_bytes(given: NDArray[Any]) -> bytearray:
    """Return the content of a file of one array (`.npy`)."""
    assert not given.dtype.hasobject, "objects would be pickled"
    array = np.asarray(given, order="C")
    head = io.BytesIO()
    npy.write_array_header_1_0(head, npy.header_data_from_array_1_0(array))
    content = bytearray(head.getvalue())
    content += array.reshape(-1).view(np.uint8).data
    return content


def read_arrays(
    path: Path,
    hint: str | None = None,
    *,
    names: Container[str] | None = None,
    unpacked: int = 0,
) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` or `numpy.savez` wrote, and trust nothing; `hint` is for errors.

    Args:
        path: The archive.
        hint: What to do if it cannot be read.
        names: Which arrays; None is all.
        unpacked: Bytes that each compressed one may become; with 0 none may be compressed.

    Raises:
        CheckpointError: It is absent, damaged, compressed, or holds more than plain arrays.
    """
    with _opened(path, hint) as archive:
        members = archive.infolist()
        chosen = [m for m in members if names is None or _name(m) in names]
        return dict(_read(archive, member, unpacked) for member in chosen)


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of all arrays, which are not read.

    Raises:
        CheckpointError: It is absent, damaged, or holds more than plain arrays.
    """
    with _opened(path, None) as archive:
        shapes = {}
        for member in archive.infolist():
            with archive.open(name=member) as stream:
                shapes[_name(member)] = _header(stream)[0]
        return shapes


@contextmanager
def _opened(path: Path, hint: str | None) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and turn whatever is wrong with it into one error."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MOST_ARRAYS:
                raise ValueError(f"it has more than {MOST_ARRAYS:,} arrays")
            yield archive
    except FileNotFoundError:
        raise CheckpointError("no such file", path, hint) from None
    except Exception as error:  # zipfile raises six kinds on damaged files
        first = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise CheckpointError(f"not a readable archive of arrays: {first}", path, hint) from None


def _read(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, unpacked: int
) -> tuple[str, NDArray[Any]]:
    """Return the name of an array and the array."""
    if member.compress_type != zipfile.ZIP_STORED:
        if not unpacked:
            raise ValueError("it is compressed")
        if member.file_size > unpacked:  # never more than it claims is unpacked
            size = f"{member.file_size / 2**30:,.1f} GiB, of {unpacked / 2**30:,.1f} allowed"
            raise ValueError(f"{_name(member)} is too large for the memory ({size})")
    elif member.file_size != member.compress_size:
        raise ValueError(f"{_name(member)} is said to have two sizes")
    content = archive.read(member)
    stream = io.BytesIO(content)  # shares the bytes
    shape, by_columns, dtype = _header(stream)
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return _name(member), array.reshape(shape, order="F" if by_columns else "C")


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what an array says of itself: its shape, whether it is by columns, and its type."""
    # What NumPy's own reader does, except that it believes any shape it is told.
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"an array of version {version}")
    shape, by_columns, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:  # which NumPy would take for "as many as there are"
        raise ValueError("an array of a shape below zero")
    return shape, by_columns, dtype
