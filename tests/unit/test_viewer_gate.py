"""Who gets into the viewer: requests as they come over the wire."""

from __future__ import annotations

import http.client

import pytest
import torch
import viser
import websockets
from websockets.sync.client import connect

from sparse3d.types import Gaussians, Points, PosedViews
from sparse3d.viewer.gate import Gate, new_token
from sparse3d.viewer.server import address, open_server

NOTHING = Gaussians(torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 1, 3))


@pytest.fixture(scope="module")
def open_to_all_here():
    server = open_server(NOTHING, PosedViews((), Points.none()), port=0)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def with_token():
    server = open_server(NOTHING, PosedViews((), Points.none()), port=0, token="secret-words")
    yield server
    server.stop()


def get(server, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()
    return answer


def joins(server, **headers: str) -> bool:
    """Whether a connection of the page's kind is let in."""
    port = server.get_port()
    protocol = websockets.Subprotocol(f"viser-v{viser.__version__}")
    try:
        with connect(
            f"ws://127.0.0.1:{port}/", subprotocols=[protocol], additional_headers=headers, open_timeout=10
        ) as link:
            return link.recv(timeout=10) is not None
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code == 403
        return False


def test_this_machines_own_page_is_let_in(open_to_all_here):
    port = open_to_all_here.get_port()
    answer = get(open_to_all_here)
    assert answer.status == 200 and b"<html" in answer.body.lower()
    assert answer.headers["Referrer-Policy"] == "no-referrer" and "Set-Cookie" not in answer.headers
    assert joins(open_to_all_here, Origin=f"http://127.0.0.1:{port}") and joins(open_to_all_here)


def test_other_pages_are_kept_out(open_to_all_here):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{open_to_all_here.get_port() + 1}"):
        assert get(open_to_all_here, Origin=origin).status == 403
        assert not joins(open_to_all_here, Origin=origin)


def test_names_that_are_made_to_point_here_are_refused(open_to_all_here):
    answer = get(open_to_all_here, Host="rebound.example")
    assert answer.status == 403 and b"reached as 127.0.0.1" in answer.body
    assert get(open_to_all_here, Host=f"localhost:{open_to_all_here.get_port()}").status == 200


@pytest.mark.parametrize(
    "path", ["/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\etc\\passwd", "//etc/passwd"]
)
def test_nothing_outside_the_page_is_served(open_to_all_here, path):
    answer = get(open_to_all_here, path)
    assert answer.status == 404 and b"root:" not in answer.body


def test_the_token_opens_the_page_and_its_cookie_the_connection(with_token):
    assert address(with_token).endswith("/?token=secret-words")
    for path in ("/", "/?token=", "/?token=secret-word", "/?other=secret-words"):
        answer = get(with_token, path)
        assert answer.status == 403 and b"needs its token" in answer.body and b"<html" not in answer.body.lower()
    answer = get(with_token, "/?token=secret-words")
    cookie = answer.headers["Set-Cookie"]
    assert answer.status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert not joins(with_token) and not joins(with_token, Cookie="sparse3d_token=other")
    assert joins(with_token, Cookie=cookie.split(";")[0])
    assert not joins(with_token, Cookie=cookie.split(";")[0], Origin="http://evil.example")


def test_a_server_for_others_takes_any_name_of_itself():
    from types import SimpleNamespace

    gate = Gate("t", local=False)
    request = lambda **headers: SimpleNamespace(path="/?token=t", headers=headers)
    assert gate.refusal(request(Host="box.lan:8080")) == ""
    assert gate.refusal(request(Host="box.lan:8080", Origin="http://box.lan:8080")) == ""
    assert "another page" in gate.refusal(request(Host="box.lan:8080", Origin="http://box.lan:81"))


def test_tokens_are_long_and_never_the_same():
    made = {new_token() for _ in range(100)}
    assert len(made) == 100 and min(map(len, made)) >= 20
