"""The pages as people see and use them, in chromium."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.steps import SHOTS, A, check, choose, is_live, lead, register, rows
from tests.integration.conftest import Start
from tests.support.process import DaemonProcess, Environment

pytestmark = pytest.mark.process


def test_the_button_creates_an_id_and_shows_its_page(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open()
    page.get_by_role("button", name="Create a discovery ID").click()
    page.wait_for_url(re.compile(r"/[0-9a-f-]{36}$"))
    discovery_id = page.url.rpartition("/")[2]
    expect(page.get_by_role("heading", level=1)).to_have_text(discovery_id)
    expect(page.get_by_text("No node has registered yet")).to_be_visible()
    expect(page.get_by_role("heading", level=2).first).to_have_text("Step 1: run this on each machine")
    expect(page.get_by_text("Only this machine can reach the daemon.")).to_be_visible()
    assert daemon.nodes(discovery_id) == []


def test_a_name_is_created_and_one_that_exists_is_refused_with_the_reason(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    visit = visitor(daemon)
    page = visit.open()
    page.get_by_label("Name (optional)").fill(" orders ")
    page.get_by_role("button", name="Create a discovery ID").click()
    page.wait_for_url("**/orders")
    expect(page.get_by_role("heading", level=1)).to_have_text("orders")
    page = visit.open()
    page.get_by_label("Name (optional)").fill("orders")
    page.get_by_role("button", name="Create a discovery ID").click()
    expect(page.get_by_role("alert")).to_have_text("orders exists already")


def test_the_field_opens_an_id_by_name_or_by_an_address_that_has_it(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    pasted = (f" {visit.base}/{discovery_id}", f"{visit.base}/{discovery_id}/events", f"/v1/kv/{discovery_id}/leader")
    for typed in (discovery_id, *pasted):
        page = visit.open()
        page.get_by_label("Discovery ID").fill(typed)
        page.get_by_role("button", name="Open").click()
        page.wait_for_url(f"**/{discovery_id}")


def test_text_without_an_id_in_the_field_is_said_to_have_none(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open()
    page.get_by_label("Discovery ID").fill("my cluster")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert").first).to_have_text("There is no discovery ID in “my cluster”.")


def test_an_id_that_is_not_found_is_created_on_its_page(daemon: DaemonProcess, visitor: Visitor) -> None:
    visit = visitor(daemon)
    page = visit.open("/not-there")
    expect(page.get_by_role("heading", level=1)).to_have_text("not-there")
    expect(page.get_by_label("Search")).to_have_value("not-there")
    page.get_by_role("button", name="Create not-there").click()
    expect(page.locator("#health")).to_have_text("forming")
    assert daemon.nodes("not-there") == []


def test_without_its_script_a_page_can_be_read(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A, node_id="n1")
    visit = visitor(daemon, java_script_enabled=False)
    page = visit.open()
    page.get_by_label("Discovery ID").fill(discovery_id)
    page.get_by_role("button", name="Open").click()
    expect(rows(page)).to_contain_text([A])
    expect(page.locator(".recipe:visible")).to_have_count(1)
    choose(page, "systemd")
    expect(page.locator(".recipe:visible pre")).to_contain_text("[Service]")
    choose(page, "Kubernetes")
    expect(page.locator(".recipe:visible pre")).to_contain_text("args:")
    expect(page.locator(".picture")).to_be_hidden()
    for name, heading in (("Clusters", "Clusters"), ("Status", "Status"), ("API", "API"), ("Docs", "Docs")):
        page.get_by_role("link", name=name, exact=True).first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text(heading)


class TestTokens:
    """A daemon that requires tokens."""

    @pytest.fixture
    def guarded(self, installed: Environment, start: Start, tmp_path: Path) -> tuple[DaemonProcess, str]:
        made = installed.run("rqdisco", "token", "new", "ops", "--scope=admin", f"--file={tmp_path / 'tokens'}")
        return start(tmp_path / "state", f"--tokens={tmp_path / 'tokens'}"), made.stdout.strip()

    def test_a_token_is_asked_for_and_stored_for_the_tab_only(
        self, guarded: tuple[DaemonProcess, str], visitor: Visitor
    ) -> None:
        daemon, token = guarded
        visit = visitor(daemon)
        page = visit.open()
        page.get_by_label("Token").fill("rqd_wrong")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("Unknown token.")).to_be_visible()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Create a discovery ID").click()
        page.wait_for_url(re.compile(r"/[0-9a-f-]{36}$"))
        is_live(page)
        expect(page.locator(".recipe:visible pre")).to_contain_text("TOKEN")
        assert token not in page.content()
        page.get_by_role("link", name="Status").click()
        expect(page.get_by_role("cell", name="ID created")).to_be_visible()
        other = visit.open()
        expect(other.get_by_label("Token")).to_be_visible()
        page.get_by_role("button", name="Forget the token").click()
        expect(page.get_by_label("Token")).to_be_visible()


@pytest.fixture
def foreign() -> Iterator[str]:
    """Another site, which would have its visitors' browsers create IDs and remove nodes."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!DOCTYPE html><title>foreign</title><body></body>"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_foreign_page_can_do_nothing_through_a_visitors_browser(
    installed: Environment, start: Start, tmp_path: Path, browser: Any, foreign: str
) -> None:
    daemon = start(tmp_path / "state")
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    base = f"http://127.0.0.1:{daemon.port}"
    page = browser.new_page()
    page.goto(foreign)
    attempted = page.evaluate(
        """async ([base, id]) => {
            const ask = (path, options) => fetch(base + path, {mode: "no-cors", ...options}).then(() => 1, () => 0);
            const body = JSON.stringify({addr: "10.6.6.6:1"});
            const tried = [
                await ask("/", {method: "POST"}),
                await ask("/" + id, {method: "POST", body}),
                await ask("/" + id, {method: "DELETE", mode: "cors", body}),
                await ask("/v1/kv/mine/leader", {method: "PUT", mode: "cors", body}),
            ];
            const read = await fetch(base + "/" + id).then(() => "read", () => "kept from it");
            const form = document.createElement("form");
            Object.assign(form, {method: "post", action: base + "/", target: "_self"});
            document.body.append(form);
            const frame = document.createElement("iframe");
            frame.src = base + "/";
            document.body.append(frame);
            return [tried, read];
        }""",
        [base, discovery_id],
    )
    assert attempted[1] == "kept from it"
    with page.expect_navigation():
        page.evaluate("document.querySelector('form').submit()")
    expect(page.locator("body")).to_contain_text("another site's page may not do this")
    assert daemon.request("GET", "/").document["ids"] == 1
    assert daemon.nodes(discovery_id) == [A]
    page.close()


# The pages of which there are pictures.
SHOWN = ("home", "cluster", "many", "empty", "unknown")


@pytest.mark.parametrize(("scheme", "name", "size"), SHOTS)
def test_axe_finds_nothing_serious_on_any_page(
    daemon: DaemonProcess, visitor: Visitor, scheme: str, name: str, size: tuple[int, int], screenshots: Path | None
) -> None:
    discovery_id, many = daemon.create_id(), daemon.create_id()
    for number in range(1, 31):
        host = f"10.0.0.{number}"
        for each in (discovery_id, many)[number > 5 :]:
            register(daemon, each, f"{host}:4001", raft_addr=f"{host}:4002", node_id=f"db-{number}")
    lead(daemon, discovery_id, "db-1")
    visit = visitor(daemon, scheme, size)
    paths = {"home": "/", "cluster": f"/{discovery_id}", "many": f"/{many}", "empty": f"/{daemon.create_id()}"}
    others = {"status": "/status", "unknown": "/ordres", "problem": "/a/b", "help": "/help", "api": "/help/api"}
    for what, path in {**paths, **others, "clusters": "/clusters"}.items():
        page = visit.open(path)
        if page.locator("#live").count():
            is_live(page)
        if what == "cluster":
            expect(page.locator(".picture .new")).to_have_count(0)
        check(page)
        if screenshots is not None and what in SHOWN:
            screenshots.mkdir(parents=True, exist_ok=True)
            picture = screenshots / f"{what}-{scheme}-{name}.png"
            page.screenshot(path=picture, full_page=what != "many", animations="disabled")
        if what == "cluster":
            page.get_by_role("button", name="Remove 10.0.0.2:4001").click()
            check(page)
        page.close()


def test_the_status_page_says_that_a_daemon_hangs(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open()
    page.clock.install()
    page.goto(f"{page.url}status")
    is_live(page)
    page.route("**/status", lambda route: None)
    for _ in range(2):
        page.clock.run_for(10_000)
    expect(page.locator("#live")).to_have_text("Unreachable")


def test_a_change_that_a_daemon_never_answers_is_given_up(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open()
    page.clock.install()
    page.reload()
    page.route(page.url, lambda route: None)
    page.get_by_role("button", name="Create a discovery ID").click()
    page.clock.run_for(20_000)
    expect(page.get_by_text("The service is unreachable.")).to_be_visible()
    expect(page.get_by_role("button", name="Create a discovery ID")).to_be_enabled()
