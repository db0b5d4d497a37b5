"""The section on a scene of one photo: who told its depth, how far to go, what is invented."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any


def single_section(lift: Mapping[str, Any] | None) -> str:
    """Of `lift` in scene.json; nothing for scenes of more photos."""
    if not lift:
        return ""
    kind = (
        "Approximate: a stage set by the picture's geometry, right in order and not in measure."
        if lift["approximate"]
        else ""
    )
    scale = "in metres" if lift["metric"] else "without a scale of its own: the photo's median depth counts as 1"
    unit = " m" if lift["metric"] else " of the median depth"
    rows = (
        ("Depth", f"{lift['depth']} (licence: {lift['licence']}), {scale}"),
        ("Focal length", str(lift["intrinsics"])),
        ("Move up to", f"{lift['radius']:.2g}{unit}"),
        ("Invented", f"{100 * lift['invented']:.0f} % of a picture from there is not in the photo"),
    )
    table = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
    warning = f'<p class="warning">{html.escape(kind)}</p>' if kind else ""
    return f"<h2>One photo</h2>{warning}<table>{table}</table>"
