"""A real browser for the pages: Debian's Chromium, driven by Playwright. Without it these tests skip, and say so."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from fetalflex.web.serve import bind


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A user's window. Any error that the page's own scripts throw, or a refused file, fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    # A busy machine is no verdict; what is expected has a limit of its own, five seconds by default.
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    yield watched(context.new_page())
    context.close()


def watched(page: Page) -> Page:
    page.on("pageerror", lambda error: pytest.fail(f"the page threw {error}"))
    return page


@pytest.fixture
def shots(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Take named screenshots; they are kept where FETALFLEX_SCREENSHOTS names a folder."""
    folder = Path(os.environ.get("FETALFLEX_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        page.screenshot(path=folder / f"{name}.png")

    return take


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an app on a free port of loopback; yield its address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
