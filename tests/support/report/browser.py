"""A headless Chromium, the one that Debian has: pages as people see them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
Scheme = Literal["light", "dark"]


def need_chromium() -> None:
    """Skip the test where no Chromium is installed; on CI it must be there."""
    if PROGRAM is None:
        assert "CI" not in os.environ, "chromium is not installed: apt-get install chromium"
        pytest.skip("chromium is not installed: apt-get install chromium")


@dataclass
class Seen:
    """A page in the browser, what it complained about, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def asks(self, script: str) -> Any:
        """The value of a script."""
        return self.page.evaluate(script)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, without a window; its sandbox needs rights that root in a container does not have."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            chromium.close()


def opened(chromium: Any, file: Path, width: int = 1440, scheme: Scheme = "light") -> Seen:
    """A page from the disk."""
    seen = Seen(chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("dialog", lambda dialog: (seen.complaints.append(dialog.message), dialog.dismiss()))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.goto(file.as_uri())
    return seen
