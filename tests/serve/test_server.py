"""The server on a real port: what comes slowly, too late, broken or by thousands."""

import json
import random
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.serve.cases import client, colour, served, server, talk
from vtrain.errors import ConfigError
from vtrain.files.images import MAX_PIXELS
from vtrain.serve.limits import Limits
from vtrain.serve.server import bound, check_place

HEAD = b"Host: 127.0.0.1\r\nConnection: close\r\n"


def request(
    path: str = "/predict", body: bytes = b"", method: str = "POST", head: bytes = HEAD
) -> bytes:
    length = f"Content-Length: {len(body)}\r\n".encode() if body else b""
    return f"{method} {path} HTTP/1.1\r\n".encode() + head + length + b"\r\n" + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_it_answers_on_its_port_and_says_nothing_of_itself() -> None:
    with server() as (port, _):
        answer = talk(port, request(body=colour(1, 2, 200)))
        assert status(answer) == 200
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert found["predictions"][0]["class"] == "blue"
        assert b"uvicorn" not in answer.lower()


def test_a_head_or_a_body_that_does_not_come_ends_the_connection() -> None:
    with server(limits=Limits(head_seconds=0.2, read_seconds=0.2)) as (port, api):
        for part in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "):
            began = time.monotonic()
            assert talk(port, part) == b""
            assert 0.1 < time.monotonic() - began < 4
        began = time.monotonic()
        slow = b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 1000\r\n\r\nabc"
        answer = talk(port, slow)
        assert status(answer) == 408
        assert time.monotonic() - began < 4
        assert api.waiting == 0
        # Neither harms those that are patient for a reason.
        assert status(talk(port, request(body=colour(1, 2, 3)))) == 200


def test_a_client_that_leaves_costs_nothing() -> None:
    with server() as (port, api):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as there:
                there.sendall(
                    b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 999\r\n\r\nx"
                )
        end = time.monotonic() + 10
        while api.waiting and time.monotonic() < end:
            time.sleep(0.01)
        assert (api.waiting, api.held) == (0, 0)


@pytest.mark.parametrize("ending", [b"", b"Connection: close\r\n"])
def test_a_client_that_does_not_read_is_let_go(ending: bytes) -> None:
    page = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    # Longer than what the system keeps of an answer for its reader.
    long = served(facts=[("Model", "x" * 20_000_000)])
    limits = Limits(head_seconds=0.2, answer_seconds=0.3)
    with server(long, limits) as (port, _), socket.create_connection(("127.0.0.1", port)) as there:
        there.sendall(page + ending + b"\r\n")
        time.sleep(1.5)
        there.settimeout(5)
        received = 0
        with suppress(ConnectionResetError):
            while part := there.recv(1 << 20):
                received += len(part)
        assert received < 20_000_000, "the whole answer was kept for it"
    with server(long) as (port, _):  # who reads has all of it
        assert len(talk(port, page + b"Connection: close\r\n\r\n")) > 20_000_000


def test_an_endless_upload_is_cut_off() -> None:
    with server(limits=Limits(body_bytes=100_000, head_seconds=0.5)) as (port, api):
        with socket.create_connection(("127.0.0.1", port), 5) as there:
            there.sendall(
                b"POST /predict HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
            )
            with pytest.raises(OSError, match=r"reset|pipe|timed out"):
                there.sendall((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 20_000)
        assert api.held == 0


def test_a_body_that_breaks_off_behind_its_answer_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = b"POST /nope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server() as (port, _), socket.create_connection(("127.0.0.1", port), 5) as there:
        there.sendall(broken)
        answer = b""
        while not answer.endswith(b'{"error":"not found"}'):
            answer += there.recv(65536)
        there.sendall(b"no chunk at all\r\n")
        assert there.recv(65536) == b""
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
        (b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
        (b"GET /" + b"a" * 30_000, 400),
        (b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
        (b"POST /predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n", 200),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
    ],
)
def test_odd_requests_have_an_answer(sent: bytes, code: int) -> None:
    with server(limits=Limits(head_seconds=0.5)) as (port, _):
        assert status(talk(port, sent, 2)) == code
        assert status(talk(port, request("/health", method="GET"))) == 200


def test_a_server_allows_fewer_pixels_than_a_command() -> None:
    assert Limits().pixels < MAX_PIXELS
    # All bodies, and what decoders hold at worst, in bytes: bounded whatever comes.
    assert Limits().all_bytes + 4 * Limits().pixels * 3 < 1e9


class TestPlace:
    def test_a_port_in_use_is_one_line(self) -> None:
        with bound("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match="Address already in use") as caught:
                bound("127.0.0.1", port)
        (line,) = caught.value.lines()
        assert f"port {port} of 127.0.0.1" in line
        assert "0 for any that is free" in line

    def test_an_address_of_nobody_is_one_line(self) -> None:
        for host in ("no.such.host.invalid", "203.0.113.9", "a" * 300):
            with pytest.raises(ConfigError):
                bound(host, 0)

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org"])
    def test_others_need_a_token(self, host: str) -> None:
        with pytest.raises(ConfigError, match="lets others on the network ask"):
            check_place(host, None)
        check_place(host, "a-token-of-some-length")

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
    def test_this_machine_needs_none(self, host: str) -> None:
        check_place(host, None)

    @pytest.mark.parametrize(
        "token", ["", "short", "with space and more", "\u00e9" * 20, "a" * 201]
    )
    def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(self, token: str) -> None:
        with pytest.raises(ConfigError, match="--token needs 16 to 200") as caught:
            check_place("127.0.0.1", token)
        # The one that it proposes is taken.
        check_place("127.0.0.1", str(caught.value.hint).rpartition(" ")[2])


def hostile(draw: random.Random) -> bytes:
    """Return a request that a person, a browser, a scanner or an attacker may send."""
    good = [
        colour(*(draw.randrange(256) for _ in range(3)), size=(draw.randint(1, 40), 9), kind=kind)
        for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
    ]
    body = draw.choice(good)
    what = draw.randrange(8)
    if what == 0:  # damaged
        changed = bytearray(body)
        for _ in range(draw.randint(1, 20)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        body = bytes(changed)
    elif what == 1:
        body = body[: draw.randrange(len(body) + 1)]
    elif what == 2:
        body = draw.randbytes(draw.randrange(3000))
    elif what == 3:
        body = draw.choice([
            b'{"url": "http://169.254.169.254/"}', b"file:///etc/passwd", b"<svg onload=alert(1)>",
            b"P6 999999 999999 255\n", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"GIF89a\xff\xff",
        ])  # fmt: skip
    path = draw.choice(["/predict"] * 6 + ["/explain"] * 3 + [
        "/", "/health", "/examples/0", "/examples/9", "/predict?top_k=x", "/predict?top_k=-1",
        "/explain?class=%3Cscript%3E", "/explain?method=../x", "/explain?url=http://evil/",
        "/%2e%2e/%2e%2e/etc/passwd", "/predict/../x", "/?token=x", "//evil.example/",
    ])  # fmt: skip
    method = draw.choice(["POST"] * 9 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"])
    head = HEAD
    if draw.random() < 0.2:
        head += draw.choice([
            b"Content-Type: multipart/form-data; boundary=x\r\n", b"Origin: http://evil.example\r\n",
            b"X-Forwarded-For: 10.0.0.1\r\n", b"Cookie: " + b"a=b; " * 200 + b"\r\n",
            b"Expect: 100-continue\r\n", b"Content-Encoding: gzip\r\n", b"Range: bytes=0-9\r\n",
            b"Host: evil.example\r\n", b"Sec-Fetch-Site: cross-site\r\n",
            b"Authorization: Bearer \xff\xfe\r\n", b"Transfer-Encoding: chunked\r\n",
        ])  # fmt: skip
    whole = request(path, body, method, head)
    if draw.random() < 0.05:
        whole = whole[: draw.randrange(len(whole))]
    return whole


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_ten_thousand_hostile_requests_leave_no_trace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    limits = Limits(head_seconds=0.3, read_seconds=0.3)
    codes: dict[int, int] = {}
    with server(served(), limits) as (port, api), ThreadPoolExecutor(8) as pool:

        def send(many: int) -> None:
            for answer in pool.map(
                lambda sent: talk(port, sent, 5), [hostile(draw) for _ in range(many)]
            ):
                codes[status(answer)] = codes.get(status(answer), 0) + 1

        send(2000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(8):
            send(1000)
            assert status(talk(port, request("/health", method="GET"))) == 200
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert (api.waiting, api.held) == (0, 0)
        answer = talk(port, request(body=colour(1, 2, 200)))
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"][0]["class"] == "blue"
    assert grown < 50e6, f"memory grew by {grown:,} bytes"
    assert sum(codes.values()) == 10_000
    assert min(codes[200], codes[400]) > 1000
    assert 500 not in codes, codes
    assert list(tmp_path.iterdir()) == []
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert said.out + said.err == ""
    assert caplog.records == []  # of asyncio and uvicorn, which would print them


def test_what_a_file_or_an_address_says_is_not_followed() -> None:
    """Of every address in a request: no connection is made and no file is opened for it."""
    asked: list[object] = []
    with client() as (http, _), pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", lambda *given, **_: asked.append(given))
        patch.setattr(Path, "open", lambda *given, **_: asked.append(given))
        for path in ("/predict?url=http://127.0.0.1:1/x.png", "/explain?path=/etc/passwd"):
            for body in (b"http://127.0.0.1:1/x.png", b"file:///etc/passwd", b"/etc/passwd"):
                assert http.post(path, content=body).status_code == 400
    assert asked == []
