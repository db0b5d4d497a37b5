"""Who may talk to the viewer: viser itself asks nobody for anything and takes messages from every web page that a browser has open."""

from __future__ import annotations

import hmac
import http
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

_COOKIE = "sparse3d_token"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PATCHING = threading.Lock()


def new_token() -> str:
    """128 bits that nobody guesses."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Gate:
    """What a request has to bring.

    A browser sends with every request the page that made it (Origin): one of another server is refused, so that no web page can read or change the
    scene. On this machine's own addresses the name that was asked for has to be local too, against names that are made to point here (DNS rebinding).
    """

    token: str | None = None  # in the address as ?token=, and then in a cookie; None: none is asked for
    local: bool = True  # it listens on this machine's own addresses alone

    def refusal(self, request: Any) -> str:
        """Why a request is refused; empty when it is not.

        Args:
            request: Of `websockets`, with `path` and `headers`.
        """
        host = request.headers.get("Host", "")
        if self.local and urlsplit(f"//{host}").hostname not in _LOCAL:
            return f"this viewer is reached as 127.0.0.1, not as {host[:60]}"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "another page asked; open the viewer's own address"
        if self.token is not None and not self._has_token(request):
            return "the address needs its token: open it as sparse3d view printed it"
        return ""

    def _has_token(self, request: Any) -> bool:
        assert self.token is not None
        given = parse_qs(urlsplit(request.path).query).get("token", [])
        try:
            cookie = SimpleCookie(request.headers.get("Cookie", "")).get(_COOKIE)
        except CookieError:
            cookie = None
        given += [cookie.value] if cookie is not None else []
        return any(hmac.compare_digest(value.encode(), self.token.encode()) for value in given)

    def process_request(self, inner: Any) -> Any:
        """viser's `process_request` behind the gate; the page's answer leaves a cookie, which its connections bring along."""
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        def process(connection: Any, request: Any) -> Any:
            if why := self.refusal(request):
                body = f"sparse3d: {why}\n".encode()
                headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
                return Response(http.HTTPStatus.FORBIDDEN, "Forbidden", headers, body)
            answer = inner(connection, request)
            if answer is not None:
                answer.headers["X-Content-Type-Options"] = "nosniff"
                answer.headers["Referrer-Policy"] = "no-referrer"  # it would carry the token along
                if self.token is not None:
                    answer.headers["Set-Cookie"] = f"{_COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return answer

        return process


@contextmanager
def guarded(gate: Gate) -> Iterator[None]:
    """viser servers that are started inside have the gate: viser has no hook for it, so the function that it serves with is wrapped meanwhile."""
    import websockets.asyncio.server as websockets

    with _PATCHING:
        serve = websockets.serve

        def serving(*arguments: Any, process_request: Any = None, **options: Any) -> Any:
            return serve(*arguments, process_request=gate.process_request(process_request), **options)

        websockets.serve = serving  # type: ignore[assignment,misc,unused-ignore]
        try:
            yield
        finally:
            websockets.serve = serve  # type: ignore[misc,unused-ignore]
