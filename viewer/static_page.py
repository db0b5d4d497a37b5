"""One HTML file with a scene in it, that opens from disk or any web server: splats with full view dependence, drawn by SuperSplat Viewer (PlayCanvas, MIT)."""

from __future__ import annotations

import base64
import html
import json
import math
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse3d.io._atomic import replacing
from sparse3d.io.splats import write_splats
from sparse3d.types import Cameras, Gaussians

_SECONDS = 20  # of the loop along the path
_AXES = torch.tensor([-1.0, -1.0, 1.0])  # SuperSplat turns files by half a turn about z: y up

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>html,body{{height:100%;margin:0;overflow:hidden;background:{background}}}</style><style>{css}</style></head>
<body>
<script type="application/json" id="settings">{settings}</script>
<script type="text/plain" id="scene">{scene}</script>
<script type="text/plain" id="program">{program}</script>
<script type="module">
const text = (id) => document.getElementById(id).textContent;
const bytes = (id) => Uint8Array.from(atob(text(id)), (c) => c.charCodeAt(0));
const unpacked = new Response(new Blob([bytes("program")]).stream().pipeThrough(new DecompressionStream("gzip")));
const program = URL.createObjectURL(new Blob([await unpacked.text()], {{ type: "text/javascript" }}));
const {{ createViewer }} = await import(program);
const scene = URL.createObjectURL(new Blob([bytes("scene")]));
const options = new URL(location.href).searchParams;
createViewer({{
  container: document.body,
  settings: Promise.resolve(JSON.parse(text("settings"))),
  contentUrl: scene,
  contentFilename: "{filename}",
  contents: fetch(scene),
  ui: !options.has("noui"),
  noanim: options.has("noanim"),
  renderer: options.has("webgpu") ? "webgpu" : "webgl",
  exposeGlobals: true,
}});
</script>
<noscript>This page draws a 3D scene and needs JavaScript and WebGL 2.</noscript>
</body></html>
"""


def write_html(
    path: Path,
    gaussians: Gaussians,
    start: Cameras,
    focus: Tensor,
    *,
    background: Sequence[float] = (0.0, 0.0, 0.0),
    loop: Cameras | None = None,
    title: str = "scene",
) -> None:
    """Writes the page; whole or not at all. Its splats are compressed (`io.splats.compressed`).

    Args:
        path: Ends in .html.
        gaussians: The scene, of any SH degree.
        start: One camera: where visitors begin.
        focus: (3,) what they turn about, world units.
        background: sRGB behind the scene.
        loop: A path that the page can play; none when None.
        title: Of the page.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scene.compressed.ply"
        write_splats(file, gaussians)
        data = file.read_bytes()
    there = files("sparse3d.viewer") / "supersplat"
    shade = [round(255 * value) for value in background]
    page = _PAGE.format(
        title=html.escape(title),
        background=f"rgb({shade[0]},{shade[1]},{shade[2]})",
        css=(there / "index.css").read_text(encoding="utf-8"),
        settings=json.dumps(_settings(start, focus, background, loop)).replace("<", "\\u003c"),
        scene=base64.b64encode(data).decode(),
        program=base64.b64encode((there / "index.js.gz").read_bytes()).decode(),
        filename=file.name,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _settings(start: Cameras, focus: Tensor, background: Sequence[float], loop: Cameras | None) -> dict[str, Any]:
    """SuperSplat's ExperienceSettings, version 2."""
    (camera,) = _poses(start, focus)
    tracks = []
    if loop is not None:
        poses = _poses(loop, focus)
        times = [round(30 * _SECONDS * i / len(poses)) for i in range(len(poses))]
        values = {
            "position": [x for pose in poses for x in pose["position"]],
            "target": [x for pose in poses for x in pose["target"]],
            "fov": [pose["fov"] for pose in poses],
        }
        tracks.append(
            {
                "name": "loop",
                "duration": _SECONDS,
                "frameRate": 30,
                "loopMode": "repeat",
                "interpolation": "spline",
                "smoothness": 1,
                "keyframes": {"times": times, "values": values},
            }
        )
    return {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": list(background)},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 1, "blurLevel": 2},
            "grading": {"enabled": False, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0.5},
        },
        "animTracks": tracks,
        "cameras": [{"initial": camera}],
        "annotations": [],
        "startMode": "default",
    }


def _poses(cameras: Cameras, focus: Tensor) -> list[dict[str, Any]]:
    """Position, target and field of view (degrees) in the page's axes. The target lies ahead, as far away as the focus.

    The page takes the angle for that of the longer side of its window.
    """
    made = []
    for c2w, K in zip(cameras.c2w, cameras.K, strict=True):
        position, ahead = c2w[:3, 3], c2w[:3, 2]
        target = position + ahead * max(float((focus - position) @ ahead), 1e-3)
        fov = 2 * math.degrees(math.atan(max(cameras.height, cameras.width) / 2 / float(K[1, 1])))
        made.append({"position": (position * _AXES).tolist(), "target": (target * _AXES).tolist(), "fov": fov})
    return made
