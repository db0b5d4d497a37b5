"""A real browser for tests: Debian's Chromium, headless, WebGL drawn in software."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparse3d.io.images import read_image

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def page(url: str, width: int, height: int) -> Iterator[Any]:
    """A page of that size; errors of its scripts fail the test. Skips where there is no browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed")
    errors: list[str] = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        try:
            opened = browser.new_page(viewport={"width": width, "height": height})
            opened.on("pageerror", lambda error: errors.append(str(error)))
            opened.goto(url)
            yield opened
            assert not errors, errors
        finally:
            browser.close()


def settled(opened: Any, path: Path, seconds: float = 60.0, still: int = 2) -> Tensor:
    """The page's picture once it no longer changes. (3, H, W)"""
    last, same, until = b"", 0, time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1.0)
        now = opened.screenshot()
        same = same + 1 if now == last else 0
        last = now
        if same >= still and float(_spread(now, path)) > 0.02:
            break
    path.write_bytes(last)
    return read_image(path).image


def _spread(picture: bytes, path: Path) -> Tensor:
    path.write_bytes(picture)
    return torch.std(read_image(path).image)
