"""Files from a server: whole or not at all, and one process at a time."""

import contextlib
import fcntl
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from vtrain.errors import DataError

TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process of the machine download into `folder` at a time; others find it done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".download.lock").open("w")
    except OSError as error:
        raise DataError(f"cannot download into the folder: {error.strerror}", folder) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system if the process dies
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints; stdout is for results
            yield


def download(url: str, target: Path) -> None:
    """Fetch `url`, which appears as `target` only when all of it is there.

    Raises:
        DataError: The server does not answer, ends early, or the disk refuses.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, partial.open("wb") as file:  # noqa: S310 - the caller has checked the scheme
            announced = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=announced or None, desc=target.name, unit="B", unit_scale=True) as bar:
                while block := answer.read(2**20):
                    file.write(block)
                    bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
        if announced and partial.stat().st_size != announced:
            raise DataError(f"the download ended at {partial.stat().st_size:,} bytes", url)
        partial.replace(target)
    except HTTPError as error:
        error.close()
        raise DataError(f"cannot download: {error.code} {error.reason}", url) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DataError(f"cannot download: {reason}", url, "is there a network?") from None
    finally:
        partial.unlink(missing_ok=True)
