"""Loss over steps and seconds of the stages, as SVG."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 560, 180, 60, 24


def loss_section(stage: Path) -> str:
    """The curve of an optimization, its scale logarithmic; nothing where none was recorded."""
    file = stage / "losses.json"
    if not file.is_file():
        return ""
    losses = [(int(step), float(loss)) for step, loss in json.loads(file.read_text(encoding="utf-8"))]
    losses = [(step, loss) for step, loss in losses if math.isfinite(loss) and loss > 0]
    if len(losses) < 2:
        return ""
    smooth = _smoothed([loss for _, loss in losses])
    low, high = math.log10(min(smooth)), math.log10(max(loss for _, loss in losses))
    span, last = max(high - low, 1e-6), losses[-1][0]
    at = lambda step, loss: (
        _LEFT + (_WIDTH - _LEFT - 8) * step / last,
        8 + (_HEIGHT - _BOTTOM - 8) * (high - math.log10(loss)) / span,
    )
    line = lambda values: " ".join(
        f"{x:.1f},{y:.1f}" for x, y in (at(s, v) for (s, _), v in zip(losses, values, strict=True))
    )
    raw = line([max(loss, min(smooth)) for _, loss in losses])
    ticks = "".join(
        f'<text x="{_LEFT - 6}" y="{at(0, value)[1] + 4:.0f}" text-anchor="end">{value:.2g}</text>'
        for value in (max(loss for _, loss in losses), min(smooth))
    )
    return (
        f'<h2>Loss</h2><svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="loss over steps">'
        f'<polyline points="{raw}" class="faint"/><polyline points="{line(smooth)}"/>{ticks}'
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">0</text><text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{last} steps</text></svg>'
    )


def time_section(seconds: Mapping[str, float]) -> str:
    """A bar for each stage."""
    most = max([*seconds.values(), 1e-9])
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td><div class="bar-time" style="width:{max(1, round(320 * value / most))}px"></div></td>'
        f"<td>{value:.1f} s</td></tr>"
        for name, value in seconds.items()
    )
    return f"<h2>Time</h2><table>{rows}<tr><td>all</td><td></td><td>{sum(seconds.values()):.1f} s</td></tr></table>"


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running geometric mean over at most eleven, a quarter of them where there are few."""
    reach = min(5, len(values) // 8)
    logs = [math.log(value) for value in values]
    windows = [logs[max(0, i - reach) : i + reach + 1] for i in range(len(logs))]
    return [math.exp(sum(window) / len(window)) for window in windows]
