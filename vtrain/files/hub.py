"""The Hugging Face hub, perhaps without a network: known within seconds, and no chatter."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PATIENCE = 3.0
"""Seconds for the hub to take a connection."""
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def is_in_reach() -> bool:
    """Return whether the hub, or the proxy on the way to it, takes a connection."""
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    place = next(filter(None, map(os.environ.get, PROXIES)), address)
    url = urlsplit(place if "://" in place else f"http://{place}")
    try:
        port = url.port or (80 if url.scheme == "http" else 443)
        socket.create_connection((url.hostname or "", port), PATIENCE).close()
    except (OSError, ValueError):  # ValueError: no address at all
        return False
    return True


@contextmanager
def asking(in_reach: bool) -> Iterator[None]:
    """Keep the hub's own program quiet, and from trying again what cannot be reached.

    It then finds what was downloaded before, and nothing else.
    """
    talker = logging.getLogger("huggingface_hub")
    constants = sys.modules.get("huggingface_hub.constants")
    level, offline = talker.level, getattr(constants, "HF_HUB_OFFLINE", False)
    talker.setLevel(logging.ERROR)
    if constants is not None:
        constants.HF_HUB_OFFLINE = offline or not in_reach  # type: ignore[attr-defined]
    try:
        yield
    finally:
        talker.setLevel(level)
        if constants is not None:
            constants.HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]
