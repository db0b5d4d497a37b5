"""Manifests of scenes that older versions wrote, brought to the present format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]


def _to_2(manifest: Manifest) -> Manifest:
    """Format 1 could hold settings that exist no longer, at which reading them would stop."""
    gone = {"pose": ("init_inliers",), "init": ("min_score",)}
    settings = {
        section: {name: value for name, value in values.items() if name not in gone.get(section, ())}
        if isinstance(values, dict)
        else values
        for section, values in manifest.get("settings", {}).items()
    }
    if "pose" in settings and settings["pose"].get("network_weights", "") is None:
        settings["pose"]["network_weights"] = ""
    return manifest | ({"settings": settings} if "settings" in manifest else {})


_STEPS: dict[int, Callable[[Manifest], Manifest]] = {1: _to_2}  # from this format to the next
FORMAT = 1 + max(_STEPS)  # raised, with a step here, when what scene.json says has to be read differently


def migrated(manifest: Manifest) -> Manifest:
    """The manifest in the present format; the stages' own files are redone by their keys where they are out of date.

    Raises:
        ValueError: a format that never was, or settings that are not an object.
    """
    version = int(manifest["format"])
    if version < 1 or not isinstance(manifest.get("settings", {}), dict):
        raise ValueError(f"format {version}")
    while version < FORMAT:
        manifest = _STEPS[version](manifest)
        version += 1
    return manifest | {"format": version}
