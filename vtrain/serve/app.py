"""The HTTP API: `POST /predict`, `POST /explain`, `GET /health`, the page and its examples."""

import asyncio
import base64
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from vtrain.errors import VtrainError
from vtrain.files.arrays import array_bytes
from vtrain.files.images import TooManyPixelsError, decode_image
from vtrain.files.lazy_image import Planes, samples_of
from vtrain.registry import suggest
from vtrain.resources import cpu_count
from vtrain.serve.batching import Batcher
from vtrain.serve.gate import refused
from vtrain.serve.limits import Limits
from vtrain.serve.page import Page
from vtrain.serve.served import Explanation, Served

log = logging.getLogger(__name__)
T = TypeVar("T")
TOP_K = 5
"""Classes that are named unless another number is asked for."""
PHOTO = 512
"""Pixels of the longer side of an image that a browser cannot show by itself."""
Endpoint = Callable[[Request], Awaitable[Response]]


class RefusedError(Exception):
    """A request that gets no answer but a reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Api:
    """What answers. Nothing of a request is kept, written down, or used as an address."""

    def __init__(self, served: Served, page: Page, limits: Limits) -> None:
        self.served, self.page, self.limits = served, page, limits
        self.batcher = Batcher(served.probabilities, limits.batch, limits.gather_seconds)
        # Threads do: Pillow decodes without holding Python's lock.
        self.decoders = ThreadPoolExecutor(min(4, cpu_count()), "decode")
        self.waiting = self.held = 0
        """Requests that are being answered, and bytes of their bodies."""

    def app(self) -> Starlette:
        """Return the application."""
        endpoints = {"/predict": self.predict, "/explain": self.explain}
        routes = [
            *(Route(path, self.answered(one), methods=["POST"]) for path, one in endpoints.items()),
            Route("/health", self.answered(self.health), methods=["GET"]),
            Route("/examples/{number}", self.answered(self.example), methods=["GET"]),
            Route("/", self.answered(self.index), methods=["GET"]),
        ]

        async def no_such(_: Request, error: Exception) -> Response:
            assert isinstance(error, HTTPException)
            return refused(error.status_code, error.detail.lower())

        return Starlette(
            routes=routes,
            lifespan=self.lifespan,
            exception_handlers={HTTPException: no_such},
        )

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Keep the batcher running while the server is."""
        task = asyncio.create_task(self.batcher.run())
        try:
            yield
        finally:
            # The task before the threads: it hands work to one of them.
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.decoders.shutdown(cancel_futures=True)
            self.batcher.close()

    def answered(self, endpoint: Endpoint) -> Endpoint:
        """Turn every failure of an endpoint into an answer without paths and without traceback."""

        @wraps(endpoint)
        async def call(request: Request) -> Response:
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    return await endpoint(request)
            except RefusedError as error:
                return refused(error.status, error.why)
            except VtrainError as error:
                status = 413 if isinstance(error, TooManyPixelsError) else 400
                return refused(status, error.what + (f": {error.hint}" if error.hint else ""))
            except TimeoutError:
                return refused(504, "it took too long: try again later")
            except ClientDisconnect:  # nobody reads this
                return refused(400, "the connection was closed")
            except Exception as error:
                # The kind alone: what it says may hold a stranger's text.
                log.error("a request failed: %s", type(error).__name__)
                return refused(500, "internal error")

        return call

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self.page.html)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": self.waiting})

    async def predict(self, request: Request) -> Response:
        """Name the classes of the image in the body."""
        top_k = whole_number(request, "top_k", TOP_K, len(self.served.classes))
        async with self.admitted(request) as body:
            with self.batcher.coming():
                pixels = await self.decoded(lambda: self.served.prepare(self.image(body)))
                # Counted until it waits in the queue: the batch that takes it looks only then.
            row = await self.batcher.probabilities(pixels)
        if not np.isfinite(row).all():
            raise RefusedError(500, "the model's probabilities are not finite")
        return JSONResponse(self.served.answer(row, top_k))

    async def explain(self, request: Request) -> Response:
        """Say where on the image in the body the evidence for a class is."""
        explain = self.served.explain
        if explain is None:
            raise RefusedError(501, "this model cannot be explained: serve its checkpoint instead")
        target, method, name = map(request.query_params.get, ("class", "method", "map"))
        if target is not None and target not in self.served.classes:
            hint = suggest(target, list(self.served.classes))
            raise RefusedError(400, f"'{target[:80]}' is no class of this model: {hint}")
        async with self.admitted(request) as body:
            image = await self.decoded(lambda: self.image(body))
            found = await self.batcher.alone(lambda: explain(image, method, target, name))
            data = explanation_data(found, with_values="values" in request.query_params)
            if "photo" in request.query_params:
                data["photo"] = await self.decoded(lambda: data_uri(shown(image)))
        return JSONResponse(data)

    async def example(self, request: Request) -> Response:
        """Return one of the run's own images, by its number on the page."""
        # Looked up as text: nothing of a request becomes an index or a path.
        known = {str(number): example for number, example in enumerate(self.served.examples)}
        example = known.get(request.path_params["number"])
        if example is None:
            raise RefusedError(404, "there is no such example")
        content, kind = await self.decoded(lambda: file_of(example.read()))
        return Response(content, media_type=kind)

    @asynccontextmanager
    async def admitted(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body of a request that there is room for, and hold the place until it is done.

        Raises:
            RefusedError: There is no room, the body is too large or comes too slowly.
        """
        if self.waiting >= self.limits.waiting:
            raise RefusedError(503, "too many requests are waiting: try again")
        kind = request.headers.get("content-type", "").lower()
        if kind.startswith("multipart/"):
            hint = "send the bytes of the file alone, as curl --data-binary @FILE does"
            raise RefusedError(415, f"the body is a form: {hint}")
        # Nothing has been awaited since the check, so two requests cannot take the last place.
        self.waiting += 1
        body = bytearray()
        try:
            await self.read_into(body, request)
            yield bytes(body)
        finally:
            self.waiting -= 1
            self.held -= len(body)

    async def read_into(self, body: bytearray, request: Request) -> None:
        """Read a body, which need not be as long as its head says."""
        most = self.limits.body_bytes
        too_large = RefusedError(413, f"an image file may have {most:,} bytes")
        stated = request.headers.get("content-length", "")
        # Cut, as Python refuses to convert thousands of digits; 20 of them are too large anyway.
        if stated.isascii() and stated.isdigit() and int(stated[:20]) > most:
            raise too_large
        try:
            async with asyncio.timeout(self.limits.read_seconds):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > most:
                        raise too_large
                    if self.held + len(chunk) > self.limits.all_bytes:
                        raise RefusedError(503, "too many large images are waiting: try again")
                    body += chunk
                    self.held += len(chunk)
        except TimeoutError:
            raise RefusedError(408, "the image came too slowly") from None
        if not body:
            hint = "send the bytes of an image file, as curl --data-binary @FILE does"
            raise RefusedError(400, f"the body is empty: {hint}")

    async def decoded(self, work: Callable[[], T]) -> T:
        """Do the work of a processor beside the loop; a request that ends takes it back."""
        return await asyncio.get_running_loop().run_in_executor(self.decoders, work)

    def image(self, body: bytes) -> Image.Image:
        """Decode an image as everything in vtrain does, with a limit of its own."""
        limits = self.limits
        return decode_image(body, max_pixels=limits.pixels, max_bytes=limits.band_bytes)


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """Return a positive number of the query, at most `most`."""
    text = request.query_params.get(name)
    if text is None:
        return min(default, most)
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise RefusedError(400, f"{name} must be a whole number from 1 on")
    return min(int(text[:9]), most)


def explanation_data(found: Explanation, *, with_values: bool) -> dict[str, Any]:
    """Return an explanation as JSON has it."""
    rows, columns = found.values.shape
    data: dict[str, Any] = {
        "method": found.method,
        "class": found.target,
        "map": found.name,
        "maps": list(found.names),
        "shape": [rows, columns],
        "box": list(found.box),
        "size": list(found.size),
        "flat": found.flat or None,
        "picture": data_uri(found.picture),
    }
    return {**data, "values": found.values.tolist()} if with_values else data


def data_uri(png: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def shown(image: Image.Image) -> bytes:
    """Return an image as people see it, at most `PHOTO` pixels wide and high, as a PNG."""
    small = image.convert("RGB")
    small.thumbnail((PHOTO, PHOTO))
    return png(small)


def file_of(image: Image.Image) -> tuple[bytes, str]:
    """Return an image as a file from which all of it is read again, and the type of that file."""
    if not isinstance(image, Planes):
        return png(image), "image/png"
    # No other format has any number of bands.
    return bytes(array_bytes(samples_of(image))), "application/octet-stream"


def png(image: Image.Image) -> bytes:
    """Return an image as a file, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
