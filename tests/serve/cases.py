"""A served model whose answers a test can foretell, and what talks to it."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from vtrain.serve.app import Api
from vtrain.serve.limits import Limits
from vtrain.serve.served import Array, Explanation, Served, Shown
from vtrain.serve.server import application, bound, configured

HOSTILE = "<script>alert(1)</script>\" onerror='x' \u202e"
CLASSES = ("red", "green", "blue", HOSTILE)


def prepare(image: Image.Image) -> Array:
    return np.array(image.resize((4, 4), Image.Resampling.NEAREST)).transpose(2, 0, 1)


def probabilities(images: Array) -> Array:
    """The share of each colour: what a batch says of an image is the image's own alone."""
    colours = images.reshape(len(images), 3, -1).mean(2).astype(np.float64) + 1
    rest = np.full((len(images), 1), 1.0)
    return np.asarray(np.hstack([colours, rest]) / (colours.sum(1, keepdims=True) + 1), np.float32)


NAMES = ("both tokens", HOSTILE)


def explain(
    image: Image.Image, method: str | None, target: str | None, name: str | None
) -> Explanation:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    box = (0.0, 0.0, float(image.width), float(image.height))
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    which = name or NAMES[0]
    return Explanation(
        method or "own", target, which, NAMES, values, box, image.size, "", buffer.getvalue()
    )


def served(**changes: Any) -> Served:
    fields: dict[str, Any] = {
        "name": HOSTILE,
        "classes": CLASSES,
        "prepare": prepare,
        "probabilities": probabilities,
        "explain": explain,
        "facts": [("Model", HOSTILE)],
        "examples": [Shown(HOSTILE, "data:,", lambda: Image.new("RGB", (5, 4), "blue"))],
    }
    return Served(**{**fields, **changes})


def colour(*rgb: int, size: tuple[int, int] = (6, 5), kind: str = "PNG", **options: Any) -> bytes:
    """Return the file of an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, rgb).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def client(
    model: Served | None = None,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    limits: Limits | None = None,
) -> Iterator[tuple[TestClient, Api]]:
    """Talk to the application without a network."""
    app, api = application(model or served(), host, token, limits)
    with TestClient(app, base_url="http://127.0.0.1:8000", follow_redirects=False) as found:
        yield found, api


@contextmanager
def server(model: Served | None = None, limits: Limits | None = None) -> Iterator[tuple[int, Api]]:
    """Run the server as the command does, in a thread, and yield its port."""
    limits = limits or Limits()
    app, api = application(model or served(), "127.0.0.1", None, limits)
    taken = bound("127.0.0.1", 0)
    running = uvicorn.Server(configured(app, limits))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        end = time.monotonic() + 20
        while not running.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        yield taken.getsockname()[1], api
    finally:
        running.should_exit = True
        thread.join(20)
        taken.close()
    assert not thread.is_alive()


def talk(port: int, sent: bytes, seconds: float = 5) -> bytes:
    """Send bytes and return all that comes back until the connection ends or nothing comes."""
    with socket.create_connection(("127.0.0.1", port), seconds) as there:
        there.settimeout(seconds)
        received = b""
        try:
            there.sendall(sent)
            while part := there.recv(65536):
                received += part
        except OSError:  # closed while it was written to, or silent
            pass
        return received
