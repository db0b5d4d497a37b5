"""What to photograph next, in plain words: beside the photos of which the most is seen by no other."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

_MUCH = 0.25  # share of a photo that no other one shows, from which another photo is worth taking
_MOST = 3  # sentences
_STEPS = {
    "left": "from a step to the left",
    "right": "from a step to the right",
    "top": "from a little higher",
    "bottom": "from a little lower",
    "": "from a step to either side",
}


def advice(support: Mapping[str, Any] | None) -> list[str]:
    """Sentences for the photos that see most alone; none where others see it too.

    Args:
        support: Of scene.json, as `init.support.support_facts` gives it; None where no depth was looked for.
    """
    views = (support or {}).get("views", {})
    lonely = sorted((of["once"], name, of.get("side", "")) for name, of in views.items() if of["once"] >= _MUCH)
    sentences = []
    for once, name, side in reversed(lonely[-_MOST:]):
        where = f", mostly at its {side}" if side else ""
        sentences.append(
            f"Take one more photo {_STEPS[side]} of {name}, looking at the same things: {100 * once:.0f} % of it{where}, no other photo shows, so its "
            "depth there is a guess."
        )
    disputed = [name for name, of in views.items() if of.get("weight", 1) < 1]
    if disputed:
        sentences.append(f"Take {', '.join(sorted(disputed))} again: what it shows does not fit the other photos.")
    return sentences


def advice_section(support: Mapping[str, Any] | None) -> str:
    """The sentences as a list; nothing where there are none."""
    found = advice(support)
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in found)
    return f"<h2>What to photograph next</h2><ul>{items}</ul>" if found else ""
