"""Scenes on pages with their addresses, tokens and warnings: what `sparse3d view` and `recon --view` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import viser

from sparse3d.viewer.board import Board
from sparse3d.viewer.compare import PATH, Linked, compare_page
from sparse3d.viewer.gate import LOCAL_HOSTS, Gate, new_token, own_names
from sparse3d.viewer.server import MAX_GAUSSIANS, address, show_scene, start_server
from sparse3d.viewer.sources import Source

Say = Callable[[str], None]


def gate_for(host: str, auth: bool | None, say: Say) -> Gate:
    """The gate of a server that listens on `host`; `auth` None asks for a token where others can reach it. Warns of an open one."""
    local = host in LOCAL_HOSTS
    asks = auth if auth is not None else not local
    if not local:
        reach = "everyone who reaches this machine and has the token" if asks else "everyone who reaches this machine"
        say(f"warning: listening on {host}: {reach} can look at the scene and use its panels; nothing is encrypted")
    return Gate(token=new_token() if asks else None, hosts=own_names(host))


def open_page(host: str, port: int, gate: Gate, say: Say) -> viser.ViserServer:
    """A running server with an empty page; says so when it is on another port than asked for."""
    server = start_server(host, port, gate)
    if port and server.get_port() != port:
        say(f"port {port} is in use; taking {server.get_port()}")
    return server


def serve(
    sources: Sequence[Source],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    auth: bool | None = None,
    max_gaussians: int = MAX_GAUSSIANS,
    say: Say = lambda _: None,
) -> tuple[list[viser.ViserServer], str]:
    """Servers of the scenes, one each, and the address to open: of the only one, or of a page with all of them side by side.

    Args:
        sources: At least one.
        host, port: To listen on; further scenes take the next ports.
        auth: Ask for a token; None: unless only this machine can reach the page.
        max_gaussians: Of each scene, drawn at most.
        say: Told what the user should know.

    Raises:
        UserError: nothing can listen there.
    """
    gate = gate_for(host, auth, say)
    pages: dict[str, bytes] = {}
    gate = Gate(gate.token, gate.hosts, pages)
    servers: list[viser.ViserServer] = []
    boards: list[Board] = []
    try:
        for index, source in enumerate(sources):
            server = open_page(
                host, port if not servers else servers[-1].get_port() + 1, gate, say if index == 0 else _nothing
            )
            servers.append(server)
            boards.append(
                show_scene(
                    server,
                    source.gaussians,
                    source.posed,
                    depths=source.depths,
                    look=source.look,
                    stages=source.stages,
                    folder=source.folder,
                    metric=source.metric,
                    max_gaussians=max_gaussians,
                )
            )
    except BaseException:
        for server in servers:
            server.stop()
        raise
    path = "/"
    if len(sources) > 1:
        Linked(boards)
        pages[PATH] = compare_page(
            [source.name for source in sources], [server.get_port() for server in servers], gate.token
        )
        path = PATH
    return servers, with_token(address(servers[0]) + path.rstrip("/"), gate)


def with_token(url: str, gate: Gate) -> str:
    """An address with the token that it needs, if it needs one."""
    if gate.token is None:
        return url
    return f"{url}{'' if url.count('/') > 2 else '/'}?token={gate.token}"


def _nothing(_: str) -> None:
    """The ports of further scenes are nobody's choice."""
