"""Who is let in to the viewer: page and socket, with and without a token."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import viser
import websockets
from support.viewer_scenes import around, ball
from websockets.asyncio.client import connect

from sparse3d.errors import UserError
from sparse3d.viewer.gate import Gate, new_token, own_names
from sparse3d.viewer.server import open_server, start_server

TOKEN = "a-token_of-22-letters"


@contextmanager
def serving(gate: Gate | None) -> Iterator[viser.ViserServer]:
    server = open_server(ball(20, 0), around(), port=0, gate=gate)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def local() -> Iterator[viser.ViserServer]:
    with serving(None) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[viser.ViserServer]:
    with serving(Gate(token=TOKEN)) as server:
        yield server


def get(server: viser.ViserServer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def socket_opens(server: viser.ViserServer, path: str = "/", origin: str | None = None, **headers: str) -> bool:
    """Whether a web socket is accepted and sends the scene."""

    async def attempt() -> bool:
        address = f"ws://127.0.0.1:{server.get_port()}{path}"
        protocol = websockets.Subprotocol(f"viser-v{viser.__version__}")
        try:
            async with connect(
                address, origin=origin, additional_headers=headers, subprotocols=[protocol]
            ) as connection:  # type: ignore[arg-type]
                return len(await asyncio.wait_for(connection.recv(), 10)) > 100
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code in (401, 403)
            return False

    return asyncio.run(attempt())


def test_own_page_may_talk(local):
    port = local.get_port()
    assert get(local, "/").status == 200
    assert socket_opens(local)
    assert socket_opens(local, origin=f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "https://localhost", "null", "file://"]
)
def test_pages_of_others_may_not(local, guarded, origin):
    """Neither without a token nor, should they have learned it, with one."""
    assert get(local, "/", Origin=origin).status == 403
    assert not socket_opens(local, origin=origin)
    assert not socket_opens(guarded, path=f"/?token={TOKEN}", origin=origin)


def test_a_name_that_points_here_is_not_enough(local):
    """DNS rebinding: the page's own name resolves to 127.0.0.1, so that Origin and Host agree."""
    port = local.get_port()
    assert get(local, "/", Host=f"evil.example:{port}").status == 403
    assert get(local, "/", Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}").status == 403
    assert get(local, "/", Host=f"localhost:{port}").status == 200
    assert get(local, "/", Host="localhost:9000").status == 200  # through ssh -L 9000


def test_nothing_without_the_token(guarded):
    for path in ("/", "/index.html", "/?token=", "/?token=wrong", "/?Token=" + TOKEN, f"/?token={TOKEN}x"):
        assert get(guarded, path).status == 401
        assert not socket_opens(guarded, path)
    assert get(guarded, "/", Cookie="sparse3d-00000000=x; broken").status == 401
    assert b"token" in get(guarded, "/").body


def test_token_becomes_a_cookie(guarded):
    first = get(guarded, f"/?token={TOKEN}")
    assert first.status == 303 and first.headers["Location"] == "/"
    kept = first.headers["Set-Cookie"]
    assert "HttpOnly" in kept and "SameSite=Lax" in kept
    cookie = kept.partition(";")[0]
    assert get(guarded, "/", Cookie=cookie).status == 200
    assert socket_opens(guarded, Cookie=f"other=1; {cookie}", origin=f"http://127.0.0.1:{guarded.get_port()}")
    assert socket_opens(guarded, f"/?token={TOKEN}")
    assert not socket_opens(guarded, Cookie=cookie[:-1] + "X")


@pytest.mark.parametrize(
    "path",
    ["/../../../../../../etc/passwd", "/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\etc\\passwd",
     "//etc/passwd", "/./../viser/__init__.py", "/../package.json", "/%00", "/assets/../../../__init__.py"],
)  # fmt: skip
def test_nothing_outside_the_page_is_served(local, path):
    """As it is, not as a client would tidy it up."""
    with socket.create_connection(("127.0.0.1", local.get_port()), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split()[1] in (b"404", b"400", b"500"), answer[:100]
    assert b"root:" not in answer and b"viser" not in answer.lower().partition(b"\r\n\r\n")[2]


def test_another_viser_without_the_gate_is_noticed(monkeypatch):
    """Should a version start its server in another way, nothing is served instead of everything."""
    monkeypatch.setattr(Gate, "before", lambda self, check: check)
    with pytest.raises(UserError, match="this version of viser"):
        start_server(port=0)


def test_further_pages_are_behind_the_gate():
    with serving(Gate(token=TOKEN, pages={"/compare": b"<p>two"})) as server:
        assert get(server, "/compare").status == 401
        cookie = get(server, f"/compare?token={TOKEN}").headers["Set-Cookie"].partition(";")[0]
        page = get(server, "/compare", Cookie=cookie)
        assert page.status == 200 and page.body == b"<p>two" and page.headers["Content-Type"].startswith("text/html")


def test_tokens_differ():
    assert len({new_token() for _ in range(20)}) == 20 and len(new_token()) >= 22


def test_names_of_this_machine():
    assert {"localhost", "127.0.0.1", "192.0.2.7", socket.gethostname().lower()} <= set(own_names("192.0.2.7"))
