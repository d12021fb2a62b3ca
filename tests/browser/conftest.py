"""A real browser against the real daemon, installed from a wheel."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.integration.conftest import Start, installed_environment, shared_daemon, start_daemons  # noqa: F401, fixtures
from tests.support.process import PATIENCE, DaemonProcess

CHROMIUM = shutil.which("chromium")
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
WIDE, NARROW = (1200, 800), (390, 844)

Open = Callable[..., Page]
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's chromium, without its own background requests to the network.

    It is gone before other tests begin: while it runs, playwright has an asyncio event loop running
    in this thread.
    """
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield running
        running.close()


class Visit:
    """One visitor: a separate profile, and all complaints of the browser."""

    def __init__(self, context: BrowserContext, base: str) -> None:
        self.context = context
        self.base = base
        self.complaints: list[str] = []
        self.asked: set[str] = set()

    def open(self, path: str = "/") -> Page:
        """Open a new tab."""
        page = self.context.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", self._log_error)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add(re.sub(r"(\w+://[^/]*).*", r"\1", request.url)))
        page.goto(self.base + path)
        return page

    def _log_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


Visitor = Callable[..., Visit]


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Makes visitors of a daemon. None may have sent a request to another host, nor have violated
    the page's policy.
    """
    visits = []
    with ExitStack() as stack:

        def visit(
            daemon: DaemonProcess, scheme: Scheme = "light", size: tuple[int, int] = WIDE, **options: Any
        ) -> Visit:
            width, height = size
            context = browser.new_context(
                color_scheme=scheme,
                viewport={"width": width, "height": height},
                **options,
            )
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            stack.callback(context.close)
            visits.append(Visit(context, f"http://127.0.0.1:{daemon.port}"))
            return visits[-1]

        yield visit
    for each in visits:
        assert each.asked <= {each.base}
        assert not [text for text in each.complaints if "Failed to load resource" not in text]


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """The directory for screenshots, if they are requested."""
    where = request.config.getoption("--screenshots")
    return None if where is None else Path(where)


@pytest.fixture
def daemon(shared_daemon: DaemonProcess) -> Iterator[DaemonProcess]:  # noqa: F811, the fixture
    """The module's daemon, which must be well after the test too."""
    yield shared_daemon
    assert shared_daemon.complaints == []
    assert shared_daemon.stderr == ""


__all__ = ["Start"]
