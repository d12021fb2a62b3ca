"""The pages as people see and use them, in chromium."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.integration.conftest import Start
from tests.support.process import ANY_PORT, DaemonProcess, Environment

pytestmark = pytest.mark.process

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
RAFT = ("10.0.0.1:4002", "10.0.0.2:4002")
GRAVE = ("serious", "critical")
HOSTILE = '"><img/src=x/onerror=document.title="owned">\u202e:1'


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


def test_a_node_that_registers_appears_without_a_reload_in_every_tab(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    tabs = [visit.open(f"/{discovery_id}") for _ in range(2)]
    for page in tabs:
        is_live(page)
    register(daemon, discovery_id, A, node_id="n1", raft_addr="10.0.0.1:4002")
    register(daemon, discovery_id, B)
    for page in tabs:
        expect(rows(page)).to_have_count(2)
        expect(rows(page).first).to_contain_text(A)
        expect(rows(page).first).to_contain_text("bootstrap node")
        expect(page.locator(".picture svg")).to_have_attribute("aria-label", "2 nodes")
        expect(page.locator("#count")).to_have_text("2 nodes")
        expect(page.locator("#announce")).to_contain_text("registered")
    daemon.request(
        "PUT", f"/v1/kv/{discovery_id}/leader", {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    )
    for page in tabs:
        expect(rows(page).first).to_contain_text("leader")
        expect(page.locator(".picture svg")).to_have_attribute("aria-label", f"2 nodes, led by {A}")


def test_a_claim_is_shown_without_its_node(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    claim = {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    page = visit.open(f"/{discovery_id}")
    is_live(page)
    assert daemon.request("PUT", f"/v1/kv/{discovery_id}/leader?cas=0", claim).body == b"true"
    expect(page.locator("#reason")).to_contain_text("a node won the claim to lead", ignore_case=True)
    expect(page.locator("#health")).to_have_text("forming")
    expect(page.get_by_text("A node claimed to lead, and is shown once it reports itself")).to_be_visible()
    lead(daemon, discovery_id, "n1")
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#health")).to_have_text("healthy")


def test_two_leaders_are_an_alarm_on_the_page_without_a_reload(start: Start, tmp_path: Path, visitor: Visitor) -> None:
    daemon = start(tmp_path / "state")
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    page = visit.open(f"/{discovery_id}")
    is_live(page)
    expect(page.locator("#health")).to_have_text("forming")
    for raft_addr in RAFT * 2:
        reported = daemon.request("PUT", f"/v1/kv/{discovery_id}/leader", {"id": raft_addr, "addr": raft_addr})
        assert reported.body == b"true"
    for each in (page, visit.open(f"/{discovery_id}")):
        expect(each.locator("#health")).to_have_text("two leaders")
        for raft_addr in RAFT:
            expect(each.locator("#reason")).to_contain_text(raft_addr)
        check(each)
    expect(page.locator("#announce")).to_contain_text("registered")


def test_the_headline_follows_the_verdict_of_the_daemon(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    shown = {"disco_id": discovery_id, "nodes": [A], "registrations": [{"addr": A}], "warnings": []}
    waiting = {"verdict": "waiting", "reason": "a node waits", "next_step": "run `rqdisco leader clear` now"}
    healthy = {"verdict": "healthy", "reason": "1 of 1 node answers", "next_step": "nothing to do"}
    events = [{**shown, "health": waiting}]
    page = visitor(daemon).open()

    def stream(route: Route) -> None:
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        route.fulfill(content_type="text/event-stream", body=f"retry: 20\n\n{data}")

    page.route("**/events", stream)
    page.goto(f"{page.url}{discovery_id}")
    expect(page.locator("#health")).to_have_text("waiting")
    expect(page.locator("#reason")).to_have_text("A node waits.")
    expect(page.locator("#next code")).to_have_text("rqdisco leader clear")
    events[:] = [{**shown, "health": healthy}]
    expect(page.locator("#health")).to_have_text("healthy")
    expect(page.locator("#next")).to_be_hidden()
    expect(page.locator("#announce")).to_have_text("Health: healthy")


def test_an_event_whose_connection_broke_is_asked_for_again(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    page = visitor(daemon).open()
    event = f"id: current\ndata: {json.dumps(daemon.request('GET', f'/{discovery_id}').document)}\n\n"
    asked: list[Any] = []

    def stream(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        sent = "" if asked[-1] == "current" else event[:40] if len(asked) == 1 else event
        route.fulfill(content_type="text/event-stream", body=f"retry: 20\n\n{sent}")

    page.route("**/events", stream)
    page.goto(f"{page.url}{discovery_id}")
    for _ in range(500):
        if len(asked) < 3:
            page.wait_for_timeout(20)
    assert asked[:3] == [None, None, "current"]


def test_a_page_that_may_not_be_followed_any_more_says_so(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    page = visitor(daemon).open()
    page.route("**/events", lambda route: route.fulfill(status=404, body="{}"))
    page.goto(f"{page.url}{discovery_id}")
    expect(page.locator("#live")).to_have_text("Not live: the service refuses to stream this ID")


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


def test_an_address_that_will_not_work_is_marked_with_the_fix_without_a_reload(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    register(daemon, discovery_id, "10.0.0.1")
    expect(rows(page).locator(".mark-note")).to_contain_text("10.0.0.1 has no port.")
    expect(rows(page).locator(".mark-note code")).to_have_text(f"rqdisco remove {discovery_id} 10.0.0.1")


def test_a_command_is_copied_with_the_address_of_its_machine(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    page = visit.open(f"/{discovery_id}")
    choose(page, "4.0 to 6.10", "Node 2")
    (button,) = page.locator(".recipe button:visible").all()
    expected = (
        "rqlited -http-addr=NODE2_IP:4001 -raft-addr=NODE2_IP:4002 \\\n"
        f"    -disco-url={visit.base} \\\n    -disco-id={discovery_id} \\\n    rqlite-data"
    )
    for address in ("NODE2_IP", "10.0.0.2"):
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == expected.replace("NODE2_IP", address)
        page.get_by_label("Address of this machine").fill("10.0.0.2")
    choose(page, "Node 1")
    expect(page.locator(".recipe:visible pre")).to_contain_text("NODE1_IP")
    expect(page.get_by_label("Address of this machine")).to_have_value("")
    page.locator("[data-copy=the-id]").click()
    page.wait_for_function("id => navigator.clipboard.readText().then(text => text === id)", arg=discovery_id)


def test_commands_follow_the_address_that_nodes_use(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open(f"/{daemon.create_id()}")
    page.get_by_label("Nodes reach this service at").fill("https://disco.example")
    page.get_by_role("button", name="Use").click()
    expect(page.locator(".recipe:visible pre")).to_contain_text('{"address":"disco.example:443","scheme":"https"}')


def test_removing_asks_first_and_warns_of_the_last_node(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    page.get_by_role("button", name=f"Remove {B}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Remove {B}?")
    expect(dialog.get_by_text("This is the last node")).to_be_hidden()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    assert daemon.nodes(discovery_id) == [A, B]
    page.get_by_role("button", name=f"Remove {B}").click()
    dialog.get_by_role("button", name="Remove the node").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name=f"Remove {A}").press("Enter")
    expect(dialog.get_by_text("This is the last node")).to_be_visible()
    dialog.get_by_role("button", name="Remove the node").press("Enter")
    expect(page.get_by_text("No node has registered yet")).to_be_visible()
    assert daemon.nodes(discovery_id) == []


def test_the_answer_to_one_removal_does_not_end_the_question_about_another(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    page, late = visitor(daemon).open(f"/{discovery_id}"), list[Route]()
    is_live(page)

    def hold(route: Route) -> None:
        late.append(route)

    page.route(page.url, hold)
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name=f"Remove {A}").click()
    dialog.get_by_role("button", name="Remove the node").click()
    expect(dialog.get_by_role("button", name="Remove the node")).to_be_disabled()
    dialog.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name=f"Remove {B}").click()
    late.pop().continue_()
    expect(rows(page)).to_have_count(1)
    expect(dialog).to_contain_text(f"Remove {B}?")
    dialog.get_by_role("button", name="Remove the node").click()
    late.pop().fulfill(status=503, body='{"error": "out of order"}')
    expect(dialog).to_contain_text("out of order")


def test_a_page_follows_a_daemon_through_its_restart(installed: Environment, tmp_path: Path, visitor: Visitor) -> None:
    def run(listen: str) -> DaemonProcess:
        return installed.start(*installed.twistd(tmp_path / "state", listen=listen))

    first = run(ANY_PORT)
    discovery_id = first.create_id()
    page = visitor(first).open(f"/{discovery_id}")
    is_live(page)
    first.terminate()
    assert not [event for event in first.events if event.get("level") == "warn"], "nobody had to be cut off"
    expect(page.locator("#live")).to_have_text("Reconnecting…")
    second = run(f"tcp:{first.port}:interface=127.0.0.1")
    try:
        register(second, discovery_id, A)
        expect(rows(page)).to_have_count(1)
        is_live(page)
    finally:
        second.kill()


def test_a_hostile_address_is_shown_as_text(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    register(daemon, discovery_id, HOSTILE, node_id=HOSTILE, raft_addr=HOSTILE)
    for late in (False, True):
        page = visit.open(f"/{discovery_id}")
        is_live(page)
        if late:
            register(daemon, discovery_id, HOSTILE + "2", node_id=HOSTILE + "2")
        expect(rows(page)).to_have_count(1 + late)
        shown = HOSTILE.replace("\u202e", "\\u{202e}")
        expect(rows(page).first.locator("bdi").first).to_have_text(shown)
        page.locator("[data-remove]").first.click()
        expect(page.get_by_role("dialog")).to_contain_text(shown)
        assert page.locator("main img").count() == 0
        assert "owned" not in page.title()


def test_an_id_of_a_thousand_nodes_stays_usable(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    connection = daemon.connect()
    for number in range(1000):
        connection.request("POST", f"/{discovery_id}", f'{{"addr": "10.0.{number // 250}.{number % 250}:4001"}}')
        connection.getresponse().read()
    connection.close()
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    expect(rows(page)).to_have_count(200)
    expect(page.locator(".picture .dot")).to_have_count(1000)
    page.get_by_label("Find a node").fill("10.0.3.249")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Find a node").fill("")
    page.get_by_role("button", name="Show all 1,000 nodes").click()
    expect(rows(page)).to_have_count(1000)
    daemon.request("DELETE", f"/{discovery_id}", {"addr": "10.0.2.100:4001"})
    expect(rows(page)).to_have_count(999)


@pytest.mark.parametrize("width", [390, 700, 1200])
@pytest.mark.parametrize("count", [2, 3, 6, 7, 12])
def test_no_line_of_the_picture_crosses_a_name_or_an_address(
    daemon: DaemonProcess, visitor: Visitor, count: int, width: int
) -> None:
    discovery_id = daemon.create_id()
    for number in range(1, count + 1):
        host = f"10.0.0.{number}"
        register(daemon, discovery_id, f"{host}:4001", raft_addr=f"{host}:4002", node_id=f"database-{number}")
    lead(daemon, discovery_id, "database-1")
    page = visitor(daemon, size=(width, 800)).open(f"/{discovery_id}")
    is_live(page)
    crossed = page.evaluate(
        """() => {
            const texts = [...document.querySelectorAll(".picture .name, .picture .under")];
            const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
            const frame = document.querySelector(".picture").getBoundingClientRect();
            const outside = boxes.filter(([, box]) => box.left < frame.left || box.right > frame.right);
            const found = [];
            for (const line of document.querySelectorAll(".picture line")) {
                const matrix = line.getScreenCTM();
                const at = (x, y) => new DOMPoint(x, y).matrixTransform(matrix);
                const [a, b] = [1, 2].map((end) => at(line[`x${end}`].baseVal.value, line[`y${end}`].baseVal.value));
                for (let part = 0; part <= 1; part += 0.005) {
                    const [x, y] = [a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part];
                    for (const [text, box] of boxes)
                        if (x > box.left && x < box.right && y > box.top && y < box.bottom) found.push(text);
                }
            }
            return [[...new Set(found)], outside.map(([text]) => text), boxes.length];
        }"""
    )
    assert crossed[:2] == [[], []]
    is_map = count > (6 if width < 720 else 12)
    assert crossed[2] == (0 if is_map else 2 * count)


def test_dots_of_a_map_have_labels_on_hover_and_focus_and_lead_to_their_rows(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    for number in range(1, 31):
        register(daemon, discovery_id, f"10.0.0.{number}:4001")
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    tip, dots = page.locator(".tip"), page.locator(".picture .dot")
    expect(tip).to_be_hidden()
    dots.nth(4).hover()
    expect(tip).to_have_text("10.0.0.5:4001")
    dots.first.focus()
    expect(tip).to_have_text("10.0.0.1:4001, bootstrap node")
    page.keyboard.press("ArrowRight")
    expect(dots.nth(1)).to_be_focused()
    expect(tip).to_have_text("10.0.0.2:4001")
    page.keyboard.press("End")
    expect(tip).to_have_text("10.0.0.30:4001")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove 10.0.0.30:4001")).to_be_focused()
    expect(page.locator(".legend li:visible")).to_have_count(1)
    expect(page.locator(".legend")).to_contain_text("bootstrap node: registered first")


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
SHOTS = [("light", "wide", WIDE), ("light", "narrow", NARROW), ("dark", "wide", WIDE), ("dark", "narrow", NARROW)]


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


def check(page: Page) -> None:
    """Assert that axe-core finds no barrier, and that nothing has to be scrolled sideways."""
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], [node["html"] for node in each["nodes"]]) for each in found if each["impact"] in GRAVE]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
