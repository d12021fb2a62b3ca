"""Pages of peer daemons, viewed at any of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visitor
from tests.browser.steps import SHOTS, check, is_live, register, rows
from tests.integration.conftest import Start
from tests.support.process import Environment
from tests.support.trio import Trio

pytestmark = pytest.mark.process

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


@pytest.fixture
def trio(start: Start, tmp_path: Path) -> Iterator[Trio]:
    made = Trio(start, tmp_path)
    yield made
    assert made.complaints == []


def test_a_page_also_changes_at_a_daemon_that_is_not_the_owner(trio: Trio, visitor: Visitor) -> None:
    discovery_id = trio.daemons["a"].create_id()
    page = visitor(trio.daemons["b"]).open(f"/{discovery_id}")
    is_live(page)
    register(trio.daemons["a"], discovery_id, A)
    expect(rows(page)).to_have_count(1)
    register(trio.daemons["c"], discovery_id, B)
    expect(rows(page)).to_have_count(2)
    expect(rows(page).first).to_contain_text("bootstrap node")


def test_a_page_reports_that_the_owner_is_away_and_still_lists(trio: Trio, visitor: Visitor) -> None:
    discovery_id = trio.daemons["a"].create_id()
    register(trio.daemons["a"], discovery_id, A)
    visit = visitor(trio.daemons["b"])
    expect(rows(visit.open(f"/{discovery_id}"))).to_have_count(1)
    before = len(trio.daemons["b"].events)
    trio.daemons["a"].kill()
    trio.daemons["b"].wait_for("peers do not agree, or one is unreachable", since=before)
    expect(visit.open().locator(".peers [data-state=silent]")).to_contain_text("a unreachable")
    expect(rows(visit.open(f"/{discovery_id}"))).to_have_count(1)


@pytest.mark.parametrize(("scheme", "name", "size"), SHOTS)
def test_the_operators_page_shows_peers_and_changes_and_axe_finds_nothing_serious(
    installed: Environment,
    start: Start,
    tmp_path: Path,
    visitor: Visitor,
    scheme: str,
    name: str,
    size: tuple[int, int],
    screenshots: Path | None,
) -> None:
    made = installed.run("rqdisco", "token", "new", "ops", "--scope=admin", f"--file={tmp_path / 'tokens'}")
    trio = Trio(start, tmp_path, f"--tokens={tmp_path / 'tokens'}")
    daemon, token = trio.daemons["a"], made.stdout.strip()
    page = visitor(daemon, scheme, size).open("/status")
    check(page)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Continue").click()
    is_live(page)
    for number in range(1, 4):
        _register(page, f"10.0.0.{number}:4001")
    page.reload()
    is_live(page)
    expect(page.get_by_role("cell", name="node registered")).to_have_count(3)
    expect(page.locator(".graph svg text").get_by_text("up to date")).to_have_count(2)
    check(page)
    if screenshots is not None:
        page.screenshot(path=screenshots / f"status-{scheme}-{name}.png", full_page=True, animations="disabled")
    for text in ("orders", "users", "sessions"):
        _create(page, text)
    page.get_by_role("link", name="Clusters").click()
    expect(page.locator("tbody tr")).to_have_count(4)
    check(page)
    if screenshots is not None:
        page.screenshot(path=screenshots / f"clusters-{scheme}-{name}.png", full_page=True, animations="disabled")
    assert daemon.complaints == []


def test_peers_are_shown_to_admins_only_where_there_are_tokens(
    installed: Environment, start: Start, tmp_path: Path, visitor: Visitor
) -> None:
    tokens = {}
    for scope in ("admin", "read"):
        made = installed.run("rqdisco", "token", "new", scope, f"--scope={scope}", f"--file={tmp_path / 'tokens'}")
        tokens[scope] = made.stdout.strip()
    trio = Trio(start, tmp_path, f"--tokens={tmp_path / 'tokens'}")
    for scope, count in (("admin", 3), ("read", 0)):
        page = visitor(trio.daemons["a"]).open()
        page.get_by_label("Token").fill(tokens[scope])
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("heading", name="This service")).to_be_visible()
        expect(page.locator(".peers li")).to_have_count(count)


def _register(page: Page, addr: str) -> None:
    """Register under an ID that is created if need be, with the token of the tab."""
    page.evaluate(
        """async (addr) => {
            const headers = {Authorization: `Bearer ${sessionStorage.getItem("rqdisco-token")}`};
            window.created ??= (await (await fetch("/", {method: "POST", headers})).json()).disco_id;
            await fetch("/" + window.created, {method: "POST", headers, body: JSON.stringify({addr})});
        }""",
        addr,
    )


def _create(page: Page, name: str) -> None:
    """Create a named ID with the token of the tab."""
    page.evaluate(
        """async (name) => {
            const headers = {Authorization: `Bearer ${sessionStorage.getItem("rqdisco-token")}`};
            await fetch("/" + name, {method: "PUT", headers});
        }""",
        name,
    )
