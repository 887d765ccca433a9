"""Files from a server: whole or not at all, and one process at a time."""

import contextlib
import fcntl
import logging
import os
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError

from tqdm import tqdm

from vtrain.errors import DataError
from vtrain.files import atomic

log = logging.getLogger(__name__)

TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""


@contextlib.contextmanager
def download_lock(folder: Path) -> Iterator[None]:
    """Let one process of the machine download into `folder` at a time; others find it done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".download.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DataError(f"cannot download into the folder: {error.strerror}", folder) from None
    with os.fdopen(lock, "rb"):
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the system if the process dies
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints; stdout is for results
            yield


def download(url: str, target: Path) -> None:
    """Fetch `url`, which appears as `target` only when all of it is there.

    Raises:
        DataError: The server does not answer, or ends early.
        StorageError: The disk refuses.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - the caller has checked the scheme
            announced = int(answer.headers.get("Content-Length") or 0)
            with (
                atomic.replacing(target, size=announced) as file,
                tqdm(
                    total=announced or None,
                    desc=target.name,
                    unit="B",
                    unit_scale=True,
                    disable=None,  # shown on a terminal only
                ) as bar,
            ):
                if bar.disable:
                    log.info("downloading %s ...", target.name)
                while block := _block(answer, url):
                    file.write(block)
                    bar.update(len(block))
                if announced and file.tell() != announced:
                    raise DataError(f"the download ended at {file.tell():,} bytes", url)
    except HTTPError as error:
        error.close()
        raise DataError(f"cannot download: {error.code} {error.reason}", url) from None
    except (URLError, OSError) as error:
        inner = getattr(error, "reason", error)
        reason = getattr(inner, "strerror", None) or inner
        raise DataError(f"cannot download: {reason}", url, "is there a network?") from None


def _block(answer: HTTPResponse, url: str) -> bytes:
    """Read some bytes; an error is the server's, and not of the disk that they are written to."""
    try:
        return answer.read(2**20)
    except (OSError, HTTPException) as error:
        raise DataError(f"the download broke off: {error!s:.100}", url) from None
