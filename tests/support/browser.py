"""Chromium without a window, drawing WebGL in software: what it is started with, and pictures of its pages."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_FLAGS = (
    "--no-sandbox",  # in a container there is none to be had
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)


def chromium() -> str | None:
    """The program, from SPARSE3D_CHROMIUM or the usual names; None where there is none."""
    names = (os.environ.get("SPARSE3D_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def launch(playwright: Any) -> Any:
    """A browser of Playwright's."""
    return playwright.chromium.launch(executable_path=chromium(), headless=True, args=list(_FLAGS))


def wait_for(page: Any, condition: Callable[[], Any], what: str, timeout_s: float = 90) -> Any:
    """What `condition` gives once it is true, while the page goes on."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {timeout_s:.0f} s still not: {what}"
        page.wait_for_timeout(100)
    return value


def settled_screenshot(page: Any, timeout_s: float = 60, **options: Any) -> Tensor:
    """A picture of the page when two in a row are the same. (3, H, W) in [0, 1]"""
    deadline = time.monotonic() + timeout_s
    before = b""
    while (now := page.screenshot(**options)) != before:
        assert time.monotonic() < deadline, f"the page still changes after {timeout_s:.0f} s"
        before = now
        page.wait_for_timeout(500)
    return picture(now)


def picture(png: bytes) -> Tensor:
    """(3, H, W) in [0, 1]"""
    return torch.from_numpy(np.array(Image.open(BytesIO(png)).convert("RGB"))).movedim(2, 0) / 255
