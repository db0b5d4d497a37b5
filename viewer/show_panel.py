"""The tab "Scene": what is drawn, in which colours, of which stage."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import torch
import viser

from sparse3d.kernels.reference import sh_to_rgb
from sparse3d.types import Gaussians
from sparse3d.viewer.board import Board
from sparse3d.viewer.confidence import LEGEND, confidence_colours
from sparse3d.viewer.frustums import node_name
from sparse3d.viewer.latest import Latest
from sparse3d.viewer.placement import SCENE_RADIUS

ALL_VIEWS = "all"
PHOTOGRAPHED_ONLY, GENERATED_ONLY = "photographed", "generated"
PLAIN, VIEW_DEPENDENT, CONFIDENCE = "plain", "view-dependent", "photos that see it"
MAX_VIEW_DEPENDENT = 300_000  # Gaussians whose colours are computed and sent again when a visitor moves

Stages = Mapping[str, Callable[[], Gaussians]]


def add_show_panel(board: Board, depth_names: list[str], stages: Stages) -> None:
    """Boxes for each part of the tree, off and greyed where there is nothing to show, and what the splats look like."""
    gui, scene = board.server.gui, board.server.scene
    with gui.add_folder("Show"):
        has_splats = board.splats.drawn > 0
        for label, node, there, on in (
            ("Splats", "/splats", has_splats, True),
            ("Cameras", "/cameras", True, True),
            ("Points", "/points", scene.get_handle_by_name("/points") is not None, not has_splats),
            ("Depth", "/depth", bool(depth_names), False),
        ):
            box = gui.add_checkbox(label, initial_value=there and on, disabled=not there)
            box.on_update(functools.partial(_show_node, server=board.server, node=node))
        if depth_names:
            choice = gui.add_dropdown("Depth of", [ALL_VIEWS, *depth_names], initial_value=ALL_VIEWS)
            choice.on_update(functools.partial(_show_depth_of, server=board.server, names=depth_names))
        _add_view_filter(board)
        _add_background(board)
    if has_splats:
        with gui.add_folder("Splats"):
            _add_stages(board, stages)
            _add_colours(board)
            _add_counts(board)


def _add_view_filter(board: Board) -> None:
    if not any(view.generated for view in board.views.views):
        return
    options = (ALL_VIEWS, PHOTOGRAPHED_ONLY, GENERATED_ONLY)
    choice = board.server.gui.add_dropdown(
        "Views", options, initial_value=ALL_VIEWS, hint="Photographed views are orange, drawn ones violet."
    )

    @choice.on_update
    def _(_: object) -> None:
        for view in board.views.views:
            handle = board.server.scene.get_handle_by_name(f"/cameras/{node_name(view.name)}")
            if handle is not None:
                handle.visible = choice.value == ALL_VIEWS or (choice.value == GENERATED_ONLY) == view.generated


def _add_background(board: Board) -> None:
    red, green, blue = (round(255 * min(max(value, 0.0), 1.0)) for value in board.look.background)
    colour = board.server.gui.add_rgb("Background", (red, green, blue))

    @colour.on_update
    def _(_: object) -> None:
        red, green, blue = (value / 255 for value in colour.value)
        board.set_background((red, green, blue))


def _add_stages(board: Board, stages: Stages) -> None:
    if len(stages) < 2:
        return
    names = list(stages)
    choice = board.server.gui.add_dropdown("Stage", names, initial_value=names[-1])

    @choice.on_update
    def _(_: object) -> None:
        if choice.value in stages:
            board.splats.show(stages[choice.value]())


def _add_colours(board: Board) -> None:
    gui, layer = board.server.gui, board.splats
    hint = "view-dependent: the spherical harmonics, computed again when somebody moves; the same for all visitors"
    choice = gui.add_dropdown("Colour", (PLAIN, VIEW_DEPENDENT, CONFIDENCE), initial_value=PLAIN, hint=hint)
    legend = gui.add_markdown(_legend(), visible=False)
    mover: list[viser.ClientHandle] = []

    def seen_from(client: viser.ClientHandle) -> None:
        if choice.value != VIEW_DEPENDENT or len(layer.all) > MAX_VIEW_DEPENDENT:
            return
        eye = torch.from_numpy(board.placement.world(client.camera.position)).float()
        layer.colour_by(lambda shown: sh_to_rgb(shown.sh_degree, shown.means - eye, shown.sh))

    latest = Latest(seen_from, pause_s=0.25)

    @board.server.on_client_connect
    def _(client: viser.ClientHandle) -> None:
        last = [np.full(3, np.inf)]

        @client.camera.on_update
        def _(camera: viser.CameraHandle) -> None:
            if np.linalg.norm(camera.position - last[0]) > 0.002 * SCENE_RADIUS:
                last[0] = np.array(camera.position)
                mover[:] = [client]
                latest.give(client)

    @choice.on_update
    def _(event: viser.GuiEvent[viser.GuiDropdownHandle[str]]) -> None:
        legend.visible = choice.value == CONFIDENCE
        if choice.value == PLAIN:
            layer.colour_by(None)
        elif choice.value == CONFIDENCE:
            layer.colour_by(lambda shown: confidence_colours(shown, board.views, layer.draw(board.look)))
        elif len(layer.all) > MAX_VIEW_DEPENDENT:
            choice.value = PLAIN
            if event.client is not None:
                event.client.add_notification(
                    "Too many Gaussians for that here",
                    f"{len(layer.all)}, and up to {MAX_VIEW_DEPENDENT} are coloured again at each move. "
                    "The page of `sparse3d export --format html` draws all harmonics.",
                )
        elif (client := event.client or next(iter(mover), None)) is not None:
            latest.give(client)


def _add_counts(board: Board) -> None:
    gui, layer = board.server.gui, board.splats
    total = gui.add_number("Gaussians", len(layer.all), disabled=True)
    hint = "The least visible Gaussians are left out to keep the page fast, and those outside of the crop box; files hold all of them."
    drawn = gui.add_number("Gaussians drawn", layer.drawn, disabled=True, hint=hint)
    drawn.visible = layer.drawn < len(layer.all)

    def count() -> None:
        total.value, drawn.value = len(layer.all), layer.drawn
        drawn.visible = layer.drawn < len(layer.all)

    layer.on_change.append(count)


def _legend() -> str:
    lines = []
    for label, colour in LEGEND:
        red, green, blue = (round(255 * value) for value in colour)
        lines.append(f'<span style="color:rgb({red},{green},{blue})">&#9632;</span> {label}')
    return "<br/>".join(lines)


def _show_node(event: viser.GuiEvent[viser.GuiCheckboxHandle], *, server: viser.ViserServer, node: str) -> None:
    handle = server.scene.get_handle_by_name(node)
    if handle is not None:
        handle.visible = event.target.value


def _show_depth_of(
    event: viser.GuiEvent[viser.GuiDropdownHandle[str]], *, server: viser.ViserServer, names: list[str]
) -> None:
    for name in names:
        handle = server.scene.get_handle_by_name(f"/depth/{node_name(name)}")
        if handle is not None:
            handle.visible = event.target.value in (ALL_VIEWS, name)
