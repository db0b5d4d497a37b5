"""A browser for all tests of this folder; they are skipped where there is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium, launch
from torch import Tensor

from sparse3d.io.images import write_image


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if chromium() is None:
        pytest.skip("needs a Chromium: apt install chromium, or name one in SPARSE3D_CHROMIUM")
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        opened = launch(playwright)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page; an error in its script fails the test."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 480, "height": 320}, accept_downloads=True)
    opened = context.new_page()
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors, errors


@pytest.fixture
def keep(request: pytest.FixtureRequest, tmp_path: Path):
    """Saves a picture to look at: in SPARSE3D_SCREENSHOTS if that is set, else in the test's own folder."""

    def save(name: str, image: Tensor) -> None:
        folder = Path(os.environ.get("SPARSE3D_SCREENSHOTS") or tmp_path)
        write_image(folder / f"{request.node.name}_{name}.png".replace("/", "_"), image)

    return save
