"""Who may talk to the viewer: every request, page or socket, passes here before viser sees it.

viser itself serves whoever connects. It hands its check of requests to `websockets.asyncio.server.serve`; there the gate is put
in front of it, and `Gate.check` makes sure that it stands, so that another version of viser is noticed instead of open.
"""

from __future__ import annotations

import hashlib
import hmac
import http
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from sparse3d.errors import UserError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

_Check = Callable[[Any, Request], Response | None]
_patching = threading.Lock()


def new_token() -> str:
    """A token that nobody guesses: 128 bits."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Gate:
    """Lets a request through when it comes from our own page and, where there is a token, from somebody who was given it.

    A page of another site that talks to us names itself in `Origin`, which browsers do not let it change; it must be the
    host that was asked for. Without a token the host must be one of ours too, for else a site could point its own name here.
    """

    token: str | None = None  # asked for once in the address, kept in a cookie from then on; None: nobody is asked
    hosts: tuple[str, ...] = LOCAL_HOSTS  # names that this server goes by, besides plain addresses of networks
    pages: Mapping[str, bytes] = field(default_factory=dict)  # further HTML pages by path, with its leading slash

    def refusal(self, request: Request) -> Response | None:
        """Why a request is not let through, or the answer that turns a token in the address into a cookie; None: go on."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if origin is not None and (urlsplit(origin).netloc or "?") != host:
            return _answer(http.HTTPStatus.FORBIDDEN, f"pages of {origin} may not talk to this viewer\n")
        if self.token is None:
            if not self._is_ours(host):
                return _answer(http.HTTPStatus.FORBIDDEN, f"this viewer does not go by the name {host}\n")
            return None
        address = urlsplit(request.path)
        given = parse_qs(address.query).get("token", [])
        if any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given):
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return None
            answer = _answer(http.HTTPStatus.SEE_OTHER, "")
            answer.headers["Location"] = address.path or "/"
            answer.headers["Set-Cookie"] = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
            return answer
        if hmac.compare_digest(self._kept(request).encode(), self.token.encode()):
            return None
        return _answer(
            http.HTTPStatus.UNAUTHORIZED,
            "open the address with its token, as `sparse3d view` printed it: .../?token=...\n",
        )

    @property
    def _cookie(self) -> str:
        """Browsers keep cookies by host, not by port; its own name keeps it apart from other viewers'."""
        return "sparse3d-" + hashlib.sha256((self.token or "").encode()).hexdigest()[:8]

    def _kept(self, request: Request) -> str:
        try:
            cookies = SimpleCookie("; ".join(request.headers.get_all("Cookie")))
        except CookieError:
            return ""
        return cookies[self._cookie].value if self._cookie in cookies else ""

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return name in self.hosts or _is_address(name)

    def before(self, viser_check: _Check) -> _Check:
        """viser's own check of requests with this gate in front of it."""

        def check(connection: Any, request: Request) -> Response | None:
            if (refused := self.refusal(request)) is not None:
                return refused
            page = self.pages.get(urlsplit(request.path).path)
            if page is not None:
                return _answer(http.HTTPStatus.OK, page, "text/html; charset=utf-8")
            return viser_check(connection, request)

        return check

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While the block runs, servers that viser starts in this process have this gate."""
        serve = websockets.asyncio.server.serve

        def guarded(*args: Any, process_request: _Check, **options: Any) -> Any:
            return serve(*args, process_request=self.before(process_request), **options)

        with _patching:
            websockets.asyncio.server.serve = guarded  # type: ignore[assignment,misc]
            try:
                yield
            finally:
                websockets.asyncio.server.serve = serve  # type: ignore[misc]

    @staticmethod
    def check(host: str, port: int) -> None:
        """Asks the server as another site's page would.

        Raises:
            UserError: it answers, so it has no gate.
        """
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://elsewhere.invalid\r\n\r\n")
            status = connection.makefile("rb").readline().split()
        if status[1:2] != [b"403"]:
            raise UserError(
                "this version of viser starts its server in another way, and sparse3d cannot keep strangers out of it. "
                "Install the one that it was tested with: pip install viser==1.1.1"
            )


def own_names(host: str) -> tuple[str, ...]:
    """The names that a server which listens on `host` goes by."""
    return (
        *LOCAL_HOSTS,
        host,
        socket.gethostname().lower(),
        f"{socket.gethostname().lower()}.local",
        socket.getfqdn().lower(),
    )


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
            return True
        except OSError:
            continue
    return False


def _answer(status: http.HTTPStatus, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    data = body.encode() if isinstance(body, str) else body
    headers = Headers()
    headers["Content-Type"] = kind
    headers["Content-Length"] = str(len(data))
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Connection"] = "close"
    return Response(status.value, status.phrase, headers, data)
