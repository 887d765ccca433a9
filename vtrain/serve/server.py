"""From a model to a server that listens: a port, uvicorn, and an end that leaves nothing behind."""

import asyncio
import re
import secrets
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from vtrain.errors import ConfigError, StoppedBySignal
from vtrain.serve.app import Api
from vtrain.serve.gate import Gate, is_loopback
from vtrain.serve.limits import Limits
from vtrain.serve.page import Page
from vtrain.serve.served import Served

SHORTEST_TOKEN = 16
"""Characters."""
GRACE = 3
"""Seconds that answers have to be finished in after Ctrl-C."""
MOST_HEAD_BYTES = 16 * 1024


def check_place(host: str, token: str | None) -> None:
    """Refuse to be open to others without a token, and a token that can be guessed or not be sent.

    Raises:
        ConfigError: It says what to type instead.
    """
    example = f"such as --token {secrets.token_urlsafe(16)}"
    if token is None:
        if not is_loopback(host):
            what = f"--host {host} lets others on the network ask"
            raise ConfigError(what, "command line", f"add a token that they must know, {example}")
    elif not re.fullmatch(rf"[A-Za-z0-9_.~-]{{{SHORTEST_TOKEN},200}}", token):
        what = f"--token needs {SHORTEST_TOKEN} to 200 letters, digits or any of - . _ ~"
        raise ConfigError(what, "command line", example)


def bound(host: str, port: int) -> socket.socket:
    """Take a port; 0 is any that is free.

    Raises:
        ConfigError: It is in use, or there is no such address on this machine.
    """
    try:
        kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        hint = "give an address of this machine"
        raise ConfigError(f"--host {host} is no address", "command line", hint) from None
    taken = socket.socket(kind, socket.SOCK_STREAM)
    # A port can be taken again at once after a server that has just ended.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(place)
        taken.listen()  # who comes before the model is loaded waits, and is not turned away
    except OSError as error:
        taken.close()
        what = f"cannot listen on port {port} of {host}: {error.strerror}"
        raise ConfigError(what, "--port", "give another port, or 0 for any that is free") from None
    return taken


def address_of(taken: socket.socket, host: str) -> str:
    """Return the address of the page, as one types it."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{taken.getsockname()[1]}/"


def application(
    served: Served, host: str, token: str | None, limits: Limits | None = None
) -> tuple[ASGIApp, Api]:
    """Return what answers a server's requests, and what is behind its gate."""
    limits = limits or Limits()
    page = Page.of(served, limits)
    api = Api(served, page, limits)
    return Gate(api.app(), host, token, page.policy), api


def serve(app: ASGIApp, taken: socket.socket, limits: Limits | None = None) -> None:
    """Answer requests until a signal comes.

    Raises:
        StoppedBySignal: One came; answers that were being made have been given.
    """
    stopped: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        stopped.append(number)

    # Uvicorn has handlers of its own while it runs, and then hands the signal on to these.
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(configured(app, limits or Limits())).run(sockets=[taken])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        taken.close()
    if stopped:
        raise StoppedBySignal("stopped serving", stopped[0])


def configured(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's settings: it says nothing, believes no proxy, and waits for nobody long."""

    # Uvicorn makes the protocols itself, so the limit comes along in a class.
    class Protocol(PatientProtocol):
        head_seconds, answer_seconds = limits.head_seconds, limits.answer_seconds

    return uvicorn.Config(
        app,
        loop="asyncio",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,  # it would write down tokens
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
    )


class PatientProtocol(H11Protocol):
    """Closes a connection on which the head of a request does not arrive in time, or breaks off.

    And one on which nobody reads what was answered. Uvicorn itself waits for ever for both, and
    fails with a traceback where a body breaks off whose answer has been given.
    """

    head_seconds, answer_seconds = 10.0, 60.0
    _given_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        with suppress(h11.LocalProtocolError):  # an answer has begun, or may have no body
            super().send_400_response(msg)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._given_up is not None:
            self._given_up.cancel()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._given_up is not None:
            self._given_up.cancel()
        self._given_up = self.loop.call_later(self.head_seconds, self._give_up)

    def _give_up(self) -> None:
        if self.transport.get_write_buffer_size():
            self._given_up = self.loop.call_later(self.answer_seconds, self._give_up_reader)
            return
        # An answer that takes its time is no head that is late.
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not is_answering and not self.transport.is_closing():
            self.transport.close()

    def _give_up_reader(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait until all is read
        else:
            self._give_up()
