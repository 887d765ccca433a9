"""Who may ask: the right host, the right page, the right token; and what every answer forbids."""

import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "vtrain_token"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""Of every answer, beside the Content-Security-Policy."""


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_address(host: str) -> bool:
    """Whether it is an IP address, and so no name that somebody's DNS could point here."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_of(netloc: str) -> str:
    """Return the name or address of what a `Host` header says, without its port; "" if invalid."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?", netloc)
    return found[1].strip("[]").lower() if found else ""


@dataclass(frozen=True)
class Gate:
    """Lets through what may ask, and says in every answer what a browser must not do.

    Attributes:
        app: What is behind it.
        host: What the server is bound to.
        token: What a request must know, if it is given.
        policy: The Content-Security-Policy.
    """

    app: ASGIApp
    host: str
    token: str | None
    policy: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**HEADERS, "Content-Security-Policy": self.policy})
            await send(message)

        answer = self.refusal(scope)
        await (answer or self.app)(scope, receive, with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to what may not pass, or the one that hands the page its token."""
        headers = Headers(scope=scope)
        if not self.knows(host_of(headers.get("host", ""))):
            return refused(403, "this server is not called that: use the address that it printed")
        origin = headers.get("origin")
        # Browsers send this header and let no page change it; programs send none.
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        # A link may lead to the page; nothing else of another site may ask for anything.
        if foreign and scope["method"] == "GET" and scope["path"] == "/":
            foreign = headers.get("sec-fetch-mode") != "navigate"
        # Both schemes, as a proxy in front may be the end of TLS.
        own = [f"{scheme}://{headers.get('host')}" for scheme in ("http", "https")]
        if foreign or (origin is not None and origin not in own):
            return refused(403, "this is for its own page and for programs, not for other pages")
        # What looks whether the server is alive knows no token, and learns no more than that.
        if self.token is None or scope["path"] == "/health":
            return None
        return self.check_token(scope, headers)

    def knows(self, host: str) -> bool:
        """Whether a request may call the server that: a name that others own could be rebound."""
        if is_loopback(self.host):
            return is_loopback(host)
        names = {self.host.lower(), "localhost", socket.gethostname().lower()}
        return is_address(host) or host in names

    def check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Look for the token in the header, in the cookie, or in the address of the page."""
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self.is_token(query):
            # Out of the address bar, where it would be seen and kept.
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, query, httponly=True, samesite="strict")
            return answer
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return None
        if self.is_token(cookie_of(headers)):
            return None
        hint = "send the header 'Authorization: Bearer TOKEN', or open the page as /?token=TOKEN"
        return refused(401, f"the token is missing or wrong: {hint}")

    def is_token(self, given: str) -> bool:
        """Compare in a time that says nothing."""
        assert self.token is not None
        return secrets.compare_digest(given.encode(), self.token.encode())


def cookie_of(headers: Headers) -> str:
    """Return the token that a browser kept, or nothing."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def refused(status: int, why: str) -> JSONResponse:
    """Return an answer that says why there is none."""
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": why}, status, headers)
