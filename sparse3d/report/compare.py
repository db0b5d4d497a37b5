"""A render laid over its photo, with a slider between them, in plain HTML: no script but one line, nothing from elsewhere."""

from __future__ import annotations

import base64
import html

from torch import Tensor

from sparse3d.io.images import jpeg_bytes

STYLE = """
.ab{position:relative;display:inline-block;--at:50%;line-height:0}.ab img{display:block}
.ab .over{position:absolute;inset:0;clip-path:inset(0 0 0 var(--at))}
.ab .bar{position:absolute;top:0;bottom:0;left:var(--at);width:2px;margin-left:-1px;background:#fff;box-shadow:0 0 3px #000;pointer-events:none}
.ab input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:ew-resize}
.ab input:focus-visible~.bar{width:4px;background:#ffd43b}
"""


def compared(render: Tensor, photo: Tensor, label: str) -> str:
    """The render to the left of the slider, the photo to its right; arrow keys move it too. (3, H, W) twice"""
    return (
        f'<div class="ab">{picture(render, "render")}{picture(photo, "photo", "over")}<input type="range" min="0" max="100" value="50" '
        f"aria-label=\"render or photo of {html.escape(label, quote=True)}\" oninput=\"this.parentNode.style.setProperty('--at',this.value+'%')\">"
        '<span class="bar"></span></div>'
    )


def picture(image: Tensor, alt: str = "", kind: str = "") -> str:
    """An image element that holds its JPEG. (3, H, W)"""
    data = base64.b64encode(jpeg_bytes(image)).decode()
    named = f' class="{kind}"' if kind else ""
    return f'<img alt="{alt}"{named} width="{image.shape[2]}" height="{image.shape[1]}" src="data:image/jpeg;base64,{data}">'
