"""preview.jpg and report.html: what was made, in one self-contained page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse3d.geometry import fitted_size, resize_mask
from sparse3d.io._atomic import replacing
from sparse3d.io.images import animation_bytes, read_image, write_image
from sparse3d.io.scene import SceneFolder
from sparse3d.io.views import load_views
from sparse3d.metrics.image import psnr
from sparse3d.metrics.protocol import ALIGNED, beside
from sparse3d.render import Draw
from sparse3d.report.advice import advice_section
from sparse3d.report.compare import STYLE, compared, picture
from sparse3d.report.curves import loss_section, time_section
from sparse3d.report.single import single_section
from sparse3d.types import PosedViews

Item = TypeVar("Item")

_SHOWN = 8  # views in the report
_SIZE = 420  # their longer side, pixels

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1c2733;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}
figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{color:#5a6875;font-size:.85rem}img{max-width:100%;border-radius:4px}
.plot{max-width:100%;font-size:11px}.plot polyline{fill:none;stroke:#d9480f;stroke-width:1.5}.plot .faint{stroke:#d9480f;opacity:.25;stroke-width:1}
.plot text{fill:currentColor}.bar-time{height:.8rem;background:#4c6ef5;border-radius:2px}.warning{background:#fff3cd;border-left:4px solid #e0a800;padding:.4rem .8rem;margin:.3rem 0}code{background:#f0f3f6;padding:.1rem .3rem}
@media(prefers-color-scheme:dark){body{background:#14191f;color:#dfe6ec}.warning{background:#3a3110}code{background:#232b33}}
"""


def write_report(scene: SceneFolder, posed: PosedViews, gaussian_count: int, draw: Draw) -> None:
    """Writes preview.jpg (a render beside its photo) and report.html (renders, cameras, times, scores, warnings)."""
    manifest = scene.manifest()
    held_out = set(manifest.get("held_out", []))
    figures = []
    for index, view in enumerate(_spread(posed.views, _SHOWN)):
        height, width = fitted_size(view.height, view.width, _SIZE)
        render = draw(view.cameras.scaled_to(height, width)).image[0].clamp(0, 1)
        photo = F.interpolate(view.image[None], (height, width), mode="area")[0]
        pair = beside(render, photo)
        if index == 0:
            write_image(scene.path / "preview.jpg", pair)
        mask = None if view.mask is None else resize_mask(view.mask, height, width)
        kind = "held out" if view.name in held_out else "learned from"
        figures.append(
            f"<figure>{compared(render, photo, view.name)}<figcaption>{html.escape(view.name)}: {kind}, {psnr(render, photo, mask):.1f} dB</figcaption></figure>"
        )
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in _warnings(manifest))
    scores = (manifest.get("scores") or {}).get("mean")
    measured = f"<p>On {len(held_out)} held-out views: {_measured(scores)}</p>" if scores else ""
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(scene.path.name)}: sparse3d</title><style>{_STYLE}{STYLE}</style>
<h1>{html.escape(scene.path.name)}</h1>
<p>{len(posed.views)} of {manifest["stages"]["01_pose"]["photos_found"]} photos placed, {len(posed.points)} sparse points,
{gaussian_count} Gaussians, made by sparse3d {html.escape(manifest["sparse3d"])}.</p>
<p>Look at it: <code>sparse3d view {html.escape(str(scene.path))}</code></p>{measured}{warnings}
{single_section(scene.facts("02_init").get("lift"))}
<h2>Renders over photos</h2><p>Move the slider: to its left the render, to its right the photo.</p>{"".join(figures)}
{advice_section(scene.facts("02_init").get("support"))}
<h2>Cameras from above</h2>{_camera_plot(posed)}
{_pose_table(scene)}
{_depth_section(scene)}
{_drawn_section(scene)}
{loss_section(scene.stage_path("04_optimize"))}
{time_section({name: stage["seconds"] for name, stage in manifest["stages"].items()})}</html>
"""
    with replacing(scene.path / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _pose_table(scene: SceneFolder) -> str:
    """What pose estimation found for each photo, and the matches of all pairs; nothing where cameras were given."""
    folder = scene.stage_path("01_pose")
    if not (folder / "poses.json").is_file():
        return ""
    found = json.loads((folder / "poses.json").read_text(encoding="utf-8"))
    number = lambda value, digits: "–" if value is None else f"{value:.{digits}f}"
    rows = "".join(
        f"<tr><td>{html.escape(photo['name'])}</td><td>{'yes' if photo['placed'] else 'no'}</td><td>{number(photo['error_px'], 2)}</td>"
        f"<td>{number(photo['rotation_deg'], 2)}</td><td>{number(photo['direction_deg'], 2)}</td><td>{html.escape(photo['why'])}</td></tr>"
        for photo in found["photos"]
    )
    picture = base64.b64encode((folder / "matches.png").read_bytes()).decode()
    return (
        f"<h2>Poses</h2><p>Matched by {html.escape(found['how'])}. Deviations are those of the bundle adjustment, relative to the "
        "first camera, in degrees.</p><table><tr><th>photo</th><th>camera</th><th>error (px)</th><th>± rotation</th><th>± direction</th>"
        f'<th>why</th></tr>{rows}</table><p><img alt="matches between all pairs of photos" src="data:image/png;base64,{picture}"></p>'
    )


def _depth_section(scene: SceneFolder) -> str:
    """Photo, depth and confidence of some views; nothing where no depth was looked for."""
    files = sorted((scene.stage_path("02_init") / "pictures").glob("*.jpg"))
    if not files:
        return ""
    facts = scene.facts("02_init")
    figures = "".join(
        f"<figure>{picture(_small(read_image(file).image))}<figcaption>{html.escape(file.stem)}</figcaption></figure>"
        for file in _spread(files, _SHOWN)
    )
    return (
        f"<h2>Depth</h2><p>First Gaussians by {html.escape(facts['initializer'])} ({html.escape(facts['why'])}). Photo, depth (red is near, "
        f"black unknown) and confidence.</p>{figures}{_support_table(facts['support']) if facts['support'] else ''}"
    )


def _drawn_section(scene: SceneFolder) -> str:
    """The views that a prior drew, one after the other beside their confidence, and who drew them; nothing where none did."""
    facts, stage = scene.facts("03_densify"), scene.stage_path("03_densify")
    if not facts:
        return ""
    frames = []
    for view in load_views(stage).views:
        height, width = fitted_size(view.height, view.width, _SIZE)
        small = view.resized(height, width)
        assert small.confidence is not None
        frames.append(beside(small.image, small.confidence.expand(3, -1, -1)))
    made, judged = facts["provenance"], facts["views"]
    left_out = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(of['why_not'])}</td></tr>"
        for name, of in judged.items()
        if not of["kept"]
    )
    film = base64.b64encode(animation_bytes(frames)).decode() if frames else ""
    shown = (
        f'<img alt="drawn views, their confidence to the right" src="data:image/webp;base64,{film}">' if frames else ""
    )
    use = "" if made["commercial"] else " No commercial use."
    return (
        f"<h2>Drawn views</h2><p>{len(frames)} of {len(judged)} views that {html.escape(made['prior'])} drew are kept. Licence: "
        f"{html.escape(made['licence'])}.{use} Seed {made['seed']}. To the right how far each pixel is trusted: little where a photo shows it.</p>"
        f"{shown}{'<table><tr><th>left out</th><th>why</th></tr>' + left_out + '</table>' if left_out else ''}"
    )


def _support_table(support: dict[str, Any]) -> str:
    """How much of each photo another one confirms."""
    percent = lambda share: f"{100 * share:.0f} %"
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{percent(of['twice'])}</td><td>{percent(of['disputed'])}</td><td>{percent(of['once'])}</td>"
        f"<td>{of['weight']:g}</td></tr>"
        for name, of in support["views"].items()
    )
    sentence = html.escape(support["sentence"][0].upper() + support["sentence"][1:])
    return (
        f"<p>{sentence}.</p><table><tr><th>photo</th><th>seen by another too</th><th>others disagree</th><th>seen once</th><th>counts for</th>"
        f"</tr>{rows}</table>"
    )


def _small(image: Tensor) -> Tensor:
    height, width = fitted_size(image.shape[1], image.shape[2], 2 * _SIZE)
    return F.interpolate(image[None], (height, width), mode="area")[0]


def _measured(scores: dict[str, float]) -> str:
    """Scores as text, those of aligned cameras after the others."""
    listed = lambda items: ", ".join(f"{name.removesuffix(ALIGNED).upper()} {value:.3f}" for name, value in items)
    plain = listed((name, value) for name, value in scores.items() if not name.endswith(ALIGNED))
    aligned = listed((name, value) for name, value in scores.items() if name.endswith(ALIGNED))
    return plain + (f"; after each of their cameras was aligned to its photo: {aligned}" if aligned else "")


def _warnings(manifest: dict[str, Any]) -> list[str]:
    return [warning for stage in manifest["stages"].values() for warning in stage["warnings"]]


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many, evenly spread over all."""
    chosen = torch.linspace(0, len(items) - 1, min(count, len(items))).round().long().tolist()
    return [items[i] for i in chosen]


def _camera_plot(posed: PosedViews) -> str:
    """SVG of camera centres, viewing directions and sparse points, seen along the cameras' mean up axis."""
    c2w = torch.stack([view.c2w for view in posed.views])
    up = F.normalize(-c2w[:, :3, 1].mean(dim=0), dim=0)
    forward = c2w[:, :3, 2].mean(dim=0)
    forward = F.normalize(forward - (forward @ up) * up + 1e-9, dim=0)
    flat = torch.stack([torch.linalg.cross(forward, up), -forward], dim=1)  # right, and down the page is nearer
    centres = c2w[:, :3, 3] @ flat
    points = posed.points.xyz[:: max(1, len(posed.points) // 1500)] @ flat
    both = torch.cat([centres, points])
    low, high = (torch.quantile(both, q, dim=0) for q in (0.02, 0.98)) if len(points) else (both.amin(0), both.amax(0))
    low, high = torch.minimum(low, centres.amin(0)), torch.maximum(high, centres.amax(0))
    scale = 380 / float((high - low).max().clamp(min=1e-9))
    place = lambda xy: ((xy - low) * scale + 10).tolist()
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1" fill="#8aa0b4"/>'
        for x, y in map(place, points)
        if 0 < x < 400 and 0 < y < 400
    )
    marks = ""
    for centre, axis in zip(centres, c2w[:, :3, 2] @ flat, strict=True):
        (x, y), (dx, dy) = place(centre), (F.normalize(axis, dim=0) * 14).tolist()
        marks += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#d9480f"/>'
        marks += (
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x + dx:.1f}" y2="{y + dy:.1f}" stroke="#d9480f" stroke-width="2"/>'
        )
    return f'<svg width="400" height="400" viewBox="0 0 400 400" role="img" aria-label="cameras from above">{dots}{marks}</svg>'
