"""One self-contained HTML file of a scene: opens from a disk or any web server, without Python."""

from __future__ import annotations

import base64
import gzip
import html
import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparse3d.errors import UserError
from sparse3d.io._atomic import replacing
from sparse3d.render import Look
from sparse3d.types import Gaussians, PosedViews, View
from sparse3d.viewer.placement import (
    SCENE_RADIUS,
    Placement,
    camera_up,
    field_of_view,
    fit_placement,
    orbit_point,
    overview,
    up_direction,
)
from sparse3d.viewer.spark_arrays import spark_arrays

# Strings of a browser end at about 2^29 letters, and base64 needs four for three bytes.
MAX_DATA_BYTES = 350_000_000

_VENDORED = ("three.core.min.js", "three.module.min.js", "Pass.js", "OrbitControls.js", "spark.module.min.js")
_LICENCES = ("LICENSE.spark", "LICENSE.three", "LICENSE.fflate")


def write_html(gaussians: Gaussians, posed: PosedViews, look: Look, path: Path, title: str = "") -> None:
    """Writes a scene as one HTML file that draws itself with Spark (three.js), spherical harmonics included.

    Everything stands in the file: the renderer, and the Gaussians in Spark's own encoding, compressed; nothing is fetched. Photos are
    not in it, only the cameras, as places to fly to.

    Args:
        gaussians: N of them, world units; those with a value that is not finite are left out.
        posed: Cameras to fly to, the first photographed one to start at; any number.
        look: How the scene is drawn.
        path: Written whole or not at all.
        title: Shown in the page and its tab; the file's name when empty.

    Raises:
        UserError: no Gaussian to show, or too many for one page.
    """
    numbers = torch.cat([value.detach().flatten(1) for value in gaussians.values()[:3]], dim=1)
    finite = (
        numbers.isfinite().all(dim=1) & gaussians.logit_opacities.isfinite() & gaussians.sh.isfinite().all(2).all(1)
    )
    shown = gaussians[finite]
    if len(shown) == 0:
        raise UserError(f"{path}: there is no Gaussian to show")
    arrays = spark_arrays(shown)
    data = gzip.compress(b"".join(array.astype("<u4").tobytes() for array in arrays), 6, mtime=0)
    if len(data) > MAX_DATA_BYTES:
        raise UserError(
            f"{path}: {len(shown)} Gaussians are {len(data) / 1e6:.0f} MB, and a page holds {MAX_DATA_BYTES / 1e6:.0f}. "
            "Export another format, or fewer Gaussians"
        )
    page = importlib.resources.files("sparse3d.viewer.page")
    template = (page / "page.html").read_text(encoding="utf-8")
    scene = _description(shown, posed, look, len(arrays), title or path.stem)
    licences = [(page / "vendor" / name).read_text(encoding="utf-8") for name in _LICENCES]
    parts = {
        "@LICENCES@": "\n".join(licences),  # they ask to go with every copy
        "@TITLE@": html.escape(scene["title"]),
        "@BACKGROUND@": scene["background"],
        "@SCENE@": json.dumps(scene).replace("<", "\\u003c"),
        "@SCRIPT@": (page / "page.js").read_text(encoding="utf-8"),
    }
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        before, after = template.split("@DATA@")
        file.write(_filled(before, parts))
        for name in _VENDORED:
            _write_data(file, name, (page / "vendor" / f"{name}.gz").read_bytes())
        _write_data(file, "splats", data)
        file.write(_filled(after, parts))


def _filled(text: str, parts: dict[str, str]) -> str:
    return re.sub("|".join(parts), lambda found: parts[found[0]], text)


def _write_data(file: Any, name: str, data: bytes) -> None:
    file.write(f'<script type="text/plain" id="{name}">{base64.b64encode(data).decode("ascii")}</script>\n')


def _description(gaussians: Gaussians, posed: PosedViews, look: Look, array_count: int, title: str) -> dict[str, Any]:
    """What the page's script reads. Lengths are world units, axes OpenCV's."""
    placement = fit_placement(gaussians, posed)
    views = sorted(posed.views, key=lambda view: view.generated)
    up = up_direction(posed)
    red, green, blue = (round(255 * min(max(value, 0.0), 1.0)) for value in look.background)
    return {
        "title": title,
        "count": len(gaussians),
        "arrays": array_count,
        "sh_degree": gaussians.sh_degree,
        "antialiased": look.antialiased,
        "background": f"#{red:02x}{green:02x}{blue:02x}",
        "near": look.near_plane,
        "radius": SCENE_RADIUS / placement.scale,
        "views": [_view(view, placement, up) for view in views or [overview(placement, up)]],
    }


def _view(view: View, placement: Placement, up: np.ndarray) -> dict[str, Any]:
    wxyz, _ = placement.pose(view.c2w)
    return {
        "name": view.name,
        "generated": view.generated,
        "c2w": view.c2w[:3].double().flatten().tolist(),
        "fov_deg": float(np.degrees(field_of_view(view)[0])),
        "up": camera_up(wxyz, up).tolist(),
        "target": placement.world(orbit_point(view, placement)).tolist(),
    }
