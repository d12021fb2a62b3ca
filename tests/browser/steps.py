"""Steps of the tests in a browser: what nodes do, and what a visitor looks at."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE
from tests.support.process import DaemonProcess

A, B = "10.0.0.1:4001", "10.0.0.2:4001"
GRAVE = ("serious", "critical")


def register(daemon: DaemonProcess, discovery_id: str, addr: str, **known: str) -> None:
    assert daemon.request("POST", f"/{discovery_id}", {"addr": addr, **known}).status == 200


def lead(daemon: DaemonProcess, discovery_id: str, node_id: str) -> None:
    leader = {"id": node_id, "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    assert daemon.request("PUT", f"/v1/kv/{discovery_id}/leader", leader).body == b"true"


def rows(page: Page) -> Any:
    return page.locator(".nodes tbody tr")


def choose(page: Page, *labels: str) -> None:
    for label in labels:
        page.locator(".choices label", has_text=label).click()


def is_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_text("Live")


SHOTS = [("light", "wide", WIDE), ("light", "narrow", NARROW), ("dark", "wide", WIDE), ("dark", "narrow", NARROW)]


def check(page: Page) -> None:
    """Assert that axe-core finds no barrier, and that nothing has to be scrolled sideways."""
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found if each["impact"] in GRAVE]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
